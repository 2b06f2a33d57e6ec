"""Sightings are packed and none is lost: what was known at any time stays what it was."""

import shutil
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from pipelines.facts import current_facts
from pipelines.verify import verify_home
from schemas.events import Sighting
from tests.examples import examples
from tests.homes import Place, map_file, map_row, users_file
from tests.test_loading import export_of
from transforms.versions import compare, standing
from warehouse.delta import Table
from warehouse.log import PACKED, Log

START = datetime(2026, 1, 1, tzinfo=UTC)
PARTITION = ("d1", "screening")


def sightings(*rows: tuple[str, str, int], district: str = "d1", family: str = "screening") -> pl.DataFrame:
    """One batch each of (natural key, content, day of export)."""
    return pl.DataFrame(
        [
            {
                "district_id": district, "family": family, "natural_key": key, "content_hash": content,
                "export_at": START + timedelta(days=day), "batch_id": uuid.uuid4().hex, "attempt": 1,
            }
            for key, content, day in rows
        ]
    )  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(str(tmp_path), Sighting, ("district_id", "family"))


def same(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    return one.sort(one.columns).equals(other.sort(one.columns))


HISTORY = st.lists(st.tuples(st.sampled_from("km"), st.sampled_from("ab"), st.integers(0, 4)), min_size=1, max_size=12)
"""Sightings in the order in which they arrive."""


@examples(40)
@given(HISTORY, st.integers(0, 12), st.tuples(st.sampled_from("km"), st.sampled_from("ab"), st.integers(0, 5)))
def test_what_stood_at_any_time_stands_after_packing(tmp_path_factory, history, packed_at, new):
    """Also where exports arrive out of order, before the packing and after it."""
    folder = tmp_path_factory.mktemp("packed")
    table = Table(str(folder), Sighting, ("district_id", "family"))
    kept = sightings(*history)
    for number, row in enumerate(kept.iter_slices(1)):
        if number == packed_at:
            table.pack(PACKED, PARTITION)
        table.append(row, f"t{number}")
    table.pack(PACKED, PARTITION)
    found = table.scan().collect()
    layouts = kept.select("batch_id", layout=pl.int_range(pl.len()) % 2).cast({"layout": pl.String})
    asked = sightings(new)
    for known in range(1, kept.height + 1):
        readings = kept.head(known).select("batch_id").join(layouts, on="batch_id")
        then = [rows.join(readings, on="batch_id").sort(PACKED) for rows in (found, kept)]
        stood = [standing(rows.lazy()).sort("natural_key").collect() for rows in then]
        assert stood[0].equals(stood[1])
        assert compare(asked, then[0])["change"].equals(compare(asked, then[1])["change"])
    shutil.rmtree(folder)


def test_packing_changes_one_partition_and_makes_one_sorted_file_of_it(table: Table):
    for day in range(4):
        table.append(sightings(("m", "a", day), ("k", "b", day)), f"t{day}")
        table.append(sightings(("k", "b", day), district="d2"), f"u{day}")
    before = table.scan().collect()
    assert table.pack(PACKED, PARTITION)
    assert same(table.scan().collect(), before)
    mine = table.scan(district_id=["d1"], family=["screening"]).collect()
    assert mine.equals(mine.sort(PACKED))
    assert (table.rows_by_file(district_id="d1"), table.rows_by_file(district_id="d2")) == ([8], [1] * 4)


def test_a_batch_stays_known_after_packing(table: Table):
    batch = sightings(("k", "a", 0))
    table.append(batch, "t")
    table.pack(PACKED, PARTITION)
    table.append(batch, "t")
    assert table.scan().collect().height == 1


def test_what_is_appended_while_the_rows_are_sorted_is_not_lost(table: Table, monkeypatch: pytest.MonkeyPatch):
    table.append(sightings(("k", "a", 0)), "t0")
    late = sightings(("k", "b", 1))
    old = DeltaTable(table.uri)
    table.append(late, "t1")
    monkeypatch.setattr(table, "delta", lambda: old)
    assert not table.pack(PACKED, PARTITION)
    assert table.scan().collect().height == 2


def test_files_of_before_stay_a_week_for_whoever_still_reads_them(table: Table):
    for day in range(3):
        table.append(sightings(("k", "a", day)), f"t{day}")
    reading = table.scan()
    table.pack(PACKED, PARTITION)
    assert reading.collect().height == 3


def test_a_packing_that_breaks_off_leaves_everything_as_it_was(table: Table, monkeypatch: pytest.MonkeyPatch):
    for day in range(3):
        table.append(sightings(("k", "a", day)), f"t{day}")
    before, version = table.scan().collect(), table.delta().version()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("warehouse.delta.write_deltalake", broken)
        table.pack(PACKED, PARTITION)
    assert (table.delta().version(), table.scan().collect().equals(before)) == (version, True)


def broken(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


# In a home


WEEKS = [(day, 186 if day < 6 else 192) for day in (1, 9, 3, 2, 8, 4, 7, 5, 6)]
"""Day of export and score, in the order of arrival: mostly what was said before, rarely in order."""


@pytest.mark.slow
def test_a_district_that_repeats_itself_is_packed_once_it_pays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place, other = Place(tmp_path / "packed"), Place(tmp_path / "never")
    for home in (place, other):
        home.home.vault.joinpath("secret").touch(0o600)
        home.home.vault.joinpath("secret").write_text(bytes(range(32)).hex())
        home.load("2025-09-01/users.csv", users_file("1", "2"))
    files = []
    for day, score in WEEKS:
        other_bytes = map_row("1", 200, subject="Science K-12", school=str(day))
        content = map_file(map_row("1", score), map_row("2", 200), other_bytes)
        place.load(f"2025-10-{day:02}/map.csv", content)
        with monkeypatch.context() as patch:
            patch.setattr(Log, "pack", lambda *_: [])
            other.load(f"2025-10-{day:02}/map.csv", content)
        files.append(len(place.log.sightings.rows_by_file(district_id="d1", family="screening")))
    assert files == [1, 2, 3, 1, 2, 3, 4, 5, 1]
    columns = ["natural_key", "content_hash", "export_at", "batch_id", "attempt"]
    told = [each.log.sightings.scan(family=["screening"]).select(columns).collect() for each in (place, other)]
    assert same(*told)
    for moment in place.ledger()["recorded_at"]:
        then = [
            current_facts(each.log, ["d1"], each.log.ledger_rows(["d1"], moment), ["screening"])["screening"]
            for each in (place, other)
        ]
        assert same(*then)
    place.refresh()
    verdicts = verify_home(place.home, ["d1"])
    assert all(each["is_passed"] for each in verdicts), verdicts


def test_files_that_say_something_new_are_left_alone(tmp_path: Path):
    place = Place(tmp_path)
    for day in range(1, 5):
        place.load(f"2025-10-0{day}/map.csv", map_file(map_row(str(day), 186), map_row(f"{day}0", 186)))
    assert place.log.sightings.rows_by_file(district_id="d1", family="screening") == [2] * 4
    assert place.log.pack("d1") == []


def test_more_than_memory_takes_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("warehouse.log.MOST_PACKED", 2)
    place = Place(tmp_path)
    for day in range(1, 5):
        place.load(f"2025-10-0{day}/map.csv", export_of(f"2025-10-0{day}", 186))
    assert len(place.log.sightings.rows_by_file(district_id="d1", family="screening")) > 1
