"""The Tennessee sample as a district: what is written and what is recounted agree."""

import csv
import gzip
from collections import Counter
from pathlib import Path

import pytest

from tests import tennessee_star

SAMPLE = "student_id,school_id,class_id,grade,math_score,read_score\n" + "".join(
    f"{100 + number},{4 if number < 12 else 28},{11 if number < 12 else 12},{grade},{score},1\n"
    for grade in ("K", "3")
    for number, score in enumerate([400, 410, 410, "", 430, 440, 450, 460, 470, 480, 490, 500, 401, 402, 411, "", 600])
)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "sample.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write(SAMPLE)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_ranks_are_within_the_grade_with_half_of_the_ties(sample: Path, tmp_path: Path):
    tennessee_star.write(sample, tmp_path / "out")
    tests = rows(tmp_path / "out" / "sat_math_1986-06-01.csv")
    rank = {row["student_id"]: int(row["percentile"]) for row in tests}
    assert len(tests) == 15
    assert rank["100"] == 3  # nobody below, half of itself: 100 x 0.5 / 15
    assert rank["101"] == rank["102"] == 26  # three below, half of two: 100 x 4 / 15
    assert rank["116"] == 96
    assert {row["window"] for row in tests} == {"spring"} and {row["school_year"] for row in tests} == {"1986"}


def test_the_recount_agrees_with_the_files(sample: Path, tmp_path: Path):
    tennessee_star.write(sample, tmp_path / "out")
    enrolled: Counter[str] = Counter()
    seat = {}
    for row in rows(tmp_path / "out" / "roster" / "enrollments.csv"):
        if row["role"] == "student":
            enrolled[row["classSourcedId"]] += 1
            seat[row["userSourcedId"], row["endDate"][:4]] = row["classSourcedId"]
    tested: Counter[str] = Counter()
    need: Counter[str] = Counter()
    for year in (1986, 1989):
        for row in rows(tmp_path / "out" / f"sat_math_{year}-06-01.csv"):
            tested[seat["S" + row["student_id"], row["school_year"]]] += 1
            need[seat["S" + row["student_id"], row["school_year"]]] += int(row["percentile"]) < 20
    counts = tennessee_star.recount(sample)
    assert [each["class_id"] for each in counts] == ["K-11", "K-12", "3-11", "3-12"]
    assert counts[0] == {
        "school_year": "1986",
        "school_id": "TN04",
        "class_id": "K-11",
        "grade": "K",
        "enrolled": 12,
        "tested": 11,
        "below_20": 1,
        "below_25": 1,
    }
    for each in counts:
        key = each["class_id"]
        assert (each["enrolled"], each["tested"], each["below_20"]) == (enrolled[key], tested[key], need[key])
