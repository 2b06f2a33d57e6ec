"""Tables outlive their contracts: columns that may be null come and go, and nothing else changes (SEMANTICS 3.1)."""

from pathlib import Path

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable

from schemas.contract import Contract, field
from schemas.events import STRANDS
from schemas.projections import WindowRule
from warehouse.delta import StoreError, Table
from warehouse.publish import connect, publish

PARTITION = ("district_id", "school_year")
READ = "select * from read_parquet(?, union_by_name = true, hive_types_autocast = false)"


class Now(Contract):
    """As first released. One row per student."""

    district_id: pl.String = field("District.", nullable=False)
    school_year: pl.String = field("School year.", nullable=False)
    subject_key: pl.String = field("Student.", nullable=False)
    score: pl.Float64 = field("Score.")
    form: pl.String = field("Form of the test.")


class Later(Contract):
    """One column lost, two gained. One row per student."""

    district_id: pl.String = field("District.", nullable=False)
    school_year: pl.String = field("School year.", nullable=False)
    subject_key: pl.String = field("Student.", nullable=False)
    tested_on: pl.Date = field("Day of the test.")
    score: pl.Float64 = field("Score.")
    strands: STRANDS = field("Parts.")


class Stricter(Now):
    """A column that every row must have. One row per student."""

    tier: pl.Int8 = field("Tier.", nullable=False)


class Whole(Now):
    """A column of another type. One row per student."""

    score: pl.Int64 = field("Score.")


def row(student: str, district: str = "d1", year: str = "2026", **others: object) -> pl.DataFrame:
    return pl.DataFrame([{"district_id": district, "school_year": year, "subject_key": student, **others}])


def table(folder: Path, contract: type[Contract]) -> Table:
    return Table(str(folder), contract, PARTITION, "made")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two students of the first contract, in two districts."""
    made = table(tmp_path, Now)
    made.append(pl.concat([row("ana", score=186.0, form="a"), row("ben", "d2", score=190.0, form="b")]), "first")
    return tmp_path


def students(rows: pl.LazyFrame, *names: str) -> list[tuple]:
    return rows.select("subject_key", *names).sort("subject_key").collect().rows()


def test_a_column_that_may_be_null_is_added_before_the_first_write(folder):
    later = table(folder, Later)
    assert students(later.scan(), "score", "tested_on", "strands") == [
        ("ana", 186.0, None, None),
        ("ben", 190.0, None, None),
    ]
    parts = [{"strand": "fractions", "score": 190.0, "standard_error": None, "label": None}]
    later.append(row("cy", score=201.0, tested_on=pl.Series(["2025-09-10"]).str.to_date().item(), strands=parts), "n")
    assert students(later.scan(), "strands")[2] == ("cy", parts)
    assert students(later.scan().filter(pl.col("tested_on").is_not_null())) == [("cy",)]
    fields = [each.name for each in DeltaTable(later.uri).schema().fields]
    assert fields == [*PARTITION, "subject_key", "score", "form", "tested_on", "strands"]
    seen = duckdb.execute(f"select subject_key, tested_on::text from ({READ}) order by 1", [later.file_uris()])
    assert seen.fetchall() == [("ana", None), ("ben", None), ("cy", "2025-09-10")]


def test_a_column_the_contract_lost_stays_and_is_null_from_then_on(folder):
    later = table(folder, Later)
    later.append(row("cy", score=201.0))
    later.replace(row("ana", score=192.0), [("d1", "2026")])
    assert students(later.scan(), "score") == [("ana", 192.0), ("ben", 190.0)]
    assert students(table(folder, Now).scan(), "form") == [("ana", None), ("ben", "b")]


def test_a_transaction_of_an_earlier_release_is_remembered(folder):
    table(folder, Later).append(row("ana", score=186.0), "first")
    assert len(students(table(folder, Later).scan())) == 2


def test_packing_keeps_what_an_earlier_contract_said(folder):
    assert table(folder, Later).pack(["subject_key"], ("d2", "2026"))
    assert students(table(folder, Now).scan(), "form") == [("ana", "a"), ("ben", "b")]


def test_two_writers_may_add_the_same_column(folder, monkeypatch):
    later, other = table(folder, Later), table(folder, Later)
    found = later._found()
    other.append(row("cy"))
    monkeypatch.setattr(later, "_found", lambda: found)
    assert [each.name for each in later.delta().schema().fields][-2:] == ["tested_on", "strands"]


def test_who_looked_before_sees_what_another_appended_and_rebuilt(folder):
    mine, other = table(folder, Now), table(folder, Now)
    assert students(mine.scan()) == [("ana",), ("ben",)]
    other.append(row("cy"))
    assert students(mine.scan()) == [("ana",), ("ben",), ("cy",)]
    other.rebuild(lambda rows: rows.filter(pl.col("subject_key") != "ana"))
    assert students(mine.scan()) == students(other.scan()) == [("ben",), ("cy",)]
    mine.append(row("dan"))
    assert students(other.scan()) == [("ben",), ("cy",), ("dan",)]


@pytest.mark.parametrize(
    ("contract", "told"),
    [(Stricter, "made.*: tier is new and may not be null"), (Whole, "made.*: score has another type")],
)
def test_nothing_else_may_change(folder, contract, told):
    other = table(folder, contract)
    version = DeltaTable(other.uri).version()
    for use in (
        lambda: other.append(row("cy", score=1, tier=2)),
        lambda: other.replace(row("cy", score=1, tier=2), [("d1", "2026")]),
        other.scan,
    ):
        with pytest.raises(StoreError, match=told) as raised:
            use()
        assert "cy" not in str(raised.value)
    assert DeltaTable(other.uri).version() == version


def test_the_published_file_shows_todays_columns(tmp_path):
    class Before(WindowRule):
        """With a column that is no longer there."""

        form: pl.String = field("Form of the test.")

    rows = row("", benchmark_window="fall", form="a", input_id="i").drop("subject_key")
    Table(str(tmp_path), Before, PARTITION, "window_rule").append(rows)
    target = tmp_path / "warehouse.duckdb"
    publish(target, {"window_rule": Table(str(tmp_path), WindowRule, PARTITION).file_uris()})
    with connect(target) as shown:
        found = shown.execute("select district_id, benchmark_window from projections.window_rule").fetchall()
    assert found == [("d1", "fall")]
