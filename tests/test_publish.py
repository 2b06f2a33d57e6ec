"""The published warehouse."""

import os
import shutil
import stat
import subprocess
import sys
import threading
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable
from filelock import FileLock

from schemas.contract import Contract, columns, conform, descriptions, empty, summary, table_name
from schemas.marts import MARTS
from schemas.projections import PROJECTIONS, ClassDecision, IngestLedger, RejectedRow, ScreeningResult, TierPlacement
from tests.made_classes import POLICY, quality, school_data
from transforms.classrooms import class_decisions
from warehouse import publish as publishing
from warehouse import shape
from warehouse.projections import PartitionState
from warehouse.publish import PublishFailed, connect, publish
from warehouse.shape import EDUCATION_RECORD

LOG = (IngestLedger, RejectedRow)


@pytest.fixture
def home(tmp_path):
    """A home whose path needs care: a space and a percent sign."""
    made = tmp_path / "ana's home 100%"
    made.mkdir()
    return made


def write(home, contract, rows):
    """Replace a Delta table of the contract by rows given as a frame or dictionaries."""
    names = columns(contract)
    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows, schema_overrides=names)
    path = home / "projections" / table_name(contract)
    path.mkdir(parents=True, exist_ok=True)
    partition = [name for name in ("district_id", "school_year") if name in names]
    conform(frame.lazy(), contract).collect().write_delta(
        str(path), mode="overwrite", delta_write_options={"partition_by": partition}
    )
    return DeltaTable(str(path))


def placements(*given):
    """Tier placements as (district, year, student, tier)."""
    return [
        {
            "district_id": district, "school_year": year, "input_id": "i", "benchmark_window": "fall",
            "subject_key": student, "school_id": "s1", "grade": "4", "status": "tested", "tier": tier,
        }
        for district, year, student, tier in given
    ]  # fmt: skip


def rows(path, query):
    with connect(path) as connection:
        return connection.execute(query).fetchall()


TIERS = "select district_id, school_year, subject_key, tier from projections.tier_placement order by all"
SUMMARY = "select district_id, school_year, students, tier_2 from marts.tier_summary order by all"


def test_an_empty_home_publishes_every_table_of_its_contract(home):
    target = home / "warehouse.duckdb"
    counts = publish(target, {})
    with connect(target) as connection:
        for schema, contracts in (("projections", PROJECTIONS), ("log", LOG), ("marts", MARTS)):
            for contract in contracts:
                name = f"{schema}.{table_name(contract)}"
                assert counts[name] == 0
                described = connection.execute(f"describe {name}").fetchall()
                assert [row[0] for row in described] == list(columns(contract))


def test_tables_and_columns_carry_the_words_of_their_contracts(home):
    target = home / "warehouse.duckdb"
    publish(target, {})
    with connect(target) as connection:
        for schema, contracts in (("projections", PROJECTIONS), ("log", LOG), ("marts", MARTS)):
            for contract in contracts:
                where = [schema, table_name(contract)]
                (comment,) = connection.execute(
                    "select comment from duckdb_tables() where schema_name = ? and table_name = ?", where
                ).fetchone()
                assert comment == f"{summary(contract)} {EDUCATION_RECORD}"
                told = connection.execute(
                    "select column_name, comment from duckdb_columns() where schema_name = ? and table_name = ?", where
                ).fetchall()
                assert dict(told) == descriptions(contract)


def test_values_keep_their_types_and_times_are_utc(home):
    strands = [{"strand": "number", "score": 1.5, "standard_error": None, "label": "Low"}]
    test = {
        "district_id": "0880", "school_year": "2026", "input_id": "i", "subject_key": "a", "measure": "m",
        "is_valid": True, "is_chosen": True, "occurred_on": date(2025, 9, 1), "score": 190.0, "strands": strands,
        "natural_key": "k",
    }  # fmt: skip
    ledger = {
        "batch_id": "b", "attempt": 1, "district_id": "0880", "file": "f", "status": "loaded", "data_rows": 1,
        "recorded_at": datetime(2026, 7, 1, 12, tzinfo=UTC), "home_fingerprint": "f",
    }  # fmt: skip
    target = home / "warehouse.duckdb"
    sources = {
        "screening_result": write(home, ScreeningResult, [test]),
        "ingest_ledger": write(home, IngestLedger, [ledger]),
    }
    counts = publish(target, sources)
    assert (counts["projections.screening_result"], counts["log.ingest_ledger"]) == (1, 1)
    found = rows(target, "select district_id, occurred_on, score, strands, is_valid from projections.screening_result")
    assert found == [("0880", date(2025, 9, 1), 190.0, strands, True)]
    assert rows(target, "select recorded_at::varchar from log.ingest_ledger") == [("2026-07-01 12:00:00+00",)]
    assert rows(target, "select current_setting('TimeZone')") == [("UTC",)]


def test_only_the_changed_partitions_are_replaced(home):
    target = home / "warehouse.duckdb"
    first = placements(("d1", "2025", "a", 1), ("d1", "2026", "a", 1), ("d2", "2026", "b", 2))
    publish(target, {"tier_placement": write(home, TierPlacement, first)})
    second = placements(("d1", "2025", "a", 3), ("d1", "2026", "a", 2), ("d1", "2026", "c", 2), ("d2", "2026", "b", 3))
    publish(target, {"tier_placement": write(home, TierPlacement, second)}, {("d1", "2026")})
    assert rows(target, TIERS) == [
        ("d1", "2025", "a", 1),
        ("d1", "2026", "a", 2),
        ("d1", "2026", "c", 2),
        ("d2", "2026", "b", 2),
    ]
    assert rows(target, SUMMARY) == [("d1", "2025", 1, 0), ("d1", "2026", 2, 2), ("d2", "2026", 1, 1)]
    publish(target, {"tier_placement": write(home, TierPlacement, second[:1])}, {("d1", "2026"), ("d2", "2026")})
    assert rows(target, TIERS) == [("d1", "2025", "a", 1)]


def test_a_partial_publish_comes_to_the_same_as_a_whole_one(home):
    first = placements(("d1", "2026", "a", 1), ("d10", "2026", "a", 1), ("d2", "2026", "b", 2))
    second = placements(("d1", "2026", "a", 2), ("d10", "2026", "a", 1), ("d2", "2026", "b", 3))
    partial, whole = home / "partial.duckdb", home / "whole.duckdb"
    publish(partial, {"tier_placement": write(home, TierPlacement, first)})
    sources = {"tier_placement": write(home, TierPlacement, second)}
    assert publish(partial, sources, {("d1", "2026"), ("d2", "2026")}) == publish(whole, sources)
    assert rows(partial, TIERS) == rows(whole, TIERS)
    assert rows(partial, SUMMARY) == rows(whole, SUMMARY)


def test_the_ledger_is_replaced_by_district_because_it_has_no_school_year(home):
    def line(district, batch, held):
        return {
            "batch_id": batch, "attempt": 1, "district_id": district, "file": "f", "data_rows": 1,
            "status": "held" if held else "loaded", "recorded_at": datetime(2026, 7, 1, tzinfo=UTC),
            "home_fingerprint": "f",
        }  # fmt: skip

    target = home / "warehouse.duckdb"
    publish(target, {"ingest_ledger": write(home, IngestLedger, [line("d1", "a", True), line("d2", "b", True)])})
    later = [line("d1", "a", False), line("d1", "c", False), line("d2", "b", False)]
    publish(target, {"ingest_ledger": write(home, IngestLedger, later)}, {("d1", "2026"), ("d1", "2025")})
    found = rows(target, "select batch_id, status from log.ingest_ledger order by all")
    assert found == [("a", "loaded"), ("b", "held"), ("c", "loaded")]


def test_sources_may_be_parquet_files(home):
    table = write(home, TierPlacement, placements(("d1", "2026", "a", 1), ("d2", "2026", "b", 2)))
    target = home / "warehouse.duckdb"
    assert publish(target, {"tier_placement": table.file_uris()})["projections.tier_placement"] == 2
    assert publish(target, {"tier_placement": table.file_uris()}, {("d2", "2026")})["projections.tier_placement"] == 2


def test_a_file_of_another_release_is_made_anew(home):
    target, spoilt = home / "warehouse.duckdb", home / "spoilt.duckdb"
    sources = {"tier_placement": write(home, TierPlacement, placements(("d1", "2026", "a", 1), ("d2", "2026", "b", 2)))}
    publish(target, sources)
    with connect(target) as connection:
        made = shape.of(connection)
    for spoil in (
        "alter table log.rejected_row add column more integer",
        "drop table marts.tier_summary",
        "comment on column projections.tier_placement.tier is 'of old'",
        "drop view answers.question",
        "drop macro answers.wilson_low",
        "alter table projections.tier_placement drop column measures",
    ):
        shutil.copyfile(target, spoilt)
        with connect(spoilt, read_only=False) as connection:
            connection.execute(spoil)
            assert shape.of(connection) != made, spoil
        assert publishing.unpublished(spoilt, empty(PartitionState), empty(IngestLedger)) is None
    assert publishing.unpublished(target, empty(PartitionState), empty(IngestLedger)) == set()
    publish(spoilt, sources, {("d1", "2026")})
    with connect(spoilt) as connection:
        assert shape.of(connection) == made
    assert len(rows(spoilt, TIERS)) == 2
    assert len(rows(spoilt, SUMMARY)) == 2


def test_what_did_not_change_is_not_read_again(home):
    target = home / "warehouse.duckdb"
    table = write(home, TierPlacement, placements(("d1", "2026", "a", 1), ("d2", "2026", "b", 2)))
    publish(target, {"tier_placement": table})
    others = [uri for uri in table.file_uris() if "district_id=d2" not in uri]
    publish(target, {"tier_placement": others}, {("d1", "2026")})
    assert len(rows(target, TIERS)) == 2


def test_a_file_written_before_a_column_was_added_reads_as_null(home):
    partition = home / "old" / "district_id=d1" / "school_year=2026"
    partition.mkdir(parents=True)
    old = pl.DataFrame(placements(("d1", "2026", "a", 1))).select("subject_key", "tier", "benchmark_window")
    old.write_parquet(partition / "part.parquet")
    target = home / "warehouse.duckdb"
    uri = str(partition / "part.parquet").replace("%", "%25").replace(" ", "%20")
    publish(target, {"tier_placement": [uri]})
    assert rows(target, TIERS) == [("d1", "2026", "a", 1)]
    assert rows(target, "select measure from projections.tier_placement") == [(None,)]


def test_decisions_reach_readers_as_sentences(home):
    memberships, needs = school_data([{"cls": "a", "y": 12, "n": 22, "roster": 22}])
    decisions = class_decisions(memberships, needs, quality(), {"d1": POLICY}).with_columns(input_id=pl.lit("i"))
    target = home / "warehouse.duckdb"
    publish(target, {"class_decision": write(home, ClassDecision, decisions)})
    ((reason,),) = rows(target, "select reason from marts.classroom_flag")
    assert reason.startswith("12 of 22 tested students (54.5 %, ")


def test_the_file_is_readable_by_its_group_only_and_nothing_else_is_left(home):
    target = home / "warehouse.duckdb"
    publish(target, {})
    publish(target, {}, {("d1", "2026")})
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert sorted(each.name for each in home.iterdir()) == [".warehouse.duckdb.lock", "warehouse.duckdb"]


def broken(home):
    """A source whose score is text that is no number."""
    partition = home / "broken" / "district_id=d1" / "school_year=2026"
    partition.mkdir(parents=True)
    pl.DataFrame({"subject_key": ["secret-student"], "tier": ["secret-cell"]}).write_parquet(partition / "p.parquet")
    return [str(partition / "p.parquet").replace("%", "%25").replace(" ", "%20")]


@pytest.mark.parametrize("changed", [None, {("d1", "2026")}])
def test_a_failed_publish_leaves_the_old_file_and_prints_no_cell(home, changed):
    target = home / "warehouse.duckdb"
    publish(target, {"tier_placement": write(home, TierPlacement, placements(("d1", "2026", "a", 1)))})
    before = target.read_bytes()
    with pytest.raises(PublishFailed, match=r"table projections\.tier_placement could not be made") as caught:
        publish(target, {"tier_placement": broken(home)}, changed)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert target.read_bytes() == before
    assert not [each for each in home.iterdir() if "building" in each.name]


def test_a_mart_that_fails_leaves_the_old_file(home, monkeypatch):
    target = home / "warehouse.duckdb"
    publish(target, {})
    before = target.read_bytes()
    monkeypatch.setattr(publishing, "mart_sql", lambda contract: "select 'secret-cell'::integer as district_id")
    with pytest.raises(PublishFailed, match=r"table marts\.classroom_flag could not be made") as caught:
        publish(target, {})
    assert "secret" not in str(caught.value)
    assert target.read_bytes() == before


def test_a_missing_source_file_is_a_failure_not_an_empty_table(home):
    with pytest.raises(PublishFailed, match="tier_placement"):
        publish(home / "warehouse.duckdb", {"tier_placement": [str(home / "gone.parquet")]})
    assert not (home / "warehouse.duckdb").exists()


def test_an_unknown_table_is_refused(home):
    with pytest.raises(PublishFailed, match="No contract describes classroom_flag"):
        publish(home / "warehouse.duckdb", {"classroom_flag": []})


def test_what_a_killed_publish_left_is_swept_by_the_next(home):
    left = home / ".warehouse.duckdb.building"
    left.mkdir()
    (left / "warehouse.duckdb").write_text("half")
    publish(home / "warehouse.duckdb", {})
    assert not left.exists()


def test_a_second_publish_waits_for_the_lock_and_says_so_when_it_gives_up(home):
    target = home / "warehouse.duckdb"
    with FileLock(home / ".warehouse.duckdb.lock"), pytest.raises(PublishFailed, match="Another publish"):
        publish(target, {}, timeout=0.1)
    publish(target, {})


def test_publishes_of_different_districts_at_once_lose_nothing(home):
    target = home / "warehouse.duckdb"
    publish(
        target,
        {"tier_placement": write(home, TierPlacement, placements(("d1", "2026", "a", 1), ("d2", "2026", "b", 1)))},
    )
    table = write(home, TierPlacement, placements(("d1", "2026", "a", 2), ("d2", "2026", "b", 3)))
    runs = [
        threading.Thread(target=publish, args=(target, {"tier_placement": table.file_uris()}, {(district, "2026")}))
        for district in ("d1", "d2")
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert rows(target, TIERS) == [("d1", "2026", "a", 2), ("d2", "2026", "b", 3)]


READER = """
import sys
from pathlib import Path
from warehouse.publish import connect
connection = connect(Path(sys.argv[1]))
for line in sys.stdin:
    print(connection.execute("select sum(tier)::int, count(*) from projections.tier_placement").fetchone(), flush=True)
"""


def test_readers_of_the_old_file_keep_answering_while_a_new_one_is_published(home):
    target = home / "warehouse.duckdb"
    many = [("d1", "2026", f"s{i}", 1) for i in range(500)]
    publish(target, {"tier_placement": write(home, TierPlacement, placements(*many))})
    root = str(Path(publishing.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": root}
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(target)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )
        for _ in range(2)
    ]  # fmt: skip

    def ask():
        for reader in readers:
            reader.stdin.write("\n")
            reader.stdin.flush()
        return [reader.stdout.readline().strip() for reader in readers]

    assert ask() == ["(500, 500)"] * 2
    table = write(home, TierPlacement, placements(*((d, y, s, 2) for d, y, s, _ in many)))
    answers = []
    run = threading.Thread(target=publish, args=(target, {"tier_placement": table.file_uris()}, {("d1", "2026")}))
    run.start()
    while run.is_alive():
        answers.append(ask())
    run.join()
    answers.append(ask())
    for reader in readers:
        reader.stdin.close()
        assert reader.wait(timeout=20) == 0
        reader.stdout.close()
    assert len(answers) > 1
    assert all(answer == ["(500, 500)"] * 2 for answer in answers)
    assert rows(target, "select sum(tier)::int from projections.tier_placement") == [(1000,)]


def test_no_extension_is_fetched(home):
    target = home / "warehouse.duckdb"
    publish(target, {})
    with connect(target) as connection:
        assert connection.execute("select current_setting('autoinstall_known_extensions')").fetchone() == (False,)
        with pytest.raises(duckdb.Error):
            connection.execute("create table log.x (a integer)")


def test_every_contract_type_has_a_duckdb_type():
    for contract in (*PROJECTIONS, *LOG, *MARTS):
        assert issubclass(contract, Contract)
        assert all(shape.duckdb_type(dtype) for dtype in columns(contract).values())
