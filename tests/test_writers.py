"""Several processes load into one home at once, and one is read while it is written: every row is accounted for."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from pipelines.loading import Loader, Sources
from tests.homes import MAP_HEADER, SECRET, Place, assert_balanced, map_row, users_file
from warehouse.home import Home
from warehouse.log import READING, Log, loaded
from warehouse.publish import connect, publish
from warehouse.vault import derived_keys

FILES, WRITERS = 40, 4
STUDENTS = [str(number) for number in range(101, 121)]
DISTRICTS = ("d1", "d2", "d3", "d4")


def file_of(number: int) -> str:
    """A test of each student, of which every other file corrects those of the file before; two rows are not tests."""
    rows = [map_row(each, 180 + number % 7, test=f"t{number // 2}-{each}") for each in STUDENTS]
    return "\n".join((MAP_HEADER, *rows, map_row("1", "high", test=f"x{number}"), "damaged")) + "\n"


def land(root: Path) -> Home:
    """Districts with a roster and their share of the files; the order of their days is that of their numbers."""
    for district in DISTRICTS:
        place = Place(root, district=district)
        place.land("2025-08-01/users.csv", users_file(*STUDENTS))
        for number in range(FILES // len(DISTRICTS)):
            place.land(f"2025-09-{number + 1:02d}/map.csv", file_of(number))
    return place.home


def write(home: Home, first: int = 0) -> None:
    """Load every district, beginning with one of them: writers meet in one district, and are in several at once."""
    loader = Loader(home, Sources(keys=derived_keys(SECRET), secret=SECRET))
    for district in (*DISTRICTS[first:], *DISTRICTS[:first]):
        loader.load(district)


def facts(home: Home) -> pl.DataFrame:
    """Events that readers see, but for what another time of loading changes."""
    log = Log(home)
    rows = log.events("screening", DISTRICTS, loaded(log.ledger_rows())).collect()
    return rows.drop("attempt").sort("event_id")


def rejected(home: Home) -> pl.DataFrame:
    """Rejected rows of readings that are in the ledger."""
    log = Log(home)
    rows = log.rejected.scan().collect().join(log.ledger_rows(), on=READING, how="semi").drop("attempt")
    return rows.sort(pl.all(), nulls_last=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = land(tmp_path_factory.mktemp("alone"))
    write(home)
    return home


@pytest.mark.slow
def test_four_writers_at_once_write_what_one_writes(alone: Home, tmp_path: Path):
    home = land(tmp_path)
    one_thread = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "tests.test_writers", str(home.root)]
    writers = [subprocess.Popen([*command, str(n % 3)], env=os.environ | one_thread) for n in range(WRITERS)]
    assert [each.wait() for each in writers] == [0] * WRITERS
    ledger = Log(home).ledger_rows().filter(pl.col("layout") != "policy")
    assert ledger.height == ledger["batch_id"].n_unique() == FILES + len(DISTRICTS)
    assert ledger["recorded_at"].n_unique() == ledger.height
    for row in ledger.to_dicts():
        assert_balanced(row)
    assert facts(home).equals(facts(alone))
    assert facts(home).height == facts(home)["event_id"].n_unique()
    same = [name for name in ledger.columns if name not in ("attempt", "recorded_at", "export_at")]
    other = Log(alone).ledger_rows().filter(pl.col("layout") != "policy")
    assert ledger.select(same).sort("batch_id").equals(other.select(same).sort("batch_id"))
    assert rejected(home).equals(rejected(alone))


def test_who_reads_the_published_file_sees_a_whole_one_while_it_is_written(tmp_path: Path):
    place = Place(tmp_path)
    target = place.home.warehouse
    publish(target, {})
    with connect(target) as reader:
        place.load("2025-10-01/map.csv", file_of(0))
        publish(target, {"ingest_ledger": place.log.ledger.file_uris()})
        assert reader.execute("select count(*) from log.ingest_ledger").fetchone() == (0,)
    with connect(target) as reader:
        assert reader.execute("select count(*) from log.ingest_ledger").fetchone() == (2,)


if __name__ == "__main__":
    write(Home(Path(sys.argv[1])), int(sys.argv[2]))
