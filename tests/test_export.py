"""Tables as files of their own."""

import csv
import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from pipelines import cli
from tests.conftest import Lived
from warehouse.export import ExportFailed, export
from warehouse.publish import connect, publish
from warehouse.spreadsheet import neutralised

READ = {"parquet": pl.read_parquet, "arrow": pl.read_ipc}
SOME = ["marts.tier_summary", "projections.screening_result", "log.ingest_ledger", "answers.tier_change"]
TEXTS = ["=1+1", "+1", "-1", "@sum(a)", "\tx", "\rx", "fine", "a=b", "", None, "'=1"]
SHOWN = ["'=1+1", "'+1", "'-1", "'@sum(a)", "'\tx", "'\rx", "fine", "a=b", "", None, "'=1"]


def shown(lived: Lived, name: str) -> pl.DataFrame:
    with connect(lived.home.warehouse) as connection:
        return pl.DataFrame(connection.sql(f"from {name}"))


def test_text_that_begins_a_formula_gets_an_apostrophe_and_numbers_none():
    rows = pl.LazyFrame({"text": TEXTS, "number": [-1.5] * len(TEXTS), "count": [-3] * len(TEXTS)})
    found = neutralised(rows).collect()
    assert found["text"].to_list() == SHOWN
    assert_frame_equal(found.drop("text"), rows.drop("text").collect())


@pytest.mark.parametrize("form", READ)
def test_a_file_holds_its_table_with_its_types(lived: Lived, tmp_path: Path, form):
    rows = export(lived.home.warehouse, tmp_path, form=form, tables=SOME)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.{form}" for name in SOME)
    for name in SOME:
        path = tmp_path / f"{name}.{form}"
        found, table = READ[form](path), shown(lived, name)
        assert rows[path] == table.height > 0
        assert_frame_equal(found, table, check_row_order=name != "answers.tier_change")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_everything_for_readers_is_exported_and_nothing_else(lived: Lived, tmp_path: Path):
    export(lived.home.warehouse, tmp_path / "new")
    with connect(lived.home.warehouse) as connection:
        names = connection.execute(
            "select schema || '.' || name from (show all tables) where schema <> 'state'"
        ).fetchall()
    assert {path.stem for path in (tmp_path / "new").iterdir()} == {name for (name,) in names}
    assert len(names) > 40


def test_csv_is_safe_to_open_and_still_says_the_same(tmp_path: Path):
    path = tmp_path / "warehouse.duckdb"
    publish(path, {})
    with connect(path, read_only=False) as connection:
        connection.execute(
            "insert into projections.screening_result (district_id, school_year, input_id, subject_key, measure,"
            " natural_key, is_valid, is_chosen, test_name, score, first_export_at, strands)"
            " values ('d1', '2026', 'i', 's', 'm', 'k', true, false, '=cmd()', -1.5, '2026-01-02 03:04:05+00',"
            " [{'strand': '=a', 'score': 1.5, 'standard_error': null, 'label': null}])"
        )
    export(path, tmp_path, form="csv", tables=["screening_result"])
    with (tmp_path / "projections.screening_result.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    told = [row[name] for name in ("test_name", "score", "is_valid", "is_chosen", "placement", "first_export_at")]
    assert told == ["'=cmd()", "-1.5", "true", "false", "", "2026-01-02T03:04:05Z"]
    assert datetime.fromisoformat(row["first_export_at"]) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert json.loads(row["strands"]) == [{"strand": "=a", "score": 1.5, "standard_error": None, "label": None}]


def test_a_district_is_exported_alone(tmp_path: Path):
    path = tmp_path / "warehouse.duckdb"
    publish(path, {})
    with connect(path, read_only=False) as connection:
        for district in ("d1", "d2", "o'hara"):
            connection.execute(
                "insert into log.rejected_row (batch_id, attempt, district_id, rule) values ('b', 1, ?, 'r')",
                [district],
            )
    rows = export(path, tmp_path, tables=["log.rejected_row", "answers.question"], districts=["d2", "o'hara"])
    found = pl.read_parquet(tmp_path / "log.rejected_row.parquet")
    assert sorted(found["district_id"]) == ["d2", "o'hara"]
    assert sorted(rows.values()) == [2, 20]


def test_nothing_is_overwritten_unasked(lived: Lived, tmp_path: Path):
    (tmp_path / "marts.tier_summary.parquet").write_text("mine")
    with pytest.raises(ExportFailed, match=r"already has marts\.tier_summary\.parquet.*--force"):
        export(lived.home.warehouse, tmp_path, tables=SOME)
    assert [path.name for path in tmp_path.iterdir()] == ["marts.tier_summary.parquet"]
    assert (tmp_path / "marts.tier_summary.parquet").read_text() == "mine"
    export(lived.home.warehouse, tmp_path, tables=SOME, force=True)
    assert pl.read_parquet(tmp_path / "marts.tier_summary.parquet").height


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("school_signal", r"could be marts\.school_signal or projections\.school_signal"),
        ("state.partition_state", "is no table"),
        ("nothing", "is no table"),
    ],
)
def test_a_table_that_is_not_known_is_refused(lived: Lived, tmp_path: Path, table: str, told: str):
    with pytest.raises(ExportFailed, match=told):
        export(lived.home.warehouse, tmp_path / "new", tables=[table])
    assert not (tmp_path / "new").exists()


def test_a_failed_export_prints_no_cell_and_leaves_nothing(tmp_path: Path):
    path = tmp_path / "warehouse.duckdb"
    publish(path, {})
    with connect(path, read_only=False) as connection:
        connection.execute("create or replace view answers.coverage as select cast('secret' as integer) as district_id")
    with pytest.raises(ExportFailed, match="no file was changed") as caught:
        export(path, tmp_path / "out", tables=["answers.question", "answers.coverage"])
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert list((tmp_path / "out").iterdir()) == []


def test_the_command_says_what_it_wrote(lived: Lived, tmp_path: Path):
    given = ["export", "--home", str(lived.home.root), "--out", str(tmp_path), "--table", "marts.tier_summary"]
    result = CliRunner().invoke(cli.app, [*given, "--format", "csv", "--district", lived.district, "--json"])
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    assert row == {"file": str(tmp_path / "marts.tier_summary.csv"), "rows": shown(lived, "marts.tier_summary").height}
    again = CliRunner().invoke(cli.app, [*given, "--format", "csv"])
    assert isinstance(again.exception, ExportFailed)
    told = CliRunner().invoke(cli.app, [*given, "--format", "csv", "--force"])
    assert "not de-identified" in told.stdout
