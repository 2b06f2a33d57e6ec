"""The same files in any order, once or twice, now or rebuilt, give the same projections (SEMANTICS 1.5, 4.2, 5.2)."""

import csv
import io
import random
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipelines.facts import current_facts
from pipelines.refresh import refresh
from pipelines.simulate import simulate
from tests.examples import examples
from tests.homes import POLICY, Place, map_file, map_row, users_file
from warehouse.projections import Projections

DISTRICT = "d001"


def assert_same(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> None:
    """Equal table by table, without row order."""
    for name, rows in one.items():
        try:
            assert_frame_equal(rows, other[name], check_row_order=False)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


# One test, told by several exports

Telling = tuple[str, int, int, int | None]
"""Layout, day of export, score, percentile."""


def file_of(telling: Telling, number: int, student: str = "1") -> str:
    """An export of the one test; a row of another subject makes its bytes its own."""
    layout, _, score, percentile = telling
    shown = "" if percentile is None else percentile
    other = map_row(student, 150 + number, subject="Science K-12", test=f"s{number}")
    text = map_file(map_row(student, score, percentile=shown), other)
    return text if layout == "assessment" else combo_of(text)


def combo_of(assessment_results: str) -> str:
    """The Combo file of the same tests: without test id and growth flag, with name and grade (FORMATS 1)."""
    rows = list(csv.DictReader(io.StringIO(assessment_results)))
    out = io.StringIO()
    kept = [name for name in rows[0] if name not in ("TestID", "GrowthMeasureYN")]
    names = ["StudentLastName", "StudentFirstName", "StudentMI", "StudentDateOfBirth", "Grade"]
    writer = csv.DictWriter(out, [*kept, *names], restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "StudentLastName": "Nobody", "Grade": "4"} for row in rows)
    return out.getvalue()


def told(*tests: Iterable[tuple[int, Telling]]) -> dict[str, pl.DataFrame]:
    """The projections after these exports of each student's one test arrived one by one."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        for student, tellings in enumerate(tests, 1):
            for number, telling in tellings:
                text = file_of(telling, number, str(student))
                place.load(f"2025-10-{telling[1]:02d}/{student}{number}.csv", text)
        place.refresh()
        return place.tables()


TELLINGS = st.lists(
    st.tuples(
        st.sampled_from(["assessment", "combo"]),
        st.integers(1, 3),
        st.sampled_from([186, 192]),
        st.sampled_from([None, 30]),
    ),
    min_size=2,
    max_size=4,
)


@pytest.mark.slow
@examples(15, share=15)
@given(TELLINGS.flatmap(lambda each: st.tuples(st.just(each), st.permutations(range(len(each))))))
def test_exports_of_one_test_mean_the_same_in_whatever_order_they_arrive(
    case: tuple[list[Telling], Sequence[int]],
):
    tellings = list(enumerate(case[0]))
    assert_same(told(tellings), told(tellings[number] for number in case[1]))


@pytest.mark.slow
def test_exports_of_one_test_that_once_meant_something_else_mean_the_same():
    """The cases of four students, in one home."""
    cases: list[tuple[list[Telling], list[int]]] = [
        ([("assessment", 1, 186, 30), ("assessment", 2, 186, 30)], [1, 0]),
        ([("assessment", 1, 186, 30), ("assessment", 2, 192, 30), ("assessment", 3, 186, 30)], [0, 2, 1]),
        ([("assessment", 1, 186, 30), ("combo", 1, 192, None), ("combo", 3, 186, 30)], [2, 1, 0]),
        ([("assessment", 2, 186, 30), ("assessment", 2, 192, 30)], [1, 0]),
    ]
    tests = [(list(enumerate(tellings)), order) for tellings, order in cases]
    one, other = told(*(each for each, _ in tests)), told(*([each[n] for n in order] for each, order in tests))
    assert one["screening_result"].height == len(cases)
    assert_same(one, other)


@pytest.mark.slow
def test_what_an_older_layout_said_counts_by_its_day_whichever_came_first():
    """Two layouts with one key: the same content is not told twice, and either may come first."""
    early, late = ("combo", 1, 186, 30), ("assessment", 2, 192, None)
    for order in ([early, late], [late, early]):
        (row,) = told(enumerate(order))["screening_result"].to_dicts()
        assert (row["score"], row["percentile"], row["exports"]) == (192, 30, 2)


@pytest.mark.slow
def test_an_older_export_that_says_the_same_is_news_after_a_refresh(tmp_path: Path):
    place = Place(tmp_path)
    for day in (10, 1):
        place.load(f"2025-10-{day:02d}/map.csv", file_of(("assessment", day, 186, 30), day))
        place.refresh()
    assert [str(at.date()) for at in place.table("screening_result")["first_export_at"]] == ["2025-10-01"]


# Two files and their roster


def arrived(folder: Path, files: dict[str, str]) -> Place:
    place = Place(folder)
    for name, text in files.items():
        place.load(name, text)
    place.refresh()
    return place


STUDENTS = [str(number) for number in range(101, 121)]
BY_LOCAL_ID = map_file(*(map_row(each, 186, state=f"x{each}") for each in STUDENTS[:12]))
BY_OTHER_ID = map_file(*(map_row(f"9{each}", 190, state=f"S{each}") for each in STUDENTS[12:]))


def test_each_file_is_matched_by_its_own_best_column_whenever_the_roster_comes(tmp_path: Path):
    roster = {"2025-08-01/users.csv": users_file(*STUDENTS)}
    tests = {"2025-10-01/a.csv": BY_LOCAL_ID, "2025-10-02/b.csv": BY_OTHER_ID}
    first, last = arrived(tmp_path / "first", roster | tests), arrived(tmp_path / "last", tests | roster)
    assert set(first.ledger()["match_column"].drop_nulls()) == {"StudentID", "Student_StateID"}
    assert first.table("screening_result").height == 20
    assert_same(first.tables(), last.tables())


@pytest.mark.slow
def test_a_file_the_roster_would_hold_is_not_matched_by_chance_when_it_came_before(tmp_path: Path):
    """One id in ten stands in the roster by accident: held with a roster, nobody's without."""
    roster = {"2025-08-01/users.csv": users_file(*STUDENTS)}
    strangers = map_file(*(map_row(each, 186) for each in [*(f"8{n}" for n in STUDENTS[:9]), STUDENTS[0]]))
    first = arrived(tmp_path / "first", roster | {"2025-10-01/a.csv": strangers})
    last = arrived(tmp_path / "last", {"2025-10-01/a.csv": strangers} | roster)
    assert first.ledger()["held_rule"].drop_nulls().to_list() == ["match_rate"]
    assert last.table("screening_result").is_empty()
    assert_same(first.tables(), last.tables())


@pytest.mark.slow
def test_students_the_roster_does_not_list_wait_whichever_came_first(tmp_path: Path):
    roster = {"2025-08-01/users.csv": users_file(*STUDENTS[:10])}
    tests = {"2025-10-01/a.csv": map_file(*(map_row(each, 186) for each in STUDENTS[:12]))}
    first, last = arrived(tmp_path / "first", roster | tests), arrived(tmp_path / "last", tests | roster)
    assert first.ledger()["parked"].sum() == 2
    assert last.ledger()["parked"].sum() == 0
    assert_same(first.tables(), last.tables())
    for place in (first, last):
        place.load("2025-09-01/users.csv", users_file(*STUDENTS))
        place.refresh()
    assert first.table("screening_result").height == 12
    assert_same(first.tables(), last.tables())


# A district


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, ...]]:
    """What a small district lands, by unit: a roster folder arrives whole, every other file alone."""
    folder = tmp_path_factory.mktemp("made")
    (made,) = simulate(folder, students=60, schools=2, seed=3)
    fall = made.path / "map_growth" / "AssessmentResults_Fall_2025-2026.csv"
    rows = list(csv.reader(io.StringIO(fall.read_text("utf-8-sig"))))
    score = rows[0].index("TestRITScore")
    early, corrected = [row.copy() for row in rows], [row.copy() for row in rows]
    for row in early[1:9]:
        row[score] = "150"
    for row in corrected[5:12]:
        row[score] = "151"
    written(made.path / "2025-09-20" / "early.csv", early)
    written(made.path / "2026-06-20" / "corrected.csv", corrected)
    winter = (made.path / "map_growth" / "AssessmentResults_Winter_2025-2026.csv").read_text("utf-8-sig")
    combo = made.path / "2026-02-20" / "ComboStudentAssessment.csv"
    combo.parent.mkdir()
    combo.write_text(combo_of(winter))
    later_roster(made.path / "roster", made.path / "2026-06-25")
    units: dict[str, tuple[Path, ...]] = {}
    for path in sorted(made.path.rglob("*.csv")):
        name = path.relative_to(folder).as_posix()
        unit = name.rpartition("/")[0] if "roster" in name or "2026-06-25" in name else name
        units[unit] = (*units.get(unit, ()), path)
    return units


def written(path: Path, rows: list[list[str]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def later_roster(roster: Path, out: Path) -> None:
    """A delta at the end of the year: a new student, who was tested in spring, and an enrolment withdrawn."""
    users = list(csv.reader(io.StringIO((roster / "users.csv").read_text("utf-8-sig"))))
    role = users[0].index("role")
    student = next(row for row in users[1:] if row[role] == "student")
    new = [cell.replace(student[0], "NEW1") for cell in student]
    new[users[0].index("identifier")] = "990001"
    written(out / "users.csv", [users[0], new])
    enrolments = list(csv.reader(io.StringIO((roster / "enrollments.csv").read_text("utf-8-sig"))))
    names = enrolments[0]
    mine = next(row for row in enrolments[1:] if row[names.index("role")] == "student")
    gone = mine.copy()
    gone[names.index("status")] = "tobedeleted"
    joined = mine.copy()
    joined[0], joined[names.index("userSourcedId")] = "NEWE1", new[0]
    written(out / "enrollments.csv", [names, gone, joined])


def place_of(root: Path) -> Place:
    return Place(root, POLICY, DISTRICT)


def land(place: Place, unit: str, paths: Sequence[Path]) -> None:
    for path in paths:
        inside = path.relative_to(next(p for p in path.parents if p.name == DISTRICT))
        (place.landing / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place.landing / inside)


@pytest.fixture(scope="module")
def at_once(files: dict[str, tuple[Path, ...]], tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Everything landed together and loaded in one run."""
    place = place_of(tmp_path_factory.mktemp("at_once"))
    for unit, paths in files.items():
        land(place, unit, paths)
    assert {row["status"] for row in place.load().rows} == {"loaded"}
    place.refresh()
    return place


def test_the_district_has_something_in_every_table(at_once: Place):
    sizes = {name: rows.height for name, rows in at_once.tables().items()}
    assert {name for name, rows in sizes.items() if not rows} == {"screening_accuracy"}, sizes  # names no outcome test
    assert at_once.ledger()["facts_corrected"].sum() > 0
    assert at_once.events("identity").height + at_once.events("not_tested").height >= 0


def test_the_same_landing_folder_twice_appends_nothing(at_once: Place, files: dict[str, tuple[Path, ...]]):
    before, events, ledger = at_once.tables(), at_once.all_events(), at_once.ledger()
    for unit, paths in files.items():
        land(at_once, unit, paths)
    report = at_once.load()
    assert (report.rows, report.still_held) == ([], 0)
    assert report.unchanged_files == ledger.height
    assert at_once.all_events() == events
    assert at_once.ledger().equals(ledger)
    assert at_once.refresh().unchanged == [DISTRICT]
    assert_same(before, at_once.tables())


@pytest.mark.parametrize(
    "order",
    [
        "random 1",
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in ("roster last", *(f"random {n}" for n in range(2, 6)))
        ),
    ],
)
def test_files_in_any_order_give_equal_projections(
    at_once: Place, files: dict[str, tuple[Path, ...]], tmp_path: Path, order: str
):
    units = sorted(files)
    random.Random(order).shuffle(units)
    if order == "roster last":
        units.sort(key=lambda unit: "roster" in unit or "2026-06-25" in unit)
    place = place_of(tmp_path)
    portion = 3 if order == "random 1" else 1
    for number, unit in enumerate(units, 1):
        land(place, unit, files[unit])
        if number % portion:
            continue
        place.load()  # what comes between the two rosters is held until the first
        if number == len(units) // 2 // portion * portion:
            place.refresh()  # what stood half way leaves no trace
    assert place.load().still_held == 0
    place.refresh()
    assert_same(at_once.tables(), place.tables())


def test_projections_rebuilt_from_the_log_are_identical(at_once: Place, tmp_path: Path):
    rebuilt = Projections(str(tmp_path / "rebuilt"))
    refresh(at_once.log, rebuilt, {DISTRICT: at_once.home.policy(DISTRICT)})
    for contract, table in rebuilt.tables.items():
        rows = at_once.projections.read(contract).collect()
        assert_frame_equal(table.scan().collect(), rows, check_row_order=False)


def test_a_refresh_without_news_touches_nothing(at_once: Place):
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in projection_files(at_once)}
    report = at_once.refresh()
    assert (report.updated, report.unchanged, report.rows) == ([], [DISTRICT], {})
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in projection_files(at_once)} == before


def projection_files(place: Place) -> list[Path]:
    return [path for path in Path(place.home.projections).rglob("*") if path.is_file()]


# What a change touches


def test_a_change_touches_only_its_district_and_year(tmp_path: Path):
    places = {each: Place(tmp_path, district=each) for each in ("d1", "d2")}
    for place in places.values():
        old = map_file(*(map_row(s, 180, term="Fall 2024-2025", day="09/10/2024", test=f"o{s}") for s in STUDENTS))
        place.load("2024-10-01/map.csv", old)
        place.load("2025-10-01/map.csv", map_file(*(map_row(each, 186) for each in STUDENTS)))
    home = places["d1"].home
    policies = {each: home.policy(each) for each in places}
    log, projections = places["d1"].log, places["d1"].projections
    assert len(refresh(log, projections, policies).updated) == 4
    before = projections.files()
    places["d2"].load("2025-10-08/map.csv", map_file(map_row(STUDENTS[0], 187)))
    report = refresh(log, projections, policies)
    assert (report.updated, report.unchanged) == ([("d2", "2026")], ["d1"])
    for name, files in projections.files().items():
        assert all("district_id=d2/school_year=2026" in each for each in set(files) ^ set(before[name]))


@pytest.mark.slow
def test_a_correction_out_of_scope_of_the_projections_is_no_news(tmp_path: Path):
    place = Place(tmp_path)
    place.load("2025-10-01/map.csv", map_file(map_row("1", 186)))
    place.refresh()
    place.load("2025-10-08/map.csv", map_file(map_row("1", 186), map_row("2", 190, subject="Science K-12")))
    report = place.refresh()
    assert (report.updated, report.rows) == ([], {})


# Enrolments and the years they touch

ENROLMENTS = (
    "sourcedId,status,dateLastModified,classSourcedId,schoolSourcedId,userSourcedId,role,primary,beginDate,endDate"
)


def enrolled(begin: str, end: str, more: str = "") -> str:
    return f"{ENROLMENTS}\nE1,active,,C1,s1,S1,student,true,{begin},{end}\n{more}"


def years(place: Place) -> dict[str, list[str]]:
    """School years in which each kind of enrolment fact is shown."""
    roster = current_facts(place.log, [place.district], place.ledger(), ["roster"])["roster"]
    kinds = ("StudentEnrolled", "EnrollmentEnded")
    return {k: sorted(roster.filter(pl.col("event_type") == k)["school_year"].to_list()) for k in kinds}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_open_enrolment_is_in_every_year_in_which_it_was_exported(tmp_path: Path, order: tuple[int, int]):
    exports = (
        ("2025-10-01/enrollments.csv", enrolled("2025-08-20", "")),
        ("2026-10-01/enrollments.csv", enrolled("2025-08-20", "", "\n")),
    )
    place = Place(tmp_path)
    for number in order:
        place.load(*exports[number])
    assert years(place) == {"StudentEnrolled": ["2026", "2027"], "EnrollmentEnded": []}


def test_an_enrolment_that_ended_is_in_no_later_year(tmp_path: Path):
    place = Place(tmp_path)
    place.load("2026-10-01/enrollments.csv", enrolled("2025-08-20", "2026-05-29"))
    assert years(place) == {"StudentEnrolled": ["2026"], "EnrollmentEnded": ["2026"]}


def test_an_enrolment_of_two_years_is_in_both_with_its_end(tmp_path: Path):
    place = Place(tmp_path)
    place.load("2026-10-01/enrollments.csv", enrolled("2025-08-20", "2027-05-28"))
    assert years(place) == {"StudentEnrolled": ["2026", "2027"], "EnrollmentEnded": ["2026", "2027"]}


def test_an_end_planned_years_ahead_touches_no_year_that_nobody_exported(tmp_path: Path):
    place = Place(tmp_path)
    place.load("2025-10-01/enrollments.csv", enrolled("2025-08-20", "2029-05-28"))
    assert years(place) == {"StudentEnrolled": ["2026"], "EnrollmentEnded": ["2026"]}
