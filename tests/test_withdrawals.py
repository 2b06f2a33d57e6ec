"""Tests that vanish from declared full extracts, on real stores: when they are withdrawn and when they never are."""

import itertools
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pipelines.explain import explain
from pipelines.facts import current_facts
from pipelines.status import status_of
from pipelines.verify import verify_home
from schemas.contract import columns
from schemas.events import ExtractGap, ExtractScope
from schemas.policy import UnreadablePolicy
from tests.homes import POLICY, SECRET, Place, map_file, map_row, users_file
from transforms.withdrawals import withdrawn

MAP = "nwea_map_assessment_results"
FULL = POLICY + f'full_extracts = ["{MAP}"]\n'
DAYS = ("2025-10-01", "2025-10-08", "2025-10-15", "2025-10-22", "2025-10-29")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, FULL)


def rows_of(students: Iterable[int], **columns: str) -> list[str]:
    """One test of each of these students; the score is 100 and the student's number."""
    return [map_row(str(number), 100 + number, **columns) for number in students]


def export(day: str, *rows: str) -> str:
    """A full extract; two exports are never the same bytes."""
    return map_file(*rows, map_row("1", 200, subject="Science K-12", school=day))


def load(place: Place, day: str, *rows: str) -> dict[str, object]:
    (row,) = place.load(f"{day}/map.csv", export(day, *rows)).rows
    return row


def students(place: Place, as_of: datetime | None = None) -> set[int]:
    """Numbers of the students whose test stands."""
    ledger = place.log.ledger_rows([place.district], as_of)
    facts = current_facts(place.log, [place.district], ledger, ["screening"])
    return {int(score) - 100 for score in facts["screening"]["score"]}


TWENTY = range(1, 21)
SOME = range(1, 18)
"""All but three, which is no more than ten."""


@pytest.fixture(scope="module")
def one_extract(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(tmp_path_factory.mktemp("one_extract"), FULL)
    load(made, DAYS[0], *rows_of(TWENTY))
    return made


@pytest.fixture
def begun(one_extract: Place, tmp_path: Path) -> Place:
    """A home into which the first extract was loaded: one test of each of twenty students."""
    return one_extract.copy(tmp_path)


# When a test is withdrawn


def test_a_test_is_withdrawn_after_two_extracts_and_not_after_one(begun: Place):
    once = load(begun, DAYS[1], *rows_of(SOME))
    assert (once["tests_vanished"], once["tests_withdrawn"]) == (3, 0)
    assert "3 of 20 tests that stood" in str(once["message"])
    assert students(begun) == {*TWENTY}
    twice = load(begun, DAYS[2], *rows_of(SOME))
    assert (twice["tests_vanished"], twice["tests_withdrawn"]) == (3, 3)
    assert students(begun) == {*SOME}
    assert status_of(begun.home, [begun.district])[0]["tests_withdrawn"] == 3
    thrice = load(begun, DAYS[3], *rows_of(SOME))
    assert (thrice["tests_vanished"], thrice["tests_withdrawn"], thrice["message"]) == (0, 0, None)


def test_nothing_vanishes_from_a_file_that_was_not_declared(place: Place):
    place.set_policy(POLICY)
    for day in DAYS[:3]:
        row = load(place, day, *rows_of(TWENTY if day == DAYS[0] else [1]))
        assert (row["status"], row["tests_vanished"]) == ("loaded", None)
    assert students(place) == {*TWENTY}


@pytest.mark.slow
def test_files_loaded_before_the_declaration_are_never_taken_for_full(place: Place):
    place.set_policy(POLICY)
    for day, some in zip(DAYS[:3], (TWENTY, [1], [2]), strict=True):
        load(place, day, *rows_of(some))
    place.set_policy(FULL)
    load(place, DAYS[3], *rows_of(SOME))
    assert students(place) == {*TWENTY}


def test_a_test_that_comes_back_stands_again(place: Place):
    for day, some in zip(DAYS, (TWENTY, SOME, SOME, TWENTY, SOME), strict=True):
        load(place, day, *rows_of(some))
        assert students(place) == ({*SOME} if day == DAYS[2] else {*TWENTY})


@pytest.mark.slow
def test_one_extract_between_two_that_have_it_withdraws_nothing(place: Place):
    for day, some in zip(DAYS, (TWENTY, SOME, TWENTY, SOME, TWENTY), strict=True):
        load(place, day, *rows_of(some))
    assert students(place) == {*TWENTY}


def test_a_corrected_test_has_not_vanished(begun: Place):
    for day in DAYS[1:3]:
        row = load(begun, day, *rows_of(SOME), *(map_row(str(n), 150) for n in (18, 19, 20)))
        assert row["tests_vanished"] == 0
    assert students(begun) == {*SOME, 50}


def test_the_same_bytes_again_are_the_same_extract(begun: Place):
    second = export("x", *rows_of(SOME))
    begun.load(f"{DAYS[1]}/map.csv", second)
    assert begun.load(f"{DAYS[2]}/map.csv", second).rows == []
    assert students(begun) == {*TWENTY}


def test_two_files_of_one_export_time_are_one_extract(begun: Place):
    for name in ("a", "b"):
        begun.load(f"{DAYS[1]}/{name}.csv", export(name, *rows_of(SOME)))
    assert students(begun) == {*TWENTY}


# Scope


@pytest.mark.parametrize(
    "columns",
    [
        {"term": "Winter 2025-2026"},
        pytest.param({"term": "Fall 2024-2025", "day": "09/10/2024"}, marks=pytest.mark.slow),
        pytest.param({"school": "Oak"}, marks=pytest.mark.slow),
    ],
)
def test_other_terms_years_and_schools_are_not_touched(place: Place, columns: dict[str, str]):
    place.set_policy(POLICY)
    place.load("before.csv", map_file(*rows_of(range(101, 105), **columns)))
    place.set_policy(FULL)
    for day, some in zip(DAYS, (TWENTY, SOME, SOME), strict=False):
        load(place, day, *rows_of(some))
    assert students(place) == {*SOME, *range(101, 105)}


@pytest.mark.slow
def test_another_layout_lacks_nothing_of_this_one(place: Place):
    place.set_policy(POLICY + 'full_extracts = ["district_csv"]\n')
    load(place, DAYS[0], *rows_of(TWENTY))
    header = "student_id,school_id,grade,school_year,window,measure,test_date,score"
    for day in DAYS[1:4]:
        place.load(f"{day}/own.csv", f"{header}\n1,Elm,4,2026,fall,map_growth_math,2025-09-10,{day[-2:]}\n")
    assert {*TWENTY} <= students(place)


def test_a_school_of_the_extract_before_is_in_scope_once(place: Place):
    elm, oak = rows_of(TWENTY), rows_of([31, 32], school="Oak")
    load(place, DAYS[0], *elm, *oak)
    held = load(place, DAYS[1], *elm)
    assert (held["status"], held["held_rule"]) == ("held", "tests_vanished")
    assert "2 of 22 tests" in str(held["message"]) and "all tests of 1 schools" in str(held["message"])
    assert load(place, DAYS[2], *elm, oak[0])["tests_vanished"] == 1
    assert load(place, DAYS[3], *elm, oak[0])["tests_withdrawn"] == 1
    assert students(place) == {*TWENTY, 31}


def test_a_school_that_only_changed_its_name_has_not_vanished(begun: Place):
    row = load(begun, DAYS[1], *rows_of(TWENTY, school="Elm Elementary"))
    assert (row["status"], row["tests_vanished"]) == ("loaded", 0)


def test_a_school_has_vanished_though_one_of_its_students_has_a_rejected_row(place: Place):
    elm, oak = rows_of(TWENTY), rows_of([31, 32], school="Oak")
    load(place, DAYS[0], *elm, *oak)
    held = load(place, DAYS[1], *elm, map_row("31", "high", school="Oak"))
    assert (held["status"], "all tests of 1 schools" in str(held["message"])) == ("held", True)


# Order of arrival


HISTORY = (TWENTY, SOME, TWENTY, [*SOME, 20], [*SOME, 19])


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(order, marks=[] if place < 1 else pytest.mark.slow)
        for place, order in enumerate(random.Random(5).sample(list(itertools.permutations(range(5))), 12))
    ],
)
def test_the_order_of_arrival_does_not_matter(tmp_path: Path, order: tuple[int, ...]):
    place = Place(tmp_path, FULL)
    for number in order:
        assert load(place, DAYS[number], *rows_of(HISTORY[number]))["status"] == "loaded"
    assert students(place) == {*SOME, 19, 20}  # 18 is in neither of the last two, 20 and 19 in one each


@pytest.mark.slow
def test_a_late_extract_that_has_a_test_makes_it_stand_between_two_that_lack_it(begun: Place):
    load(begun, DAYS[1], *rows_of(SOME))
    load(begun, DAYS[3], *rows_of(SOME))
    assert students(begun) == {*SOME}
    load(begun, DAYS[2], *rows_of(TWENTY))
    assert students(begun) == {*TWENTY}


@pytest.mark.slow
def test_a_day_in_the_past_knows_only_what_was_loaded_by_then(place: Place):
    recorded = [load(place, day, *rows_of(TWENTY if day == DAYS[0] else SOME))["recorded_at"] for day in DAYS[:3]]
    assert [len(students(place, moment)) for moment in recorded] == [20, 20, 17]  # type: ignore[arg-type]


# Holding and confirming


MANY = range(1, 101)


def test_more_than_ten_and_five_percent_wait_for_a_person(place: Place):
    load(place, DAYS[0], *rows_of(MANY))
    assert load(place, DAYS[1], *rows_of(range(1, 91)))["status"] == "loaded"  # ten
    held = load(place, DAYS[2], *rows_of(range(1, 90)))
    assert (held["status"], held["held_rule"], held["data_rows"]) == ("held", "tests_vanished", 90)
    assert "11 of 100 tests" in str(held["message"])
    assert students(place) == {*MANY}
    again = place.load()
    assert (again.rows, again.still_held) == ([], 1)


@pytest.mark.slow
def test_five_percent_of_many_are_no_reason_to_wait(place: Place):
    load(place, DAYS[0], *rows_of(range(1, 281)))
    assert load(place, DAYS[1], *rows_of(range(1, 267)))["status"] == "loaded"  # 14 of 280, five percent
    assert load(place, DAYS[2], *rows_of(range(1, 266)))["status"] == "held"


def test_each_term_is_judged_by_itself(place: Place):
    winter = {"term": "Winter 2025-2026", "day": "12/10/2025"}
    load(place, DAYS[0], *rows_of(range(1, 271)), *rows_of(range(271, 291), **winter))
    row = load(place, DAYS[1], *rows_of(range(1, 271)), *rows_of(range(271, 279), **winter))
    assert row["status"] == "held"  # 12 of 20, though 4 % of the file


@pytest.mark.slow
def test_a_confirmed_extract_loads_and_withdraws_at_once(place: Place):
    load(place, DAYS[0], *rows_of(MANY), *rows_of([201, 202], school="Oak"))
    held = load(place, DAYS[1], *rows_of(range(1, 81)))
    batch = str(held["batch_id"])[:12]
    assert f'confirmed_extracts = ["{batch}"]' in str(held["message"])
    place.set_policy(FULL + f'confirmed_extracts = ["{batch}"]\n')
    (row,) = place.load().rows
    assert (row["status"], row["tests_vanished"], row["tests_withdrawn"]) == ("loaded", 22, 22)
    assert "as confirmed" in str(row["message"])
    assert students(place) == {*range(1, 81)}
    load(place, DAYS[2], *rows_of(MANY))
    assert students(place) == {*MANY}


@pytest.mark.slow
def test_the_extract_after_a_confirmed_one_is_judged_anew(place: Place):
    load(place, DAYS[0], *rows_of(MANY))
    held = load(place, DAYS[1], *rows_of(range(1, 51)))
    place.set_policy(FULL + f'confirmed_extracts = ["{str(held["batch_id"])[:12]}"]\n')
    place.load()
    assert load(place, DAYS[2], *rows_of(range(1, 11)))["status"] == "held"
    assert students(place) == {*range(1, 51)}


# What a file has and could not be read or matched


def test_the_tests_of_a_student_with_a_rejected_row_do_not_vanish(begun: Place):
    for day in DAYS[1:4]:
        row = load(begun, day, *rows_of(range(1, 20)), map_row("20", "high"))
        assert (row["rejected"], row["tests_vanished"]) == (1, 0)
    assert students(begun) == {*TWENTY}


def test_a_file_with_a_row_that_names_no_student_is_not_a_full_extract(begun: Place):
    for day in DAYS[1:4]:
        row = load(begun, day, *rows_of(SOME), map_row("", 120, test="t20"))
        assert (row["status"], row["tests_vanished"]) == ("loaded", None)
        assert "Not taken for a full extract: 1 rows" in str(row["message"])
    assert students(begun) == {*TWENTY}


@pytest.mark.slow
def test_the_tests_of_parked_rows_do_not_vanish(begun: Place):
    begun.load("1/users.csv", users_file(*map(str, SOME)))
    for day in DAYS[1:4]:
        row = load(begun, day, *rows_of(TWENTY))
        assert (row["parked"], row["tests_vanished"]) == (3, 0)
    begun.load("2/users.csv", users_file(*map(str, TWENTY)))
    assert students(begun) == {*TWENTY}


# What else must see it


def test_a_withdrawn_test_leaves_the_tables_and_verify_agrees(place: Place):
    for day in DAYS[:3]:
        load(place, day, *rows_of(TWENTY if day == DAYS[0] else SOME))
        place.refresh()
    assert place.table("screening_result")["score"].len() == 17
    assert place.refresh().unchanged == [place.district]
    secret = place.home.vault / "secret"
    secret.write_text(SECRET.hex())
    secret.chmod(0o600)
    assert [each for each in verify_home(place.home, [place.district]) if not each["is_passed"]] == []
    subject = place.events().filter(pl.col("score") == 120)["subject_key"][0]
    versions = explain(place.home, "student", subject)["Versions of tests"]
    assert versions.select("is_current", "vanished_from").rows() == [(False, f"{DAYS[2]}/map.csv")]


def test_full_extracts_are_layouts_that_can_be_full(place: Place):
    for name, told in (("nwea", "no layout is called nwea"), ("oneroster_users_1p1", "cannot be full extracts")):
        place.set_policy(POLICY + f'full_extracts = ["{name}"]\n')
        with pytest.raises(UnreadablePolicy, match=told):
            place.load()


# Against a slow reference


def reference(
    last: dict[str, int],
    extracts: dict[int, tuple[set[str], bool]],
    school: dict[str, str],
    parked: set[tuple[int, str]],
) -> set[str]:
    """Which tests are withdrawn, test by test and extract by extract."""
    gone = set()
    for test, seen in last.items():
        lacks = 0
        before: set[str] = set()
        for day in sorted(extracts):
            schools, is_confirmed = extracts[day]
            if day > seen and school[test] in schools | before and (day, test) not in parked:
                lacks += 1
                if lacks == 2 or is_confirmed:
                    gone.add(test)
            before = schools
    return gone


@pytest.mark.parametrize("seed", range(40))
def test_withdrawn_is_what_a_slow_reference_says(seed: int):
    chance = random.Random(seed)
    start = datetime(2025, 10, 1, tzinfo=UTC)
    schools = ["elm", "oak", "ash"]
    school = {f"t{n}": chance.choice(schools) for n in range(30)}
    last = {name: chance.randint(0, 6) for name in school}
    extracts = {
        day: ({each for each in schools if chance.random() < 0.6} or {"elm"}, chance.random() < 0.2)
        for day in chance.sample(range(1, 9), chance.randint(0, 6))
    }
    base = {"district_id": "d1", "layout": "a", "scope": "2026/fall"}
    tests = pl.DataFrame(
        [
            base
            | {"natural_key": name, "subject_key": "s", "school_id": school[name]}
            | {"last_export_at": start + timedelta(days=day)}
            for name, day in last.items()
        ],
        schema_overrides={"last_export_at": columns(ExtractScope)["export_at"]},
    )
    rows = [
        base
        | {"school_id": each, "export_at": start + timedelta(days=day), "is_confirmed": confirmed}
        | {"batch_id": f"b{day}", "attempt": 1}
        for day, (named, confirmed) in extracts.items()
        for each in sorted(named)
    ]
    scopes = pl.DataFrame(rows, schema=columns(ExtractScope))
    parked = {(day, name) for day in extracts for name in school if chance.random() < 0.2}
    gaps = [
        {"district_id": "d1", "layout": "a", "natural_key": name, "export_at": start + timedelta(days=day)}
        for day, name in sorted(parked)
    ]
    waiting = pl.DataFrame(gaps, schema=columns(ExtractGap))
    found = withdrawn(tests.sample(fraction=1, shuffle=True, seed=seed), scopes, waiting)
    assert {*found["natural_key"]} == reference(last, extracts, school, parked)
