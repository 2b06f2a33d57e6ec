"""Class members, scores and need of a past day as known at another: vector 16 (METHOD 5.1, 5.4; SEMANTICS 7.1, 7.2).

The events of the vector come as files that say the same: a later roster, a later export, two full extracts that lack a
test, an export that has the first score again. The vector's merge of two students (its query of 2025-12-05) is told to
the pure functions here; that a merge and its reversal are events of the log, and so are known from their day on, is not
tested here. Two rulings replace numbers of the vector: whoever is in two classes counts in one (7.1), and its
``mobile_days`` of 0 are those of the policy below (7.2).
"""

import json
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.compute import compute
from pipelines.facts import current_facts
from pipelines.refresh import refresh
from schemas.policy import DistrictPolicy, Window
from schemas.projections import ClassMembership, NeedLevel
from tests.homes import POLICY, Clock, Place, map_file, map_row, users_file
from tests.test_equality import ENROLMENTS
from transforms.classes import count_classes
from transforms.identity import winners
from transforms.policies import Span
from warehouse.projections import Projections

VECTOR = json.loads((Path(__file__).parent / "data/vectors/16_bitemporal.json").read_text("utf-8"))
AFTER_THE_MERGE = "2025-12-05"
RULED = {AFTER_THE_MERGE: {"X": {"y": 0, "n": 1, "roster": 2}}}
"""Need where SEMANTICS 7.1 replaces the vector's."""
SETTINGS = f"""
full_extracts = ["nwea_map_assessment_results"]

[classes]
mobile_before_days = 0

[[windows]]
school_year = "2026"
season = "fall"
begins_on = 2025-08-01
ends_on = 2025-11-15
reference_on = 2025-09-30

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
    ("2025-11-19T06:00:00Z", "map.csv", scored({"A": 192, "C": 201}, 3)),
    ("2025-11-20T06:00:00Z", "map.csv", scored({"A": 192, "C": 201}, 4)),
    ("2025-12-15T06:00:00Z", "map.csv", scored({"A": 186, "C": 201}, 5)),
]
"""When each file was recorded, and what it says; it was exported on that day."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The log as it stands at the end of the year."""
    made = Place(tmp_path_factory.mktemp("known"), POLICY + SETTINGS)
    for at, name, text in FILES:
        made.clock = Clock(datetime.fromisoformat(at))
        report = made.load(f"{at[:10]}/{name}", text)
        assert [row["status"] for row in report.rows] == ["loaded"]
    return made


def names(place: Place) -> pl.DataFrame:
    """`subject_key` and `student`, by the test each took."""
    until_withdrawn = place.log.ledger_rows([place.district], datetime.fromisoformat("2025-11-01T00:00:00Z"))
    took = current_facts(place.log, [place.district], until_withdrawn, ["screening"])["screening"]
    return took.select("subject_key", student=pl.col("vendor_test_id").str.slice(1)).unique()


def known(place: Place, at: datetime, reference_on: date, same: tuple[str, str] | None = None) -> dict[str, Any]:
    """What the vector asks of a day; two students may be said to be the same."""
    ledger = place.log.ledger_rows([place.district], at)
    facts = current_facts(place.log, [place.district], ledger)
    students = names(place)
    if same is not None:
        keys = dict(students.select("student", "subject_key").rows())
        merge = {"district_id": ["d1"], "loser_key": [keys[same[0]]], "winner_key": [keys[same[1]]]}
        shown = dict(winners(pl.DataFrame(merge)).select("subject_key", "shown_key").rows())
        facts = {family: rows.with_columns(pl.col("subject_key").replace(shown)) for family, rows in facts.items()}
        students = students.filter(student=same[1]).vstack(students.filter(pl.col("student") != same[1]))
        students = students.with_columns(pl.col("subject_key").replace(shown)).unique("subject_key", keep="first")
    year = {family: rows.filter(pl.col("school_year") == "2026").lazy() for family, rows in facts.items()}
    tables, _ = compute(year, {"d1": [Span(policy(place, reference_on))]})
    return said(tables[ClassMembership], tables[NeedLevel], students)


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
    at, day = datetime.fromisoformat(query["known_at"]), date.fromisoformat(query["reference_date"])
    assert known(place, at, day) == expected(query)


@pytest.mark.parametrize("query", queries(merged=True))
def test_whoever_is_in_two_classes_is_listed_and_counts_in_the_longer_one(place: Place, query: dict[str, Any]):
    at, day = datetime.fromisoformat(query["known_at"]), date.fromisoformat(query["reference_date"])
    found, wanted = known(place, at, day, same=("C", "A")), expected(query)
    assert (found["need"], found["score"]) == (wanted["need"], wanted["score"])
    assert found["in_two_classes"] == wanted["in_two_classes"]
    assert found["members"] == {"X": wanted["members"]["X"]}
    assert set(wanted["members"]["Y"]) <= set(found["in_two_classes"])


def test_one_extract_that_lacks_a_test_withdraws_nothing(place: Place):
    second = datetime.fromisoformat("2025-11-20T06:00:00Z")
    day = date(2025, 9, 30)
    assert "B" in known(place, second - timedelta(seconds=1), day)["score"]
    assert "B" not in known(place, second + timedelta(hours=1), day)["score"]


@pytest.mark.parametrize("query", list(queries(merged=False))[:4])
def test_the_tables_of_a_past_day_say_the_same(place: Place, tmp_path: Path, query: dict[str, Any]):
    at = datetime.fromisoformat(query["known_at"])
    past = Projections(str(tmp_path))
    refresh(place.log, past, {"d1": place.home.policy("d1")}, as_of=at)
    tables = [past.read(contract).collect() for contract in (ClassMembership, NeedLevel)]
    assert said(tables[0], tables[1], names(place)) == expected(query)
