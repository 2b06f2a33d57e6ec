"""One warehouse file per district: its own rows, all of them, and nothing of anybody else."""

import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from filelock import FileLock

from pipelines.contracts import WAREHOUSE
from pipelines.runs import run_graph
from pipelines.simulate import simulate
from pipelines.work import Outcome, Work
from tests.homes import map_file, map_row
from warehouse.home import Home
from warehouse.publish import connect, publish

POLICY = 'time_zone = "America/Denver"\n'
OWN = POLICY + "own_warehouse = true\n"
DISTRICTS = ("north", "south", "yuma")
"""Names that no hash in hexadecimal and no word of a comment has in it."""
READER = """
import sys
from pathlib import Path
from warehouse.publish import connect
connection = connect(Path(sys.argv[1]))
for line in sys.stdin:
    print(connection.execute("select count(*) from log.ingest_ledger").fetchone()[0], flush=True)
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Outcome, dg.DagsterInstance]]:
    """Three districts run by Dagster; the third has no file of its own."""
    home = Home(tmp_path_factory.mktemp("home")).make()
    simulate(home.landing, districts=3, students=90, schools=1, kinds=("roster", "map_growth"))
    for district, made in zip(DISTRICTS, sorted(home.landing.iterdir()), strict=True):
        for path in made.glob("map_growth/*_[WS]*.csv"):  # one window is as good as three
            path.unlink()
        made.rename(home.landing / district)
        (home.policies / f"{district}.toml").write_text(POLICY if district == "yuma" else OWN)
    with dg.DagsterInstance.ephemeral() as instance:
        yield home, run_graph(home, instance=instance), instance


@pytest.fixture
def home(first: tuple[Home, Outcome, dg.DagsterInstance], tmp_path: Path) -> Home:
    """A copy to work on."""
    shutil.copytree(first[0].root, tmp_path / "home")
    return Home(tmp_path / "home")


def tables(path: Path) -> dict[str, tuple]:
    """Comments of every table and its columns, by name."""
    with connect(path) as connection:
        told = connection.execute(
            "select schema_name || '.' || table_name, t.comment, list((column_name, data_type, c.comment))"
            " from duckdb_columns() c join duckdb_tables() t using (schema_name, table_name) group by 1, 2"
        ).fetchall()
    return {name: (comment, sorted(columns)) for name, comment, columns in told}


def rows(path: Path, table: str, district: str) -> list[tuple]:
    with connect(path) as connection:
        query = f"select * from {table} where district_id = ? order by all"
        return connection.execute(query, [district]).fetchall()


def other_ids(home: Home, district: str) -> dict[str, set[str]]:
    """Ids that only other districts have, by kind."""
    found = {}
    with connect(home.warehouse) as connection:
        for kind, table in (
            ("subject_key", "projections.screening_result"),
            ("natural_key", "projections.screening_result"),
            ("input_id", "state.partition_state"),
            ("batch_id", "log.ingest_ledger"),
        ):
            query = f"select distinct {kind} from {table} where district_id %s ?"
            mine, theirs = (
                {value for (value,) in connection.execute(query % sign, [district]).fetchall()} for sign in ("=", "!=")
            )
            found[kind] = theirs - mine
    return found


def test_each_file_has_all_rows_of_its_district_and_no_others(first):
    home, outcome, _ = first
    assert outcome.exit_code == 0, outcome.failed
    assert outcome.district_files == ["north", "south"]
    assert sorted(path.name for path in (home.root / "warehouse").iterdir()) == ["north.duckdb", "south.duckdb"]
    for district in ("north", "south"):
        own = home.warehouse_of(district)
        named = tables(own)
        assert named == tables(home.warehouse)
        with connect(own) as one, connect(home.warehouse) as whole:  # kept open: to open a file is what takes long
            for table in named:
                query = f"select * from {table} where district_id = ? order by all"
                assert one.execute(query, [district]).fetchall() == whole.execute(query, [district]).fetchall(), table
                query = f"select count(*) from {table} where district_id is distinct from ?"
                assert one.execute(query, [district]).fetchone() == (0,), table
        assert rows(own, "projections.screening_result", district)
        assert rows(own, "marts.classroom_flag", district)
        assert stat.S_IMODE(own.stat().st_mode) == 0o640


@pytest.mark.slow
def test_no_byte_of_a_file_is_of_another_district(home: Home, monkeypatch: pytest.MonkeyPatch):
    def uncompressed(path: Path, *, read_only: bool = True) -> duckdb.DuckDBPyConnection:
        connection = connect(path, read_only=read_only)
        connection.execute("set force_compression = 'uncompressed'")  # what is compressed is not found
        return connection

    shutil.rmtree(home.root / "warehouse")
    home.warehouse.unlink()
    monkeypatch.setattr("warehouse.publish.connect", uncompressed)
    assert Work(home).run(DISTRICTS).district_files == ["north", "south"]
    everything = home.warehouse.read_bytes()
    for district in ("north", "south"):
        content = home.warehouse_of(district).read_bytes()
        assert district.encode() in content
        assert not [each for each in DISTRICTS if each != district and each.encode() in content]
        for kind, ids in other_ids(home, district).items():
            assert ids
            assert all(each.encode() in everything for each in ids), kind
            assert not any(each.encode() in content for each in ids), kind


def test_dagster_says_where_a_districts_own_file_is(first):
    home, _, instance = first
    events = instance.fetch_materializations(WAREHOUSE, limit=10).records
    told = {each.partition_key: each.asset_materialization.metadata.get("own_file") for each in events}
    assert told["yuma"] is None
    assert told["north"].value == str(home.warehouse_of("north"))


@pytest.mark.slow
def test_only_a_district_that_changed_is_rewritten(home: Home):
    before = {district: home.warehouse_of(district).stat().st_ino for district in ("north", "south")}
    assert Work(home).run(DISTRICTS).district_files == []
    path = home.landing / "south" / "late.csv"
    path.write_text(map_file(map_row("nobody", 186, subject="Science")))
    assert Work(home).run(DISTRICTS).district_files == ["south"]
    assert home.warehouse_of("north").stat().st_ino == before["north"]
    assert home.warehouse_of("south").stat().st_ino != before["south"]
    for table in tables(home.warehouse):
        assert rows(home.warehouse_of("south"), table, "south") == rows(home.warehouse, table, "south"), table


def test_a_file_that_could_not_be_published_is_made_good_by_the_next_run(home: Home, monkeypatch: pytest.MonkeyPatch):
    home.warehouse_of("north").write_bytes(b"not a database")
    with monkeypatch.context() as patch:
        patch.setattr("warehouse.publish._fill", failing)
        outcome = Work(home).run(DISTRICTS)
    assert (set(outcome.failed), outcome.exit_code) == ({"north"}, 1)
    assert home.warehouse_of("north").read_bytes() == b"not a database"
    assert Work(home).run(DISTRICTS).district_files == ["north"]
    assert rows(home.warehouse_of("north"), "marts.classroom_flag", "north")


def failing(*_: object) -> dict[str, int]:
    raise duckdb.Error("a cell")


@pytest.mark.slow
def test_the_setting_taken_back_takes_the_file_away(home: Home):
    (home.policies / "north.toml").write_text(POLICY)
    (home.policies / "yuma.toml").write_text(OWN)
    assert Work(home).run(["north", "yuma"]).district_files == ["yuma"]
    assert not home.warehouse_of("north").exists()
    assert home.warehouse_of("south").exists()
    assert rows(home.warehouse_of("yuma"), "marts.classroom_flag", "yuma")


@pytest.mark.slow
def test_readers_of_a_districts_file_keep_answering_while_a_new_one_is_published(home: Home):
    root = str(Path(__file__).parents[1])
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(home.warehouse_of("north"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": root},
    )  # fmt: skip

    def ask() -> str:
        reader.stdin.write("\n")
        reader.stdin.flush()
        return reader.stdout.readline().strip()

    before = ask()
    (home.landing / "north" / "late.csv").write_text(map_file(map_row("nobody", 186, subject="Science")))
    assert Work(home).run(["north"]).district_files == ["north"]
    assert ask() == before
    assert len(rows(home.warehouse_of("north"), "log.ingest_ledger", "north")) == int(before) + 1
    reader.stdin.close()
    assert reader.wait(timeout=20) == 0
    reader.stdout.close()


@pytest.mark.slow
def test_a_districts_file_waits_for_the_lock_of_the_whole(home: Home, monkeypatch: pytest.MonkeyPatch):
    home.warehouse_of("north").unlink()
    monkeypatch.setitem(publish.__kwdefaults__, "timeout", 0.1)
    with FileLock(home.warehouse.with_name(f".{home.warehouse.name}.lock")):
        assert "Another publish" in Work(home).run(["north"]).failed["north"]
    assert Work(home).run(["north"]).district_files == ["north"]
