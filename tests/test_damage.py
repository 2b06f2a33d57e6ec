"""One row in a hundred damaged in twelve ways: exactly the others are in the log, and no cell is told anywhere else."""

from pathlib import Path

import polars as pl
import pytest

from tests.homes import Place

HEADER = (
    "TermName,SchoolName,StudentID,Student_StateID,Subject,TestType,TestName,TestStartDate,TestStartTime,TestRITScore,"
    "TestStandardError,TestPercentile,StudentLastName,StudentFirstName,StudentDateOfBirth,Grade"
)
COLUMNS = HEADER.split(",")
MARK = "Zq9x7Kw"
"""Stands in every id, name and damaged cell; no code, column or school has it."""
LOST_SCORE = 351
"""Score of the damaged rows, where it is not what is damaged; no other row has it."""
DAMAGE: tuple[tuple[str, str | None, str, str], ...] = (
    ("score in words", "TestRITScore", "not_a_number", f"{MARK}high"),
    ("score beyond the scale", "TestRITScore", "out_of_range", "98765.25"),
    ("no score", "TestRITScore", "missing_value", ""),
    ("date in words", "TestStartDate", "not_a_date", f"{MARK}monday"),
    ("date long ago", "TestStartDate", "out_of_range", "09/10/1913"),
    ("error in words", "TestStandardError", "not_a_number", f"{MARK}3"),
    ("percentile of 150", "TestPercentile", "out_of_range", "150"),
    ("no student", "StudentID", "missing_student_id", ""),
    ("no school year", "TermName", "not_a_school_year", f"Fall {MARK}"),
    ("cut line", None, "too_few_fields", ""),
    ("surplus cells", None, "too_many_fields", f"{MARK}a,{MARK}b"),
    ("lost quote", None, "unbalanced_quote", f"\"{MARK}O'Neil"),
)
"""What it is, column and rule it must be told by, and the cell put in its place."""
CLOSED = ("landing", "archive", "vault")


def damaged_file(size: int) -> tuple[str, pl.DataFrame]:
    """The text, and per row: `source_line`, `score`, and number of its damage or null."""
    number = pl.int_range(size).alias("number")
    rows = pl.select(number).with_columns(
        source_line=pl.col("number") + 2,
        damage=pl.when(pl.col("number") % 100 == 37).then(pl.col("number") // 100 % len(DAMAGE)),
    )
    rows = rows.with_columns(
        score=pl.when(pl.col("damage").is_null()).then(150 + pl.col("number") % 100).otherwise(LOST_SCORE)
    )
    cells = {
        "TermName": pl.lit("Fall 2025-2026"),
        "SchoolName": pl.format("School {}", pl.col("number") % 40),
        "StudentID": pl.format(f"{MARK}id{{}}", "number"),
        "Student_StateID": pl.format(f"{MARK}state{{}}", "number"),
        "Subject": pl.lit("Mathematics"),
        "TestType": pl.lit("Survey With Goals"),
        "TestName": pl.lit("Growth: Math 2-5"),
        "TestStartDate": pl.format("09/{}/2025", (pl.col("number") % 20 + 1).cast(pl.String).str.zfill(2)),
        "TestStartTime": pl.lit("09:00:00"),
        "TestRITScore": pl.col("score").cast(pl.String),
        "TestStandardError": pl.lit("3.1"),
        "TestPercentile": (pl.col("number") % 99 + 1).cast(pl.String),
        "StudentLastName": pl.format(f"{MARK}last{{}}", "number"),
        "StudentFirstName": pl.format(f"{MARK}first{{}}", "number"),
        "StudentDateOfBirth": pl.lit("2015-03-02"),
        "Grade": pl.lit("4"),
    }
    for at, (_, column, _, cell) in enumerate(DAMAGE):
        if column is not None:
            cells[column] = pl.when(pl.col("damage") == at).then(pl.lit(cell)).otherwise(cells[column])
    whole = {what: at for at, (what, _, _, _) in enumerate(DAMAGE)}
    line = pl.concat_str([cells[name] for name in COLUMNS], separator=",")
    line = (
        pl.when(pl.col("damage") == whole["cut line"])
        .then(pl.concat_str([cells[name] for name in COLUMNS[:9]], separator=","))
        .when(pl.col("damage") == whole["surplus cells"])
        .then(pl.concat_str(line, pl.lit("," + DAMAGE[whole["surplus cells"]][3])))
        .when(pl.col("damage") == whole["lost quote"])
        .then(line.str.replace(f"{MARK}last", DAMAGE[whole["lost quote"]][3], literal=True))
        .otherwise(line)
    )
    return "\n".join([HEADER, *rows.select(line)[:, 0]]) + "\n", rows


@pytest.fixture(scope="module", params=[20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def size(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def damaged(size: int, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, pl.DataFrame, str]:
    """The home, the rows, and everything that was said while the file was loaded."""
    text, rows = damaged_file(size)
    place = Place(tmp_path_factory.mktemp("damaged"))
    report = place.load("ComboStudentAssessment.csv", text)
    refreshed = place.refresh()
    return place, rows, f"{report!r} {refreshed!r} {place.ledger().rows()}"


def test_exactly_the_undamaged_rows_are_in_the_log(damaged: tuple[Place, pl.DataFrame, str]):
    place, rows, _ = damaged
    good = rows.filter(pl.col("damage").is_null()).select("source_line", pl.col("score").cast(pl.Float64))
    events = place.events().select("source_line", "score").sort("source_line")
    assert events.equals(good)
    assert place.table("screening_result")["score"].sort().equals(good["score"].sort())
    (row,) = place.ledger().to_dicts()
    lost = rows.height - good.height
    assert lost == rows.height // 100
    assert (row["layout"], row["data_rows"], row["parsed"], row["rejected"]) == (
        "nwea_map_combo", rows.height, good.height, lost,
    )  # fmt: skip


def test_every_damaged_row_is_told_by_line_column_and_rule(damaged: tuple[Place, pl.DataFrame, str]):
    place, rows, _ = damaged
    meant = {(line, *DAMAGE[at][1:3]) for line, at in rows.drop_nulls("damage").select("source_line", "damage").rows()}
    told = place.log.rejected.scan().select("source_line", "column", "rule").collect()
    assert set(told.rows()) == meant
    assert told.height == len(meant)
    assert {at for _, _, at in meant} == {rule for _, _, rule, _ in DAMAGE}


def test_no_cell_stands_anywhere_else(damaged: tuple[Place, pl.DataFrame, str]):
    place, _, said = damaged
    open_files = [
        path
        for path in place.home.root.rglob("*")
        if path.is_file() and path.relative_to(place.home.root).parts[0] not in CLOSED
    ]
    assert len(open_files) > 10
    forbidden = [MARK.encode(), b"Neil", b"98765.25", b"2015-03-02", b"09/10/1913"]
    for path in open_files:
        content = path.read_bytes() + str(path.relative_to(place.home.root)).encode()
        if path.suffix == ".parquet":
            content += pl.read_parquet(path).write_ndjson().encode()
        for cell in forbidden:
            assert cell not in content, path
    for cell in forbidden:
        assert cell.decode() not in said
    assert place.events().filter(pl.col("score") == LOST_SCORE).is_empty()


def test_scores_stand_only_in_the_log_of_screening_and_what_is_made_of_it(damaged: tuple[Place, pl.DataFrame, str]):
    place, _, _ = damaged
    for path in Path(place.home.log).rglob("*.parquet"):
        family = path.relative_to(place.home.log).parts[0]
        if family != "screening":
            assert "score" not in pl.read_parquet_schema(path), path


def test_nothing_is_said_on_the_way(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    place = Place(tmp_path)
    place.load("ComboStudentAssessment.csv", damaged_file(2_400)[0])
    place.refresh()
    said = capfd.readouterr()
    assert MARK not in said.out + said.err
    assert "98765.25" not in said.out + said.err


def test_a_file_that_is_held_is_not_told_either(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    place = Place(tmp_path)
    text = damaged_file(1_200)[0]
    place.load("a.csv", text.replace("TestRITScore", "TestRITScoreOf", 1))
    place.load("b.csv", text.replace("2025-2026", "2023-2024"))
    place.load("c.csv", text.replace(HEADER, f"{MARK}a,{MARK}b,TermName", 1))
    assert place.ledger()["held_rule"].to_list() == ["renamed_column", "school_year_disagrees", "unknown_layout"]
    said = capfd.readouterr()
    told = f"{place.ledger().rows()} {said.out} {said.err}"
    assert MARK not in told
