"""What one change touches: the rows that rest on it, the tables of its district and year, and no other file."""

import csv
import hashlib
import io
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
import pytest

from pipelines.corrections import merge, retract
from pipelines.refresh import READS, TIERS_FOLLOW, refresh
from schemas.contract import table_name
from tests.homes import POLICY, Place, map_file, map_row, read_tables, users_file
from tests.test_equality import ENROLMENTS, assert_same
from warehouse.projections import Projections

STUDENTS = "ABCDEFGH"
FULL = POLICY + 'full_extracts = ["nwea_map_assessment_results"]\n'
CLASSES = (
    "sourcedId,status,dateLastModified,title,grades,courseSourcedId,classCode,classType,location,schoolSourcedId,"
    "termSourcedIds,subjects,subjectCodes,periods\n"
    "X,active,,,04,,,scheduled,,s1,,Mathematics,02034,1\n"
    "Y,active,,,04,,,scheduled,,s1,,Mathematics,02034,2\n"
)
STAR = Path(__file__).parent / "exports" / "star_math.csv"
BEFORE = {"term": "Fall 2024-2025", "day": "09/10/2024"}
PARTITION = ["district_id", "school_year"]
Change = Callable[[Place], object]
FROM_TESTS = frozenset(table_name(each) for each, families in READS.items() if "screening" in families)
FROM_ROSTERS = frozenset(table_name(each) for each, families in READS.items() if "roster" in families)
FROM_TIERS = frozenset(map(table_name, TIERS_FOLLOW))


def enrolled(**moved: tuple[str, str]) -> str:
    """Everybody in class X or Y from the first of two years on; who ``moved`` left the first class on a day."""
    lines = []
    for number, student in enumerate(STUDENTS):
        first, second = ("X", "Y") if number % 2 else ("Y", "X")
        end, begin = moved.get(student, ("", ""))
        lines.append(f"e{student},active,,{first},s1,S{student},student,true,2024-08-20,{end}")
        if begin:
            lines.append(f"f{student},active,,{second},s1,S{student},student,true,{begin},")
    return "\n".join((ENROLMENTS, *lines)) + "\n"


def scores(number: int, without: str = "", **said: int) -> str:
    """A full extract: percentile 30 of each student but these; a row of another subject makes its bytes its own."""
    there = [each for each in STUDENTS if each not in without]
    rows = [map_row(each, 150 + said.get(each, 30), percentile=said.get(each, 30)) for each in there]
    return map_file(*rows, map_row("A", 150 + number, subject="Science K-12", test=f"s{number}"))


def before(**said: int) -> str:
    """The export of the year before."""
    return map_file(
        *(
            map_row(each, 150 + said.get(each, 30), percentile=said.get(each, 30), test=f"o{each}", **BEFORE)
            for each in STUDENTS
        )
    )


def star(status: str) -> str:
    """One Star test of G."""
    with STAR.open(encoding="utf-8-sig") as file:
        row = next(csv.DictReader(file))
    own = {"StudentIdentifier": "G", "AssessmentStatus": status, "AssessmentID": "star G", "SchoolYear": "2025-2026"}
    dated = {"CompletedDateLocal": "2025-09-11T10:00:00.000Z", "CompletedDate": "2025-09-11T16:00:00.000Z"}
    others = dict.fromkeys(("StudentStateID", "StudentSourcedID", "StudentUserID", "StudentRenaissanceID"), "")
    out = io.StringIO()
    writer = csv.DictWriter(out, list(row), lineterminator="\n")
    writer.writeheader()
    writer.writerow(row | own | dated | others)
    return out.getvalue()


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Two school years of one district, and another district."""
    place, other = (Place(tmp_path_factory.getbasetemp() / "changes", FULL, each) for each in ("d1", "d2"))
    place.land("2024-09-01/classes.csv", CLASSES)
    place.land("2024-09-01/users.csv", users_file(*STUDENTS))
    place.land("2025-09-01/enrollments.csv", enrolled())
    place.land("2024-09-20/map.csv", before(A=5))
    place.land("2025-09-20/map.csv", scores(1))
    place.land("2025-09-20/star.csv", star("Active"))
    other.land("2025-09-20/map.csv", scores(2))
    for each in (place, other):
        assert {row["status"] for row in each.load().rows} == {"loaded"}
    brought_up(place)
    return place


@pytest.fixture
def place(lived: Place, tmp_path: Path) -> Place:
    made = lived.copy(tmp_path)
    (made.home.policies / "d2.toml").write_text(FULL)
    return made


def brought_up(place: Place, projections: Projections | None = None) -> dict[str, pl.DataFrame]:
    store = projections or place.projections
    refresh(place.log, store, {each: place.home.policy(each) for each in ("d1", "d2")})
    return read_tables(store)


def key_of(place: Place, student: str) -> str:
    tests = place.table("screening_result").filter(pl.col("district_id") == "d1")
    events = place.events().filter(pl.col("vendor_test_id") == f"t{student}")
    return str(tests.join(events.select("natural_key"), on="natural_key", how="semi")["subject_key"][0])


def event(place: Place, student: str, percentile: int) -> str:
    tests = place.events().filter(pl.col("vendor_test_id") == f"t{student}", pl.col("percentile") == percentile)
    return str(tests["event_id"][0])


def withdraw(place: Place) -> None:
    for number, day in enumerate(("2025-10-01", "2025-10-08"), 10):
        place.load(f"{day}/map.csv", scores(number, without="C"))


def correct(place: Place) -> None:
    place.load("2025-10-01/map.csv", scores(20, B=7))


def take_back(place: Place) -> None:
    correct(place)
    brought_up(place)
    retract(place.home, event(place, "B", 7), "correction_was_wrong", sources=place.sources())


def same_person(place: Place) -> None:
    merge(place.home, key_of(place, "E"), key_of(place, "F"), "Said so.", place.sources())


CHANGES: Mapping[str, tuple[Change, str, set[str], frozenset[str]]] = {
    "a corrected score": (correct, "B", {"2026"}, FROM_TESTS),
    "a retraction": (take_back, "B", {"2026"}, FROM_TESTS),
    "a test that full extracts lack": (withdraw, "C", {"2026"}, FROM_TESTS),
    "a deactivated Star test": (
        lambda place: place.load("2025-10-01/star.csv", star("Deactivated")), "G", {"2026"}, FROM_TESTS,
    ),
    "a moved enrolment": (
        lambda place: place.load("2025-10-01/enrollments.csv", enrolled(D=("2025-09-05", "2025-09-08"))),
        "D", {"2025", "2026"}, FROM_ROSTERS,
    ),
    "a merge": (same_person, "EF", {"2025", "2026"}, FROM_TESTS | FROM_ROSTERS),
    "an old score that moves no tier": (
        lambda place: place.load("2024-10-01/map.csv", before(A=5, B=40)), "B", {"2025"}, FROM_TESTS,
    ),
    "an old score that moves a tier": (
        lambda place: place.load("2024-10-01/map.csv", before()), "A", {"2025", "2026"}, FROM_TESTS,
    ),
}  # fmt: skip
"""What happens, to whom, the years it is about, and the tables that read facts of that kind."""
FAST = ("an old score that moves a tier",)
ABOUT_STUDENTS = ("screening_result", "need_level", "tier_placement", "class_membership")


def rewritten(place: Place, before: dict[str, list[str]]) -> set[tuple[str, str, str]]:
    """Partitions that have other files than before: table, district, school year."""
    changed = {
        (name, each) for name, files in place.projections.files().items() for each in set(files) ^ {*before[name]}
    }
    return {(name, *(part.split("=")[1] for part in path.split("/")[-3:-1])) for name, path in changed}


def digests(files: dict[str, list[str]]) -> dict[str, str]:
    return {each: hashlib.sha256(Path(each).read_bytes()).hexdigest() for names in files.values() for each in names}


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CHANGES]
)
def test_a_change_reaches_the_rows_that_rest_on_it_and_writes_no_other_file(place: Place, tmp_path: Path, name: str):
    change, students, years, tables = CHANGES[name]
    keys = {key_of(place, each) for each in students}
    if change is take_back:
        correct(place)
        brought_up(place)
        change = lambda place: retract(  # noqa: E731
            place.home, event(place, "B", 7), "correction_was_wrong", sources=place.sources()
        )
    was, files = place.tables(), place.projections.files()
    bytes_before = digests(files)
    change(place)
    now = brought_up(place)
    touched = rewritten(place, files)
    assert touched
    first = {each for each in touched if each[2] == min(years)}
    assert {district for _, district, _ in touched} == {"d1"}
    assert {year for _, _, year in touched} == years
    assert {table for table, _, _ in first} <= tables | {"quality_result"}
    if name.endswith("moves a tier"):
        later = {table for table, _, year in touched if year == "2026"}
        assert "tier_placement" in later
        assert later <= FROM_TIERS, "the year after takes the tiers and nothing else"
    kept = digests(place.projections.files())
    assert all(bytes_before[each] == digest for each, digest in kept.items() if each in bytes_before)
    for table in ABOUT_STUDENTS:
        differing = differs(was[table], now[table])
        assert set(differing["subject_key"]) <= keys, table
        assert set(differing["school_year"]) <= years
    assert any(differs(was[table], now[table]).height for table in ABOUT_STUDENTS)
    assert_same(now, brought_up(place, Projections(str(tmp_path / "anew"))))


def differs(was: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """Rows that one of the two has and the other has not, but for their input id."""
    rows = pl.concat([each.select(pl.exclude("input_id", "strands")) for each in (was, now)])
    return rows.filter(pl.struct(pl.all()).is_unique())


@pytest.mark.slow
def test_what_is_taken_back_leaves_ids_and_bytes_as_they_were(place: Place):
    was = place.tables()
    take_back(place)
    now = brought_up(place)
    for name, rows in was.items():
        assert rows.equals(now[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_enrolments_and_withdrawals_mean_the_same_in_whatever_order_their_exports_arrive(tmp_path: Path, seed: int):
    exports = [
        ("2025-09-01/enrollments.csv", enrolled()),
        ("2025-10-01/enrollments.csv", enrolled(D=("2025-09-05", "2025-09-08"))),
        ("2025-11-01/enrollments.csv", enrolled(D=("2025-09-06", "2025-09-08"), B=("2025-09-01", "2025-09-02"))),
        ("2025-09-20/map.csv", scores(1)),
        ("2025-10-01/map.csv", scores(2, without="C")),
        ("2025-10-08/map.csv", scores(3, without="C", B=7)),
        ("2025-10-15/map.csv", scores(4, without="CH")),
        ("2025-10-22/map.csv", scores(5, without="H")),
    ]
    roster = [("2024-09-01/classes.csv", CLASSES), ("2024-09-01/users.csv", users_file(*STUDENTS))]
    tables = []
    for number in range(2):
        arrived = list(exports)
        if number:
            random.Random(seed).shuffle(arrived)
        place = Place(tmp_path / str(number), FULL)
        for name, text in [*roster, *arrived]:
            assert [row["status"] for row in place.load(name, text).rows] == ["loaded"]
        place.refresh()
        tables.append(place.tables())
    tests = tables[0]["screening_result"]
    assert tests["subject_key"].n_unique() == len(STUDENTS) - 1, "H was withdrawn, C came back"
    assert_same(*tables)
