"""The vendors' own sample files, outside the repository: each loads without a roster and shows every score in it.

What a file says is counted here again by the csv module alone.
"""

import csv
import gzip
import io
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from tests.homes import ROW_OUTCOMES, Place, read_tables

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "samples"
MAP = SAMPLES / "nwea_map_growth" / "MAP_Growth_sample_anonymized_file.csv"
IREADY = SAMPLES / "iready"
FASTBRIDGE = SAMPLES / "fastbridge"
ONEROSTER = SAMPLES / "oneroster_csv"

Score = tuple[str | None, str | None, float, float | None, float | None]
"""Measure, day, score, standard error, percentile."""

pytestmark = pytest.mark.skipif(
    not SAMPLES.exists(), reason=f"{SAMPLES} is not here: the vendors' sample files are not checked"
)


def records(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows; a short last row is filled up."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    header, *rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    return header, [row + [""] * (len(header) - len(row)) for row in rows]


def named(path: Path) -> list[dict[str, str]]:
    header, rows = records(path)
    return [dict(zip(header, row, strict=True)) for row in rows]


def day(text: str) -> str | None:
    return datetime.strptime(text, "%m/%d/%Y").date().isoformat() if text else None  # noqa: DTZ007


def number(text: str) -> float | None:
    return float(text) if text not in ("", "N/A*", "*") else None


# What the samples say, by hand


def map_scores(path: Path) -> list[Score]:
    return [
        ("map_growth_math", day(row["TestStartDate"]), float(row["TestRITScore"]),
         number(row["TestStandardError"]), number(row["TestPercentile"]))
        for row in named(path)
        if row["Subject"] == "Mathematics"
    ]  # fmt: skip


def iready_scores(path: Path) -> list[Score]:
    return [
        ("iready_math", day(row["Completion Date"]), float(row["Overall Scale Score"]), None, number(row["Percentile"]))
        for row in named(path)
    ]


BLOCKS = {
    "amath": (r"^(?P<season>.+) aMath Test Theta$", "aMath Final Date", "aMath Percentile at Nation"),
    "cbmmath_cap": (r"^(?P<season>.+) CBMmath CAP IC per ten minute$", "CAP Final Date", "CAP Percentile at Nation"),
    "cbmmath_auto": (r"^(?P<season>.+) AUTO (?P<level>L\d) GOM IC per ten minute$", "Final Date", "at Nation"),
    "cbmmath_process": (r"^(?P<season>.+) PROC (?P<level>L\d) GOM IC per ten minute$", "Final Date", "at Nation"),
}


def fastbridge_scores(path: Path) -> list[Score]:
    """Blocks of a wide file, each from its score to the next: the names of the columns between repeat."""
    kind = next(
        kind for kind in BLOCKS if path.stem.replace("aMath", "amath").replace("cbmm_", "cbmmath_").endswith(kind)
    )
    opens, date_name, percentile_name = BLOCKS[kind]
    header, rows = records(path)
    starts = [(at, found) for at, name in enumerate(header) if (found := re.search(opens, name))]
    scores: list[Score] = []
    for (at, found), end in zip(starts, [*(at for at, _ in starts[1:]), len(header)], strict=True):
        of = {name: at + place for place, name in reversed(list(enumerate(header[at:end])))}
        when = next(place for name, place in of.items() if name.endswith(date_name))
        percentile = next(place for name, place in of.items() if name.endswith(percentile_name))
        level = found.groupdict().get("level")
        measure = f"fastbridge_{kind}" + (f"_{level.lower()}" if level else "")
        scores += [
            (measure, day(row[when]), float(row[at]), None, number(row[percentile]))
            for row in rows
            if row[at] and row[when]
        ]
    return scores


@dataclass(frozen=True)
class Sample:
    path: Path
    layout: str
    scores: Callable[[Path], list[Score]]
    out_of_scope: int = 0
    unreadable: int = 0
    """Scores whose day lies before any export of this kind: invented rows."""


SCORED = [
    Sample(MAP, "nwea_map_assessment_results", map_scores, out_of_scope=4),
    Sample(IREADY / "i-Ready_sample_anonymized_file_math.csv", "iready_2026", iready_scores),
    Sample(SAMPLES / "oea_iready" / "diagnostic_results_math.csv.gz", "iready_2022", iready_scores),
    Sample(FASTBRIDGE / "sample_anonymized_aMath.csv", "fastbridge_amath", fastbridge_scores),
    Sample(FASTBRIDGE / "fake_aMath.csv", "fastbridge_amath", fastbridge_scores, unreadable=1),
    Sample(FASTBRIDGE / "sample_anonymized_file_cbmm_cap.csv", "fastbridge_cbmmath_cap", fastbridge_scores),
    Sample(FASTBRIDGE / "sample_anonymized_file_cbmm_auto.csv", "fastbridge_cbmmath_auto", fastbridge_scores),
    Sample(FASTBRIDGE / "sample_anonymized_file_cbmm_process.csv", "fastbridge_cbmmath_process", fastbridge_scores),
]

SLOW = [each for each in SCORED if each.path.stem.endswith(("cbmm_auto", "cbmm_process"))]
"""The other files of the widest export are read by the same code."""


def landed(place: Place, path: Path) -> dict[str, object]:
    """Land a sample alone, load it, and give its ledger row."""
    place.landing.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, place.landing / path.name)
    report = place.load()
    assert report.refused == []
    (row,) = report.rows
    return row


@pytest.mark.parametrize(
    "sample",
    [pytest.param(each, marks=pytest.mark.slow if each in SLOW else ()) for each in SCORED],
    ids=lambda sample: sample.path.stem,
)
def test_every_score_of_a_sample_is_a_screening_result(tmp_path: Path, sample: Sample):
    place = Place(tmp_path)
    row = landed(place, sample.path)
    assert (row["layout"], row["status"], row["held_rule"]) == (sample.layout, "loaded", None)
    assert row["data_rows"] == len(records(sample.path)[1])
    assert row["out_of_scope"] == sample.out_of_scope
    place.refresh()
    shown = place.table("screening_result")
    found = Counter(
        (measure, None if when is None else when.isoformat(), score, error, percentile)
        for measure, when, score, error, percentile in shown.select(
            "measure", "occurred_on", "score", "standard_error", "percentile"
        ).rows()
    )
    meant = Counter(sample.scores(sample.path))
    assert meant
    assert found - meant == Counter()
    assert (meant - found).total() == sample.unreadable
    assert shown["natural_key"].n_unique() == shown.height


def test_a_vendor_id_that_three_students_share_keeps_three_students(tmp_path: Path):
    place = Place(tmp_path)
    landed(place, MAP)
    shared = place.events().filter(pl.col("vendor_test_id") == "711524321")
    assert (shared.height, shared["subject_key"].n_unique()) == (3, 3)
    place.refresh()
    assert place.table("screening_result")["subject_key"].n_unique() == 3


OTHER_SUBJECTS = {
    IREADY / "i-Ready_sample_anonymized_file_ela.csv": "iready_ela",
    SAMPLES / "renaissance_star" / "SR_sample_anonymized_file.csv": "star_reading",
}


@pytest.mark.parametrize("path", OTHER_SUBJECTS, ids=lambda path: path.stem)
def test_a_file_of_another_subject_is_out_of_scope(tmp_path: Path, path: Path):
    place = Place(tmp_path)
    row = landed(place, path)
    assert (row["layout"], row["status"]) == (OTHER_SUBJECTS[path], "loaded")
    assert row["out_of_scope"] == row["data_rows"] == len(named(path))
    assert place.all_events() == 0


UNKNOWN = [
    FASTBRIDGE / "FastBridge_Math_earlyMath_sample_anonymized_file.csv",
    SAMPLES / "oea_iready" / "diagnostic_and_instruction_math_ytd_window.csv.gz",
    SAMPLES / "oea_iready" / "personalized_instruction_by_lesson_math.csv.gz",
    SAMPLES / "renaissance_star" / "SR_SkillArea_v1_sample_anonymized_file.csv",
    SAMPLES / "datas_tutoring" / "session_dictionary.csv",
]


@pytest.mark.parametrize("path", UNKNOWN, ids=lambda path: path.stem)
def test_a_file_that_no_layout_describes_is_held(tmp_path: Path, path: Path):
    place = Place(tmp_path)
    row = landed(place, path)
    assert (row["status"], row["layout"], row["held_rule"]) == ("held", None, "unknown_layout")
    assert row["data_rows"] == len(named(path))


# Tutoring


def test_every_math_session_of_the_tutoring_sample_is_a_fact(tmp_path: Path):
    path = SAMPLES / "datas_tutoring" / "session_example_first3000.csv"
    place = Place(tmp_path)
    row = landed(place, path)
    rows = named(path)
    math = [row for row in rows if row["session_topic"] == "math"]
    repeats = len(math) - len({tuple(row.values()) for row in math})
    assert row["layout"] == "datas_sessions"
    assert {name: row[name] for name in ROW_OUTCOMES if row[name]} == {
        "parsed": len(math) - repeats,
        "out_of_scope": len(rows) - len(math),
    } | ({"duplicate_in_file": repeats} if repeats else {})
    events = place.events("session")
    assert events["event_type"].value_counts().sort("event_type")["count"].to_list() == [len(math)] * 2
    minutes = Counter(float(row["session_duration"]) for row in math)
    held = events.filter(pl.col("event_type") == "SessionHeld")
    assert Counter(held["held_minutes"].to_list()) == minutes
    assert held["subject_key"].n_unique() == len({row["student_id"] for row in math})


def test_every_filled_cell_of_the_tutored_students_is_a_description(tmp_path: Path):
    path = SAMPLES / "datas_tutoring" / "student_example_first1000.csv"
    place = Place(tmp_path)
    row = landed(place, path)
    described = ("current_grade_level", "gender", "ethnicity", "ell", "iep", "gifted_flag", "homeless_flag",
                 "disability", "economic_disadvantage")  # fmt: skip
    filled = sum(bool(each[name]) and each[name] != "Unknown" for each in named(path) for name in described)
    assert (row["layout"], row["parsed"], row["facts_appended"]) == ("datas_students", 1000, filled)


# Rosters


ROSTERS = {
    ONEROSTER / "moodle_enrol_oneroster" / "Test_full_data_set.zip": ("oneroster_users_1p1", 6, 6),
    ONEROSTER / "moodle_enrol_oneroster" / "oneroster_test_data.zip": ("oneroster_users_1p2", 1, 1),
    ONEROSTER / "moodle_enrol_oneroster" / "v1p2_full_dataset.zip": ("oneroster_users_1p2", 6, 6),
    ONEROSTER / "oat_sa_oneroster_import" / "OneRosterv1p1BaseCSV": ("oneroster_users_1p1", 2, 3),
}
"""Archive or folder to: layout of its users, its users, its enrolments."""


@pytest.mark.slow
@pytest.mark.parametrize("path", ROSTERS, ids=lambda path: path.stem)
def test_a_roster_loads_whole(tmp_path: Path, path: Path):
    place = Place(tmp_path)
    if path.is_dir():
        shutil.copytree(path, place.landing / "roster", copy_function=shutil.copyfile)
    else:
        place.land(path.name, path.read_bytes())
    report = place.load()
    assert report.refused == []
    rows = {Path(str(row["file"]).replace("!", "/")).stem: row for row in report.rows}
    assert {row["status"] for row in rows.values()} == {"loaded"}
    assert sum(int(str(row["rejected"])) for row in rows.values()) == 0
    layout, users, enrolments = ROSTERS[path]
    assert (rows["users"]["layout"], rows["users"]["data_rows"]) == (layout, users)
    assert rows["enrollments"]["data_rows"] == enrolments
    assert place.refresh().held == []
    students = place.events("roster").filter(pl.col("event_type") == "StudentEnrolled")
    assert students["role"].unique().to_list() == ["student"]


# Two exports of one test


def combo_of(path: Path) -> str:
    """The Combo file of the same tests (FORMATS 1): no test id and no growth flag, the student's name and grade."""
    rows = named(path)
    names = [name for name in rows[0] if name not in ("TestID", "GrowthMeasureYN")]
    more = ("StudentLastName", "StudentFirstName", "StudentMI", "StudentDateOfBirth", "StudentEthnicGroup",
            "NWEAStandard_EthnicGroup", "StudentGender", "Grade", "NWEAStandard_Grade")  # fmt: skip
    out = io.StringIO()
    writer = csv.DictWriter(out, [*names, *more], restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "StudentLastName": "Nobody", "Grade": "8"} for row in rows)
    return out.getvalue()


@pytest.mark.parametrize(
    "days", [pytest.param(("2021-10-01", "2021-10-02"), marks=pytest.mark.slow), ("2021-10-01", "2021-10-01")]
)
def test_assessment_results_then_combo_and_the_reverse_give_the_same(tmp_path: Path, days: tuple[str, str]):
    exports = {f"{days[0]}/AssessmentResults.csv": MAP.read_text(), f"{days[1]}/Combo.csv": combo_of(MAP)}
    shown = []
    for turn, order in enumerate((list(exports), list(exports)[::-1])):
        place = Place(tmp_path / str(turn))
        for name in order:
            (row,) = place.load(name, exports[name]).rows
            assert (row["status"], row["facts_appended"]) == ("loaded", 3)
        place.refresh()
        shown.append(read_tables(place.projections))
    for name in shown[0]:
        assert shown[0][name].equals(shown[1][name]), name
    tests = shown[0]["screening_result"]
    assert tests.select("exports", "grade", "is_growth_measure", "score").rows() == [(2, "8", True, 233.0)] * 3
