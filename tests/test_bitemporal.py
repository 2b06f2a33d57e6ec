"""Class members, scores and need of a past day as known at another: vector 16 (METHOD 5.1, 5.4; SEMANTICS 7.1, 7.2).

The events of the vector come in two ways that say the same. By files: a later roster, a later export, two full extracts
that lack a test, an export that has the first score again. By commands: retractions of the test and of the correction.
The merge of two students and its reversal are stated by command in both. Two rulings replace numbers of the vector:
whoever is in two classes counts in one, and the other is told as a conflict (7.1), and its ``mobile_days`` of 0 are
those of the policy below (7.2).
"""

import json
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.compute import compute
from pipelines.corrections import merge, retract, unmerge
from pipelines.facts import current_facts
from pipelines.refresh import refresh
from schemas.policy import DistrictPolicy, Window
from schemas.projections import ClassMembership, NeedLevel
from tests.homes import POLICY, Clock, Place, map_file, map_row, users_file
from tests.test_equality import ENROLMENTS
from transforms.classes import count_classes
from transforms.policies import Span
from warehouse.projections import Projections

VECTOR = json.loads((Path(__file__).parent / "data/vectors/16_bitemporal.json").read_text("utf-8"))
AFTER_THE_MERGE = "2025-12-05"
RULED = {AFTER_THE_MERGE: {"X": {"y": 0, "n": 1, "roster": 2}}}
"""Need where SEMANTICS 7.1 replaces the vector's; a class of nobody has no row."""
RECORDED_REFERENCE = "2025-09-30"
SETTINGS = f"""
full_extracts = ["nwea_map_assessment_results"]

[classes]
mobile_before_days = 0

[[windows]]
school_year = "2026"
season = "fall"
begins_on = 2025-08-01
ends_on = 2025-11-15
reference_on = {RECORDED_REFERENCE}

[[cuts]]
measure = "map_growth_math"
by = "score"
tier_2_below = {VECTOR["cut"]}
class_need_below = {VECTOR["cut"]}
source = "The vector."
"""
CLASSES = (
    "sourcedId,status,dateLastModified,title,grades,courseSourcedId,classCode,classType,location,schoolSourcedId,"
    "termSourcedIds,subjects,subjectCodes,periods\n"
    "X,active,,,04,,,scheduled,,s1,,Mathematics,02034,1\n"
    "Y,active,,,04,,,scheduled,,s1,,Mathematics,02034,2\n"
)
EVENTS = {each["id"]: each for each in VECTOR["events"]}


def enrolled(*lines: tuple[str, str, str]) -> str:
    """An enrolment file of (event of the vector, first day, last day)."""
    made = [
        f"{event},active,,{EVENTS[event]['cls']},s1,S{EVENTS[event]['student']},student,true,{begin},{end}"
        for event, begin, end in lines
    ]
    return "\n".join((ENROLMENTS, *made)) + "\n"


def scored(scores: dict[str, int], number: int) -> str:
    """A full extract; a row of another subject makes its bytes its own."""
    days = {"A": "09/16/2025", "B": "09/16/2025", "C": "09/17/2025"}
    rows = [map_row(student, score, day=days[student], percentile="") for student, score in scores.items()]
    return map_file(*rows, map_row("A", 150 + number, subject="Science K-12", test=f"s{number}"))


FIRST = [("e01", "2025-08-20", ""), ("e02", "2025-08-20", "")]
THIRD = ("e03", "2025-09-08", "")
MOVED = [("e01", "2025-08-20", "2025-09-21"), FIRST[1], THIRD, ("e07", "2025-09-22", "")]
FILES = [
    ("2025-09-01T06:00:00Z", "classes.csv", CLASSES),
    ("2025-09-01T06:00:00Z", "users.csv", users_file("A", "B")),
    ("2025-09-01T06:00:00Z", "enrollments.csv", enrolled(*FIRST)),
    ("2025-09-09T06:00:00Z", "users.csv", users_file("A", "B", "C")),
    ("2025-09-09T06:00:00Z", "enrollments.csv", enrolled(*FIRST, THIRD)),
    ("2025-09-20T06:00:00Z", "map.csv", scored({"A": 186, "B": 184, "C": 201}, 1)),
    ("2025-10-10T06:00:00Z", "enrollments.csv", enrolled(*MOVED)),
    ("2025-11-05T06:00:00Z", "map.csv", scored({"A": 192, "B": 184, "C": 201}, 2)),
]
"""When each file was recorded, and what it says; it was exported on that day."""
BY_FILES = [
    ("2025-11-19T06:00:00Z", "map.csv", scored({"A": 192, "C": 201}, 3)),
    ("2025-11-20T06:00:00Z", "map.csv", scored({"A": 192, "C": 201}, 4)),
    ("2025-12-15T06:00:00Z", "map.csv", scored({"A": 186, "C": 201}, 5)),
]
Step = tuple[str, Callable[[Place], None]]
"""When something was recorded, and what."""
MERGED, REVERSED = (EVENTS[each]["recorded"] for each in ("e10", "e11"))


def at(place: Place, moment: str) -> Place:
    place.clock = Clock(datetime.fromisoformat(moment))
    return place


def event_of(place: Place, student: str, score: float) -> str:
    """Event id of this student's test with this score."""
    tests = place.events().filter(pl.col("score") == score, pl.col("vendor_test_id") == f"t{student}")
    return str(tests["event_id"].item())


def take_back(event: str, student: str, score: float) -> Step:
    """The retraction that an event of the vector is."""
    told = EVENTS[event]

    def step(place: Place) -> None:
        retract(
            place.home, event_of(place, student, score), told["reason"], sources=at(place, told["recorded"]).sources()
        )

    return told["recorded"], step


def identify(event: str, state: Callable[..., object]) -> Step:
    """The merge of C and A, or its reversal."""
    moment = EVENTS[event]["recorded"]

    def step(place: Place) -> None:
        keys = dict(names(place).select("student", "subject_key").rows())
        state(place.home, keys["C"], keys["A"], "As the school said.", at(place, moment).sources())

    return moment, step


def read(moment: str, name: str, text: str) -> Step:
    def step(place: Place) -> None:
        report = at(place, moment).load(f"{moment[:10]}/{name}", text)
        assert [row["status"] for row in report.rows] == ["loaded"]

    return moment, step


STEPS = [*(read(*each) for each in FILES), identify("e10", merge), identify("e11", unmerge)]
WAYS = {
    "by files": [read(*each) for each in BY_FILES],
    "by commands": [take_back("e09", "B", 184.0), take_back("e12", "A", 192.0)],
}


@pytest.fixture(scope="module", params=["by files", pytest.param("by commands", marks=pytest.mark.slow)])
def place(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Place:
    """The log as it stands at the end of the year."""
    made = Place(tmp_path_factory.mktemp("known"), POLICY + SETTINGS)
    for _, step in sorted([*STEPS, *WAYS[request.param]], key=lambda each: each[0]):
        step(made)
    return made


@cache
def names(place: Place) -> pl.DataFrame:
    """`subject_key` and `student`, by the test each took."""
    until_withdrawn = place.log.ledger_rows([place.district], datetime.fromisoformat("2025-11-01T00:00:00Z"))
    took = current_facts(place.log, [place.district], until_withdrawn, ["screening"])["screening"]
    return took.select("subject_key", student=pl.col("vendor_test_id").str.slice(1)).unique()


def named(place: Place, moment: datetime) -> pl.DataFrame:
    """``names`` as known at a time: while C and A are one student, that is A."""
    students = names(place)
    if not datetime.fromisoformat(MERGED) < moment < datetime.fromisoformat(REVERSED):
        return students
    both = pl.col("student").is_in(["A", "C"])
    shown = students.filter(both).select(pl.col("subject_key").min(), student=pl.lit("A"))
    return pl.concat([students.filter(~both), shown])


def known(place: Place, moment: datetime, reference_on: date) -> dict[str, Any]:
    """What the vector asks of a day."""
    ledger = place.log.ledger_rows([place.district], moment)
    facts = current_facts(place.log, [place.district], ledger)
    year = {family: rows.filter(pl.col("school_year") == "2026").lazy() for family, rows in facts.items()}
    tables, _ = compute(year, {"d1": [Span(policy(place, reference_on))]})
    return said(tables[ClassMembership], tables[NeedLevel], named(place, moment))


def policy(place: Place, reference_on: date) -> DistrictPolicy:
    made = place.home.policy(place.district)
    (window,) = made.windows
    return made.model_copy(update={"windows": (Window(**{**dict(window), "reference_on": reference_on}),)})


def said(memberships: pl.DataFrame, needs: pl.DataFrame, students: pl.DataFrame) -> dict[str, Any]:
    """Rows in the words of the vector."""
    members = memberships.filter(benchmark_window="fall").join(students, on="subject_key")
    assert members.height == memberships.filter(benchmark_window="fall").height
    tests = needs.filter(benchmark_window="fall", status="tested").join(students, on="subject_key")
    counted = count_classes(memberships.lazy(), needs.lazy()).filter(benchmark_window="fall").collect()
    return {
        "members": {
            class_id: sorted(members.filter(class_id=class_id)["student"]) for class_id in members["class_id"].unique()
        },
        "score": dict(tests.select("student", "score").rows()),
        "in_two_classes": sorted(members.filter("in_two_classes")["student"]),
        "need": {
            class_id: {"y": in_need, "n": tested, "roster": roster}
            for class_id, in_need, tested, roster in counted.select("class_id", "in_need", "tested", "enrolled").rows()
        },
    }


def expected(query: dict[str, Any]) -> dict[str, Any]:
    """The vector's answer, or that of SEMANTICS 7.1: a student of two classes is a member of one."""
    wanted = query["expected"]
    day = query["known_at"][:10]
    return {**wanted, "need": RULED.get(day, wanted["need"])}


def queries(merged: bool) -> Iterable[Any]:
    for query in VECTOR["queries"]:
        if (query["known_at"][:10] == AFTER_THE_MERGE) == merged:
            yield pytest.param(query, id=f"{query['reference_date']} known {query['known_at'][:10]}")


@pytest.mark.parametrize("query", queries(merged=False))
def test_a_day_as_known_at_another(place: Place, query: dict[str, Any]):
    moment, day = datetime.fromisoformat(query["known_at"]), date.fromisoformat(query["reference_date"])
    assert known(place, moment, day) == expected(query)


@pytest.mark.parametrize("query", queries(merged=True))
def test_whoever_is_in_two_classes_is_listed_and_counts_in_the_longer_one(place: Place, query: dict[str, Any]):
    moment, day = datetime.fromisoformat(query["known_at"]), date.fromisoformat(query["reference_date"])
    found, wanted = known(place, moment, day), expected(query)
    assert (found["need"], found["score"]) == (wanted["need"], wanted["score"])
    assert found["in_two_classes"] == wanted["in_two_classes"]
    assert found["members"] == {"X": wanted["members"]["X"]}
    assert set(wanted["members"]["Y"]) <= set(found["in_two_classes"])


def test_one_extract_that_lacks_a_test_withdraws_nothing(place: Place):
    day = date(2025, 9, 30)
    second = datetime.fromisoformat("2025-11-20T06:00:00Z")
    assert "B" in known(place, second - timedelta(seconds=1), day)["score"]
    assert "B" not in known(place, second + timedelta(hours=1), day)["score"]


RECORDED = [each for each in VECTOR["queries"] if each["reference_date"] == RECORDED_REFERENCE]
SHARE = [each for each in RECORDED if each["known_at"][:10] == AFTER_THE_MERGE] + RECORDED[-1:]
"""What `make test` asks of the tables: the facts behind them are asked for every day above."""


@pytest.mark.parametrize("place", ["by files", pytest.param("by commands", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize(
    "query", [each if each in SHARE else pytest.param(each, marks=pytest.mark.slow) for each in RECORDED]
)
def test_the_tables_of_a_past_day_say_the_same(place: Place, tmp_path: Path, query: dict[str, Any]):
    moment = datetime.fromisoformat(query["known_at"])
    past = Projections(str(tmp_path))
    refresh(place.log, past, {"d1": place.home.policy("d1")}, as_of=moment)
    tables = [past.read(contract).collect() for contract in (ClassMembership, NeedLevel)]
    found, wanted = said(tables[0], tables[1], named(place, moment)), expected(query)
    assert {name: found[name] for name in ("score", "in_two_classes", "need")} == {
        name: wanted[name] for name in ("score", "in_two_classes", "need")
    }
