"""A school year starts from the tiers with which the year before ended, and from nothing else of it (SEMANTICS 4.2)."""

from pathlib import Path

import polars as pl
import pytest

from pipelines.refresh import TIERS_FOLLOW, refresh
from schemas.projections import Projection, SchoolSignal, TierPlacement
from tests.homes import POLICY, Place, map_file, map_row
from tests.test_equality import assert_same

ONE_MEASURE = POLICY + '[tiers]\ncombine = "primary_only"\n'
FALL, SPRING, NEXT_FALL = "Fall 2024-2025", "Spring 2024-2025", "Fall 2025-2026"
DAYS = {FALL: "09/10/2024", SPRING: "05/06/2025", NEXT_FALL: "09/09/2025"}


def export(term: str, percentiles: dict[str, int]) -> str:
    """One test each in a term."""
    return map_file(
        *(
            map_row(student, 150 + percentile, term=term, day=DAYS[term], test=f"{term}-{student}",
                    percentile=percentile)
            for student, percentile in percentiles.items()
        )
    )  # fmt: skip


FIRST = {
    "2024-09-20/map.csv": export(FALL, {"ana": 50, "ben": 15, "cy": 50}),
    "2025-05-20/map.csv": export(SPRING, {"ana": 5, "ben": 15, "cy": 50}),
}
SECOND = {"2025-09-20/map.csv": export(NEXT_FALL, {"ana": 50, "ben": 15, "cy": 50, "dee": 15})}
OF_A_LAST_TIER = {"2025-10-01/map.csv": export(SPRING, {"ana": 50, "ben": 15, "cy": 50})}
OF_NO_LAST_TIER = {
    "2025-10-01/spring.csv": export(SPRING, {"ana": 6, "ben": 16, "cy": 60}),
    "2025-10-02/fall.csv": export(FALL, {"ana": 60, "ben": 16, "cy": 60}),
}


def arrive(place: Place, *files: dict[str, str]) -> list[tuple[str, str]]:
    """Load files and bring the tables up to date; returns the district-years that were written."""
    for each in files:
        for name, text in each.items():
            place.load(name, text)
    return place.refresh().updated


@pytest.fixture(scope="module")
def two_years(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(tmp_path_factory.mktemp("two_years"), ONE_MEASURE)
    assert arrive(made, FIRST, SECOND) == [("d1", "2025"), ("d1", "2026")]
    return made


@pytest.fixture
def place(two_years: Place, tmp_path: Path) -> Place:
    return two_years.copy(tmp_path)


def tiers(place: Place, year: str, season: str) -> list[tuple[int | None, str | None, int | None]]:
    """Tier before, who decided it and tier of each student in that window, by name."""
    took = place.events().select("subject_key", name=pl.col("vendor_test_id").str.split("-").list.last()).unique()
    rows = place.projections.read(TierPlacement, ["d1"], [year]).collect().filter(benchmark_window=season)
    return rows.join(took, on="subject_key").sort("name").select("tier_before", "tier_before_by", "tier").rows()


def files(place: Place, year: str) -> dict[type[Projection], list[str]]:
    """The Parquet files of every table of a school year."""
    return {
        contract: sorted(table.file_uris(district_id=["d1"], school_year=[year]))
        for contract, table in place.projections.tables.items()
    }


def changed(
    before: dict[type[Projection], list[str]], after: dict[type[Projection], list[str]]
) -> set[type[Projection]]:
    return {contract for contract, uris in before.items() if after[contract] != uris}


def test_a_year_starts_from_the_last_tiers_of_the_year_before(place: Place):
    assert tiers(place, "2025", "spring") == [
        (1, "recommendation", 3),
        (2, "recommendation", 2),
        (1, "recommendation", 1),
    ]
    assert tiers(place, "2026", "fall") == [
        (3, "recommendation", 2),
        (2, "recommendation", 2),
        (1, "recommendation", 1),
        (None, None, 2),
    ]


@pytest.mark.slow
def test_a_correction_of_a_last_tier_is_told_to_what_follows_and_to_nothing_else(place: Place):
    before = files(place, "2026")
    (signals,) = place.projections.read(SchoolSignal, ["d1"], ["2026"]).collect().to_dicts()
    assert arrive(place, OF_A_LAST_TIER) == [("d1", "2025"), ("d1", "2026")]
    assert changed(before, files(place, "2026")) == TIERS_FOLLOW
    assert tiers(place, "2026", "fall")[0] == (1, "recommendation", 1)
    (now,) = place.projections.read(SchoolSignal, ["d1"], ["2026"]).collect().to_dicts()
    assert (signals["recommended"], now["recommended"]) == (3, 2)
    assert signals["input_id"] != now["input_id"]


@pytest.mark.slow
def test_a_correction_of_no_last_tier_leaves_the_next_year_as_it_is(place: Place):
    before = files(place, "2026")
    assert arrive(place, OF_NO_LAST_TIER) == [("d1", "2025")]
    assert place.table("screening_result").filter(school_year="2025")["percentile"].sort().to_list() == [
        6, 16, 16, 60, 60, 60,
    ]  # fmt: skip
    assert changed(before, files(place, "2026")) == set()


@pytest.mark.slow
def test_without_the_year_before_nobody_was_seen_before(tmp_path: Path):
    alone = Place(tmp_path, ONE_MEASURE)
    arrive(alone, SECOND)
    assert tiers(alone, "2026", "fall") == [(None, None, 1), (None, None, 2), (None, None, 1), (None, None, 2)]
    assert arrive(alone, FIRST) == [("d1", "2025"), ("d1", "2026")]
    assert tiers(alone, "2026", "fall")[0] == (3, "recommendation", 2)


TOLD = (FIRST, SECOND, OF_A_LAST_TIER)


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(tmp_path_factory.mktemp("at_once"), ONE_MEASURE)
    arrive(made, *TOLD)
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    "order", [(2, 1, 0), *(pytest.param(each, marks=pytest.mark.slow) for each in ((1, 0, 2), (1, 2, 0)))]
)
def test_the_years_may_arrive_in_any_order(at_once: Place, tmp_path: Path, order: tuple[int, ...]):
    by_and_by = Place(tmp_path, ONE_MEASURE)
    for number in order:
        arrive(by_and_by, TOLD[number])
    assert_same(at_once.tables(), by_and_by.tables())


@pytest.mark.slow
def test_one_year_alone_may_be_brought_up_to_date_and_the_next_one_later(place: Place):
    for name, text in OF_A_LAST_TIER.items():
        place.load(name, text)
    before = files(place, "2026")
    policies = {"d1": place.home.policy("d1")}
    assert refresh(place.log, place.projections, policies, school_year="2025").updated == [("d1", "2025")]
    assert changed(before, files(place, "2026")) == set()
    assert place.refresh().updated == [("d1", "2026")]
    assert changed(before, files(place, "2026")) == TIERS_FOLLOW
