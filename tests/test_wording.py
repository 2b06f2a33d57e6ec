"""What the program may print: nothing that names a teacher, ranks or blames, and no flag without its error."""

import ast
import csv
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from pipelines import cli
from pipelines.contracts import TABLES
from schemas.contract import columns, table_name
from schemas.dictionary import dictionary
from schemas.events import FAMILIES, ParkedRow, Sighting
from schemas.marts import MARTS, ClassroomFlag
from schemas.projections import PROJECTIONS, IngestLedger, RejectedRow
from tests.conftest import Lived
from transforms.persistence import FLAGS
from warehouse.publish import ask, connect, mart_sql

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipelines", "transforms", "schemas", "warehouse")
BLAME = re.compile(
    r"\b(ineffective(ly|ness)?|failing (teacher|class|school)s?|caused by|causes? of need|worst|league tables?"
    r"|(bad|poor|weak|good|best|effective|low|high)[ -]?(performing )?(teacher|teaching|classroom|school)s?"
    r"|teacher (quality|effectiveness|performance|rating)|(under|low)-?performing|blames?|at fault"
    r"|(rank|ranking|ranked) of (classes|schools|teachers)|(top|bottom) (class|school|teacher)(es|s)?)\b",
    re.IGNORECASE,
)
"""Words of METHOD 3.8, and what says the same."""
IN_SENTENCES = re.compile(
    r"\b(teachers?|bad|poor(ly)?|rank(ed|ing|s)?|causes?|caused|because of|best|fault)\b", re.IGNORECASE
)
"""Besides, in the sentences about a class."""
OF_TEACHERS = re.compile(
    r"teacher|instructor|staff|educator|faculty|coach|e_?mail|given_name|family_name", re.IGNORECASE
)
OF_PEOPLE = re.compile(rf"{OF_TEACHERS.pattern}|tutor|birth|person|user_|_title|class_name", re.IGNORECASE)
"""Names of columns that would hold a person or the title of a class, which names one."""

PLACES = {"progression_place", "tier", "from_tier", "to_tier"}
"""Numbers that a mart may be in order of: a place on a progression and a tier are no results."""


def texts() -> Iterator[tuple[str, str]]:
    """Everything in the repository that the program can print or that is printed with it: where, and the text."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            name = str(path.relative_to(ROOT))
            if path.suffix == ".py":
                for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                    if isinstance(node, ast.Constant) and isinstance(node.value, str):
                        yield f"{name}:{node.lineno}", node.value
            elif path.suffix in {".sql", ".toml", ".html", ".css"}:
                yield name, path.read_text("utf-8")
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "NOTICE", ROOT / "dagster.yaml"):
        yield str(path.relative_to(ROOT)), path.read_text("utf-8")
    yield "tables", dictionary()


def commands(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, child in sorted(getattr(command, "commands", {}).items()):
        yield from commands(child, (*path, name))


COMMANDS = list(commands(typer.main.get_command(cli.app)))


# The words themselves


@pytest.mark.parametrize(
    "text",
    [
        "an ineffective class", "a failing teacher", "need caused by instruction", "the worst class", "a league table",
        "poor teaching", "low-performing school", "teacher quality", "a ranking of schools", "the bottom classes",
    ],
)  # fmt: skip
def test_forbidden_words_are_found(text):
    assert BLAME.search(text)


@pytest.mark.parametrize("text", ["percentile rank", "response poor", "the lowest band", "a failed quality check"])
def test_words_of_the_field_are_not(text):
    assert not BLAME.search(text)


def test_nothing_that_can_be_printed_uses_a_forbidden_word():
    said = list(texts())
    assert len(said) > 1000
    assert {where.split("/")[0].split(":")[0] for where, _ in said} >= {*PACKAGES, "docs", "README.md", "NOTICE"}
    assert [(where, BLAME.search(text)[0]) for where, text in said if BLAME.search(text)] == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda path: " ".join(path) or "tierline")
def test_the_help_of_a_command_uses_no_forbidden_word(command):
    result = CliRunner().invoke(cli.app, [*command, "--help"])
    assert result.exit_code == 0 and result.stdout
    assert not BLAME.search(result.stdout)


def test_every_command_was_asked():
    assert {path[0] for path in COMMANDS if path} >= {"demo", "run", "status", "explain", "layouts", "verify", "ui"}


# No teacher


@pytest.mark.parametrize("name", ["teacher_id", "primary_instructor", "staff_key", "tutor_key", "class_title", "email"])
def test_columns_of_people_are_found(name):
    assert OF_PEOPLE.search(name)


@pytest.mark.parametrize("contract", [*PROJECTIONS, *MARTS, IngestLedger, RejectedRow], ids=table_name)
def test_no_derived_table_has_a_column_of_a_person(contract):
    assert [name for name in columns(contract) if OF_PEOPLE.search(name)] == []


@pytest.mark.parametrize("contract", [*FAMILIES.values(), Sighting, ParkedRow], ids=table_name)
def test_no_table_of_the_log_has_a_column_of_a_teacher(contract):
    assert [name for name in columns(contract) if OF_TEACHERS.search(name)] == []


def test_every_table_of_the_program_was_looked_at():
    looked_at = {*PROJECTIONS, *MARTS, IngestLedger, RejectedRow, *FAMILIES.values()}
    assert set(TABLES.values()) <= looked_at


def test_no_column_or_view_of_the_warehouse_is_of_a_person(lived: Lived):
    with connect(lived.home.warehouse) as connection:
        found = connection.execute(
            "select table_schema, table_name, column_name from information_schema.columns"
        ).fetchall()
    assert {schema for schema, _, _ in found} >= {"marts", "projections", "log"}
    assert [row for row in found if OF_PEOPLE.search(row[2])] == []


def teachers(landed: Path) -> set[str]:
    """Ids, user names and names of every teacher of the roster files as they landed."""
    (users,) = landed.rglob("users.csv")
    with users.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["role"] == "teacher"]
    names = ("sourcedId", "username", "identifier", "familyName")
    return {row[name] for row in rows for name in names if row[name]}


def mentions(rows: pl.DataFrame, wanted: set[str]) -> set[str]:
    """Columns with a text in which one of the wanted stands as a word."""
    found = set()
    for name, dtype in rows.schema.items():
        if dtype == pl.String:
            words = rows[name].drop_nulls().unique().str.extract_all(r"[\w]+(?: \d+)?|\w+").explode()
            if not wanted.isdisjoint(words.drop_nulls().to_list()):
                found.add(name)
    return found


def test_a_planted_teacher_is_found():
    rows = pl.DataFrame({"class_label": ["Grade 4, class A"], "reason": ["Look at Teacher 5, T00005."]})
    assert mentions(rows, {"Teacher 5"}) == mentions(rows, {"T00005"}) == {"reason"}
    assert mentions(rows, {"T0000"}) == set()


def test_no_teacher_of_the_roster_is_in_any_table_of_the_warehouse(lived: Lived):
    wanted = teachers(lived.landed)
    assert len(wanted) > 50
    with connect(lived.home.warehouse) as connection:
        names = connection.execute("select table_schema || '.' || table_name from information_schema.tables").fetchall()
        found = {name: mentions(pl.DataFrame(connection.sql(f"from {name}")), wanted) for (name,) in names}
    assert found["marts.classroom_flag"] == set()
    assert {name: columns_ for name, columns_ in found.items() if columns_} == {}


def test_no_teacher_of_the_roster_is_in_the_log_or_the_projections(lived: Lived):
    wanted, looked_at, found = teachers(lived.landed), 0, set()
    for table in ("log", "projections"):
        for path in (lived.home.root / table).rglob("*.parquet"):
            looked_at += 1
            found |= {(path.parent.name, name) for name in mentions(pl.read_parquet(path), wanted)}
    assert looked_at > 10
    assert found == set()


def test_no_teacher_is_in_what_the_commands_print(lived: Lived):
    rows = ask(lived.home.warehouse, "select class_id from marts.classroom_flag where attention <> 'none' order by 1")
    assert rows is not None and rows.height
    for command in (["status"], ["explain", "class", rows["class_id"][0]]):
        result = CliRunner().invoke(cli.app, [*command, "--home", str(lived.home.root)])
        assert result.stdout
        assert not BLAME.search(result.stdout)
        assert mentions(pl.DataFrame({"said": [result.stdout]}), teachers(lived.landed)) == set()


# No order of merit, no flag without its error


def test_flags_stand_in_order_of_school_and_class(lived: Lived):
    keys = ["district_id", "school_year", "benchmark_window", "measure", "school_id", "grade", "class_id"]
    rows = ask(lived.home.warehouse, "select * from marts.classroom_flag")
    assert rows is not None and rows["school_id"].n_unique() > 1
    assert rows.select(keys).rows() == rows.select(keys).sort(keys).rows()


@pytest.mark.parametrize("contract", MARTS, ids=table_name)
def test_no_mart_is_in_order_of_a_result(contract):
    (ordered,) = re.findall(r"order by ([\w, .]+?)\s*$", mart_sql(contract))
    kinds = columns(contract)
    keys = list(kinds)[: len(contract.to_schema().unique or ())]
    named = [each.strip().removesuffix(" nulls last").split(".")[-1] for each in ordered.split(",")]
    named = keys if named == ["all"] else [list(kinds)[int(each) - 1] if each.isdigit() else each for each in named]
    assert {name for name in named if kinds[name] != pl.String} <= PLACES


def test_interval_coverage_and_level_stand_beside_every_flag(lived: Lived):
    order = list(columns(ClassroomFlag))
    assert {"level", "interval_low", "interval_high", "coverage", "p_above", "reason"} <= set(order)
    rows = ask(lived.home.warehouse, "select * from marts.classroom_flag where tested > 0")
    assert rows is not None
    flags = rows.filter(pl.col("level").is_in(FLAGS) | (pl.col("attention") != "none") | pl.col("is_flagged"))
    assert flags.height > 3
    beside = ["level", "interval_low", "interval_high", "coverage", "p_above", "tested", "enrolled", "reason"]
    assert flags.select(pl.col(beside).is_null().any()).row(0) == (False,) * len(beside)
    for low, high, coverage, reason in rows.select("interval_low", "interval_high", "coverage", "reason").rows():
        assert f"interval {100 * low:.1f}-{100 * high:.1f} %" in reason
        assert f"enrolled were tested ({100 * coverage:.1f} %)" in reason


def test_sentences_about_a_class_neither_blame_nor_rank(lived: Lived):
    rows = ask(lived.home.warehouse, "select distinct reason from marts.classroom_flag")
    assert rows is not None and rows.height > 20
    found = [IN_SENTENCES.search(each) or BLAME.search(each) for each in rows["reason"]]
    assert not any(found)


def test_only_what_stands_or_is_severe_is_a_recommended_action(lived: Lived):
    rows = ask(lived.home.warehouse, "select attention, is_persistent, severity, reason from marts.classroom_flag")
    assert rows is not None
    says = rows.with_columns(is_action=pl.col("reason").str.contains("(?i)recommended action"))
    assert says.filter(pl.col("is_action") != (pl.col("attention") == "act")).is_empty()
    acts = says.filter("is_action")
    assert acts.height
    assert acts.select((pl.col("is_persistent") | (pl.col("severity") == "classwide_severe")).all()).item()


@pytest.mark.parametrize("name", ["README.md", "NOTICE"])
def test_it_is_said_what_it_is_not_for(name):
    text = " ".join((ROOT / name).read_text("utf-8").split())
    assert "not for personnel evaluation" in text
    assert "no teacher is named" in text.lower()


def test_the_notice_goes_with_the_licence():
    assert 'license-files = ["LICENSE", "NOTICE"]' in (ROOT / "pyproject.toml").read_text("utf-8")
    assert "NOTICE" in (ROOT / "README.md").read_text("utf-8")
