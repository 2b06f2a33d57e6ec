"""Real classes: the 20 schools of Tennessee STAR, from files to decisions, agree with a recount of the raw file."""

from pathlib import Path

import pytest

from tests import tennessee_star
from tests.homes import Place

SAMPLE = Path(__file__).resolve().parents[2] / "shared" / "samples" / "star" / "star_sample.csv.gz"


@pytest.fixture(scope="module")
def tennessee(tmp_path_factory: pytest.TempPathFactory) -> Place:
    if not SAMPLE.exists():
        pytest.skip(f"{SAMPLE} is not here: the Tennessee classes are not checked")
    place = Place(tmp_path_factory.mktemp("tennessee"), district="tn")
    tennessee_star.write(SAMPLE, place.landing)
    assert {row["status"] for row in place.load().rows} == {"loaded"}
    place.refresh()
    return place


def test_no_row_is_refused_and_every_student_is_found(tennessee: Place):
    ledger = tennessee.ledger()
    assert ledger["rejected"].sum() == ledger["parked"].sum() == 0
    assert ledger["match_rate"].drop_nulls().to_list() == [1.0] * 4


def test_the_counts_of_every_class_are_those_of_the_raw_file(tennessee: Place):
    decided = tennessee.table("class_decision")
    counts = {
        (row["school_year"], row["school_id"], row["class_id"]): (row["enrolled"], row["tested"], row["in_need"])
        for row in decided.iter_rows(named=True)
    }
    recounted = {
        (row["school_year"], row["school_id"], row["class_id"]): (row["enrolled"], row["tested"], row["below_20"])
        for row in tennessee_star.recount(SAMPLE)
    }
    assert len(recounted) == 370
    assert counts == recounted
    assert decided.height == 370
    assert set(decided["need_cut"]) == {"PR<20"} and set(decided["benchmark_window"]) == {"spring"}


def test_shares_and_bands_follow_from_the_counts(tennessee: Place):
    decided = {row["class_id"]: row for row in tennessee.table("class_decision").iter_rows(named=True)}
    for each in tennessee_star.recount(SAMPLE):
        row = decided[each["class_id"]]
        share = each["below_20"] / each["tested"] if each["tested"] else None
        assert row["need_share"] == (share if share is None else pytest.approx(share))
        if share is not None:
            band = "<10" if share < 0.10 else "10-20" if share <= 0.20 else ">20"
            assert row["guidance_band"] == band
        assert row["grade"] == each["grade"]
