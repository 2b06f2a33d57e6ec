"""What changed between two days, and through which files: real stores, every file recorded on its day."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines import cli
from pipelines.commands.options import DONE, NOTHING, WRONG_USE
from pipelines.corrections import merge, retract
from pipelines.differences import differences
from tests.homes import POLICY, Clock, Place, map_file, map_row, users_file
from tests.test_equality import ENROLMENTS
from transforms.differences import changed_facts, differing

CLASSES = (
    "sourcedId,status,dateLastModified,title,grades,courseSourcedId,classCode,classType,location,schoolSourcedId,"
    "termSourcedIds,subjects,subjectCodes,periods\n"
    "X,active,,,04,,,scheduled,,s1,,Mathematics,02034,1\n"
    "Y,active,,,04,,,scheduled,,s1,,Mathematics,02034,2\n"
)
STUDENTS = [f"{number:02}" for number in range(24)]
FULL = 'full_extracts = ["nwea_map_assessment_results"]\n'


def at(place: Place, day: str) -> Place:
    place.clock = Clock(datetime.fromisoformat(f"{day}T06:00:00+00:00"))
    return place


def scores(low: set[str], number: int, without: set[str] = frozenset()) -> str:
    """Percentile 5 for these, 50 for the others; a row of another subject makes the bytes its own."""
    rows = [
        map_row(each, 180 if each in low else 210, percentile=5 if each in low else 50)
        for each in STUDENTS
        if each not in without
    ]
    return map_file(*rows, map_row("00", 150 + number, subject="Science K-12", test=f"x{number}"))


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = at(Place(tmp_path_factory.mktemp("diff"), POLICY + FULL), "2025-09-01")
    place.load("2025-09-01/classes.csv", CLASSES)
    place.load("2025-09-01/users.csv", users_file(*STUDENTS))
    rows = [
        f"e{each},active,,{'XY'[number % 2]},s1,S{each},student,true,2025-08-20,"
        for number, each in enumerate(STUDENTS)
    ]
    place.load("2025-09-01/enrollments.csv", "\n".join((ENROLMENTS, *rows)) + "\n")
    at(place, "2025-09-20").load("2025-09-20/map.csv", scores(set(), 1))
    return place


@pytest.fixture
def place(begun: Place, tmp_path: Path) -> Place:
    return begun.copy(tmp_path)


def changed(place: Place, earlier: str, later: str) -> list[dict[str, Any]]:
    times = [datetime.fromisoformat(f"{day}T23:59:59+00:00") for day in (earlier, later)]
    policies = {"d1": place.home.policy("d1")}
    return differences(place.log, policies, ["d1"], (times[0], times[1]))


def of(changes: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    return [each for each in changes if each["what"] == what]


def files(change: dict[str, Any]) -> list[tuple[str, int]]:
    return [(each["file"], each["facts"]) for each in change["files"]]


def key(place: Place, student: str) -> str:
    tests = place.events().filter(pl.col("vendor_test_id") == f"t{student}")
    members = place.events("identity").drop_nulls("loser_key")
    own = tests["subject_key"][0]
    pair = members.filter((pl.col("loser_key") == own) | (pl.col("winner_key") == own))
    return str(pair["winner_key"].item()) if pair.height else str(own)


def test_nothing_new_changes_nothing(place: Place):
    at(place, "2025-09-27").load("2025-09-27/map.csv", scores(set(), 2))
    assert changed(place, "2025-09-20", "2025-09-27") == []


def test_corrected_scores_change_a_flag_and_tiers_through_their_file(place: Place):
    low = {each for number, each in enumerate(STUDENTS) if number % 2 == 0}
    at(place, "2025-10-01").load("2025-10-01/map.csv", scores(low, 2))
    at(place, "2025-10-08").load("2025-10-08/map.csv", scores(low, 3))
    changes = changed(place, "2025-09-30", "2025-10-10")
    flags = {each["class_id"]: each for each in of(changes, "flag")}
    assert flags["X"]["before"] != flags["X"]["after"]
    assert flags["X"]["is_direct"]
    assert files(flags["X"]) == [("2025-10-01/map.csv", 12)], "the file after it said nothing new"
    assert flags["X"]["files"][0]["recorded_at"] == datetime(2025, 10, 1, 6, 0, tzinfo=UTC).replace(
        second=flags["X"]["files"][0]["recorded_at"].second
    )
    tiers = of(changes, "tier")
    assert {each["subject_key"] for each in tiers} == {key(place, each) for each in low}
    assert all(files(each) == [("2025-10-01/map.csv", 1)] for each in tiers)
    if "Y" in flags:  # nothing of its own changed: its school's grade did
        assert not flags["Y"]["is_direct"]


@pytest.mark.slow
def test_what_the_home_keeps_saves_work_and_changes_nothing(place: Place):
    at(place, "2025-10-10").load("2025-10-10/map.csv", scores(set(STUDENTS[::2]), 2))
    place.refresh()
    before = place.tables()
    policies = {"d1": place.home.policy("d1")}
    times = [datetime.fromisoformat(f"{day}T23:59:59+00:00") for day in ("2025-10-01", "2025-10-31")]
    told = [
        differences(place.log, policies, ["d1"], (times[0], times[1]), kept=kept) for kept in (None, place.projections)
    ]
    assert told[0] == told[1] != []
    assert all(rows.equals(place.tables()[name]) for name, rows in before.items())


@pytest.mark.slow
def test_a_retraction_and_a_merge_are_named_by_their_command(place: Place):
    low = {"00", "03"}
    at(place, "2025-10-01").load("2025-10-01/map.csv", scores(low, 2))
    event = place.events().filter(pl.col("vendor_test_id") == "t00", pl.col("score") == 180)["event_id"].item()
    retract(place.home, event, "correction_was_wrong", sources=at(place, "2025-10-02").sources())
    (tier,) = of(changed(place, "2025-10-01", "2025-10-02"), "tier")
    assert (tier["subject_key"], files(tier)) == (key(place, "00"), [("tierline retract", 1)])
    keys = key(place, "03"), key(place, "04")
    merge(place.home, *keys, "One child.", at(place, "2025-10-03").sources())
    tiers = of(changed(place, "2025-10-02", "2025-10-03"), "tier")
    assert max(keys) in {each["subject_key"] for each in tiers if each["after"] is None}
    assert all([file for file, _ in files(each)] == ["tierline student merge"] for each in tiers)


@pytest.mark.slow
def test_a_withdrawn_test_is_named_by_the_extract_that_decided(place: Place):
    at(place, "2025-10-01").load("2025-10-01/map.csv", scores(set(), 2, {"05"}))
    assert changed(place, "2025-09-30", "2025-10-01") == []
    at(place, "2025-10-08").load("2025-10-08/map.csv", scores(set(), 3, {"05"}))
    (tier,) = of(changed(place, "2025-10-01", "2025-10-08"), "tier")
    assert (tier["subject_key"], tier["after"]) == (key(place, "05"), None)
    assert files(tier) == [("2025-10-08/map.csv", 1)]


@pytest.mark.slow
def test_another_policy_is_named_where_the_rules_of_the_year_are_others(place: Place):
    at(place, "2026-10-01").set_policy(
        POLICY + FULL + 'retroactive = true\nreason = "Board."\n[[cuts]]\nmeasure = "map_growth_math"\nby = "score"\n'
        'tier_2_below = 215\nclass_need_below = 215\nsource = "The board."\n'
    )
    place.load()
    changes = changed(place, "2026-09-30", "2026-10-01")
    assert len(of(changes, "tier")) == len(STUDENTS)
    assert {tuple(files(each)) for each in changes} == {(("policy/d1.toml", 0),)}
    assert all(each["is_direct"] for each in changes)


@pytest.mark.slow
def test_the_command_tells_keys_and_counts(place: Place):
    at(place, "2025-10-01").load("2025-10-01/map.csv", scores({"00"}, 2))

    def tierline(*arguments: str) -> tuple[int, str, str]:
        command = ["diff", *arguments, "--home", str(place.home.root)]
        result = CliRunner().invoke(cli.app, command, env={"COLUMNS": "200"})
        return result.exit_code, result.stdout, result.stderr

    code, out, _ = tierline("2025-09-30", "2025-10-01", "--json")
    assert code == DONE
    (tier,) = of(json.loads(out)["changes"], "tier")
    assert tier["files"][0]["file"] == "2025-10-01/map.csv"
    code, out, _ = tierline("2025-09-30", "2025-10-01")
    assert (code, "tier 1" in out, "2025-10-01/map.csv" in out) == (DONE, True, True)
    assert tierline("2025-09-25", "2025-09-30")[0] == NOTHING
    code, _, error = tierline("2025-10-01", "2025-09-30")
    assert (code, "earlier time first" in error) == (WRONG_USE, True)


def test_rows_that_come_and_go_differ_and_null_is_equal_to_null():
    def rows(**said: int | None) -> pl.DataFrame:
        return pl.DataFrame({"key": list(said), "tier": pl.Series(list(said.values()), dtype=pl.Int8)})

    found = differing(rows(a=1, b=2, c=None, d=3), rows(a=1, b=3, c=None, e=1), ["key"], "tier")
    assert found.rows() == [("b", "2", "3"), ("d", "3", None), ("e", None, "1")]


def test_facts_change_by_coming_going_saying_something_else_or_being_anothers():
    def facts(*rows: tuple[str, str, str]) -> pl.DataFrame:
        names = ["natural_key", "content_hash", "subject_key"]
        fixed = {
            name: pl.lit("x") for name in ("district_id", "school_year", "family", "class_id", "cycle_id", "group_id")
        }
        return pl.DataFrame(rows, schema=names, orient="row").with_columns(**fixed)

    before = facts(("same", "1", "s"), ("gone", "1", "s"), ("other", "1", "s"), ("moved", "1", "s"))
    after = facts(("same", "1", "s"), ("new", "1", "s"), ("other", "2", "s"), ("moved", "1", "t"))
    found = changed_facts(before, after).sort("natural_key")
    assert found.select("natural_key", "content_hash", "subject_key", "subject_before").rows() == [
        ("gone", None, None, "s"),
        ("moved", "1", "t", "s"),
        ("new", "1", "s", None),
        ("other", "2", "s", "s"),
    ]
