"""Decisions are followed back to the very line of the file in which the student stands."""

import csv
import sqlite3

import polars as pl
import pytest

from pipelines.explain import FILES, Sections, explain, narrowed
from schemas.projections import ClassDecision, ClassMembership, CycleOutcome, NeedLevel, ScreeningResult
from tests.conftest import CORRECTED, Lived
from transforms.identity import winners
from warehouse.home import Home
from warehouse.log import Log, loaded
from warehouse.projections import Projections


@pytest.fixture(scope="session")
def ids(lived: Lived) -> dict[str, set[str]]:
    """Every id the vault knows of each student, by the key the student is shown under."""
    log = Log(lived.home)
    merges = log.events("identity", [lived.district], loaded(log.ledger_rows())).collect()
    shown = dict(winners(merges).select("subject_key", "shown_key").rows())
    found: dict[str, set[str]] = {}
    with sqlite3.connect(lived.home.vault / "vault.sqlite") as vault:
        for table in ("subject_id", "roster_id", "seen_id"):
            for key, each in vault.execute(f"select subject_key, id from {table}"):
                found.setdefault(shown.get(key, key), set()).add(each)
    return found


@pytest.fixture(scope="session")
def corrected(lived: Lived, ids: dict[str, set[str]]) -> str:
    """Of the students with a corrected test the one with most tests."""
    wanted = {key for key, each in ids.items() if each & set(lived.changed["StudentID"])}
    tests = Projections(lived.home.projections).read(ScreeningResult).filter(pl.col("subject_key").is_in(wanted))
    return tests.collect().group_by("subject_key").len().sort("len", "subject_key")["subject_key"][-1]


@pytest.fixture(scope="session")
def student(lived: Lived, corrected: str) -> Sections:
    return explain(lived.home, "student", corrected)


@pytest.fixture(scope="session")
def school_class(lived: Lived, corrected: str) -> tuple[str, Sections]:
    """The class of that student."""
    members = Projections(lived.home.projections).read(ClassMembership).collect()
    mine = members.filter(pl.col("subject_key") == corrected, pl.col("benchmark_window") == "spring")
    class_id = mine["class_id"].item()
    return class_id, explain(lived.home, "class", class_id)


@pytest.fixture(scope="session")
def cycle(lived: Lived) -> tuple[str, Sections]:
    """The cycle with most probes."""
    outcomes = Projections(lived.home.projections).read(CycleOutcome).collect()
    cycle_id = outcomes.group_by("cycle_id").agg(pl.col("probes").sum()).sort("probes", "cycle_id")["cycle_id"][-1]
    return cycle_id, explain(lived.home, "cycle", cycle_id)


def stands_there(lived: Lived, ids: dict[str, set[str]], rows: pl.DataFrame) -> int:
    """Check that each row's line has an id of its student as a cell; returns how many were checked."""
    named = rows.filter(pl.col("subject_key").is_not_null())
    for key, file, line in named.select("subject_key", "file", "source_line").rows():
        (cells,) = csv.reader([lived.line(file, line)])
        inside = {part for cell in cells for part in (cell, cell.strip("{}").rpartition(":")[2])}
        assert inside & ids[key], f"{file} line {line} is about somebody else"
    return named.height


def test_every_line_of_a_class_is_where_the_student_stands(
    lived: Lived, ids: dict[str, set[str]], school_class: tuple[str, Sections]
):
    tests = school_class[1]["Chosen tests, every version"]
    assert stands_there(lived, ids, tests) > 200
    assert {"star/SM_v2.zip!SM_v2.csv", CORRECTED} <= set(tests["file"])


def test_every_line_of_a_student_is_where_the_student_stands(
    lived: Lived, ids: dict[str, set[str]], student: Sections, corrected: str
):
    for title in ("Versions of tests", "Other records"):
        rows = student[title].with_columns(subject_key=pl.lit(corrected))
        assert stands_there(lived, ids, rows) == student[title].height > 5


def test_every_line_of_a_cycle_is_where_the_student_or_the_session_stands(
    lived: Lived, ids: dict[str, set[str]], cycle: tuple[str, Sections]
):
    cycle_id, sections = cycle
    assert stands_there(lived, ids, sections["Members"]) >= 1
    assert stands_there(lived, ids, sections["Probes"]) >= 3
    assert stands_there(lived, ids, sections["Sessions"]) >= 3
    nobody = pl.concat([sections["Sessions"], sections["Members"]]).filter(pl.col("subject_key").is_null())
    assert nobody.height > 3
    for file, line in nobody.select("file", "source_line").rows():
        assert cycle_id in lived.line(file, line)


def test_the_score_shown_is_the_score_of_the_line(lived: Lived, school_class: tuple[str, Sections]):
    tests = school_class[1]["Chosen tests, every version"].filter(pl.col("file") == "star/SM_v2.zip!SM_v2.csv")
    header = lived.line("star/SM_v2.zip!SM_v2.csv", 1).split(",")
    at = header.index("ScaledScore"), header.index("UnifiedScore")
    assert tests.height > 10
    for line, score in tests.select("source_line", "score").rows():
        cells = lived.line("star/SM_v2.zip!SM_v2.csv", line).split(",")
        assert f"{score:g}" in {cells[each] for each in at}


def test_a_class_shows_its_numbers_in_words_and_every_member(lived: Lived, school_class: tuple[str, Sections]):
    class_id, sections = school_class
    projections = Projections(lived.home.projections)
    decisions = projections.read(ClassDecision).filter(pl.col("class_id") == class_id).collect()
    assert sections["Decisions"].height == decisions.height
    assert sections["Decisions"]["words"].null_count() == 0
    members = projections.read(ClassMembership).filter(pl.col("class_id") == class_id).collect()
    window = [*members.columns[:2], "benchmark_window", "subject_key"]
    assert sections["Students"].select(sorted(window)).unique().height == members.select(sorted(window)).height
    needs = projections.read(NeedLevel).collect().join(members, on=window, how="semi")
    chosen = set(needs["natural_key"].drop_nulls())
    assert set(sections["Chosen tests, every version"]["test"]) == chosen
    assert set(sections["Students"]["test"].drop_nulls()) == chosen


def test_the_counts_of_a_decision_can_be_counted_in_its_students(school_class: tuple[str, Sections]):
    _, sections = school_class
    students = sections["Students"].filter(~pl.col("is_mobile"), ~pl.col("is_alternate_assessment"))
    on = ["benchmark_window", "measure"]
    counted = students.group_by(on).agg(need=pl.col("is_in_need").sum(), tested=pl.col("is_in_need").count())
    both = sections["Decisions"].join(counted, on=on)
    assert both.height == sections["Decisions"].height
    assert both["need"].cast(pl.Int64).equals(both["in_need"])
    assert both["tested"].equals(both["tested_right"].cast(pl.Int64))


def test_several_versions_are_shown_in_order_with_what_each_said(
    lived: Lived, ids: dict[str, set[str]], student: Sections, corrected: str
):
    was = lived.changed.filter(pl.col("StudentID").is_in(ids[corrected])).row(0, named=True)
    versions = student["Versions of tests"]
    twice = versions.filter(pl.len().over("test") == 2, pl.col("test").is_in(_tests_in(versions, CORRECTED)))
    assert twice["score"].to_list()[:2] == [float(was["before"]), float(was["after"])]
    assert twice["percentile"].to_list()[:2] == [float(was["percentile_before"]), float(was["percentile_after"])]
    assert twice["is_current"].to_list()[:2] == [False, True]
    assert twice["event_type"].to_list()[:2] == ["ScreenerScored", "ScreenerCorrected"]
    assert twice["recorded_at"].is_sorted()


def _tests_in(versions: pl.DataFrame, file: str) -> list[str]:
    return versions.filter(pl.col("file") == file)["test"].to_list()


def test_a_student_shows_every_test_and_why_it_was_chosen_or_not(lived: Lived, student: Sections, corrected: str):
    results = Projections(lived.home.projections).read(ScreeningResult).collect()
    mine = results.filter(pl.col("subject_key") == corrected)
    assert set(student["Tests"]["test"]) == set(mine["natural_key"])
    assert student["Tests"]["chosen_reason"].null_count() == 0
    assert set(student["Versions of tests"]["test"]) == set(mine["natural_key"])
    assert student["Placements"].height == 3
    current = student["Versions of tests"].filter("is_current")
    joined = mine.join(current, left_on="natural_key", right_on="test")
    assert (joined["score"] == joined["score_right"]).all()


def test_a_key_that_was_merged_leads_to_the_student(lived: Lived, student: Sections, corrected: str):
    log = Log(lived.home)
    merges = log.events("identity", [lived.district], loaded(log.ledger_rows())).collect()
    linked = winners(merges).filter(pl.col("shown_key") == corrected)["subject_key"]
    assert linked.len()
    again = explain(lived.home, "student", linked[0])
    assert again["Tests"].equals(student["Tests"])


def test_a_cycle_shows_its_outcomes_and_only_its_probes(lived: Lived, cycle: tuple[str, Sections]):
    _, sections = cycle
    (row,) = sections["Cycle"].to_dicts()
    probes = sections["Probes"].filter("is_current")
    counted = probes.group_by("subject_key").agg(days=pl.col("occurred_on").n_unique())
    both = sections["Outcomes"].join(counted, on="subject_key", how="left").with_columns(pl.col("days").fill_null(0))
    assert (both["probes"] == both["days"].cast(pl.Int64)).all()
    held = sections["Sessions"].filter("is_current", pl.col("event_type") == "SessionHeld")
    assert held.height == row["held_sessions"]


def test_files_are_told_with_the_place_where_their_bytes_are_kept(lived: Lived, student: Sections):
    for row in student[FILES].to_dicts():
        kept = lived.home.root / row["kept_as"]
        name, _, member = row["file"].partition("!")
        assert member or kept.read_bytes() == (lived.landed / name).read_bytes()
        assert kept.exists()


def test_nothing_of_the_vault_is_shown(
    lived: Lived, ids: dict[str, set[str]], student: Sections, school_class: tuple[str, Sections], corrected: str
):
    shown = str([rows.to_dicts() for sections in (student, school_class[1]) for rows in sections.values()])
    with sqlite3.connect(lived.home.vault / "vault.sqlite") as vault:
        people = vault.execute("select given_name, family_name from person").fetchall()
        titles = vault.execute("select class_title from class where class_title is not null").fetchall()
    secret = {f"'{text}'" for row in (*people, *titles) for text in row if text}
    secret |= {f"'{each}'" for each in ids[corrected] if len(each) > 4}
    assert len(secret) > 100
    assert not [text for text in secret if text in shown]


def test_sections_are_narrowed_to_a_window_and_measure(school_class: tuple[str, Sections]):
    _, sections = school_class
    spring = narrowed(sections, {"benchmark_window": "spring", "measure": "star_math"})
    assert set(spring["Students"]["measure"]) == {"star_math"}
    assert spring["Decisions"].height == 1
    assert set(spring[FILES]["file"]) == {"star/SM_v2.zip!SM_v2.csv"}
    assert narrowed(sections, {"measure": "nobody"}) == {}
    assert narrowed(sections, {}) is sections


@pytest.mark.parametrize("kind", ["class", "student", "cycle"])
def test_an_unknown_id_has_no_chain_and_an_empty_home_none_either(lived: Lived, tmp_path, kind: str):
    assert explain(lived.home, kind, "nobody") == {}
    assert explain(Home(tmp_path / "none"), kind, "nobody") == {}
    assert not (tmp_path / "none").exists()
