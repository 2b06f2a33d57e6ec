"""Plausible deliveries: what is reported, what holds, and that no value leaves."""

from collections.abc import Mapping
from pathlib import Path

import duckdb
import polars as pl
import pytest

from pipelines.delivery import RULES
from pipelines.expectations import ROWS_ONLY, plausible, published
from schemas.contract import broken_rules, columns, empty, table_name
from schemas.marts import MARTS
from schemas.policy import DistrictPolicy, QualityRule
from schemas.projections import ClassMembership, IngestLedger, Projection, QualityResult, ScreeningResult
from tests.tables import table
from warehouse.publish import publish

NO_FILES = empty(IngestLedger)


def policies(*blocking: str, **knobs: float) -> dict[str, DistrictPolicy]:
    return {"d1": DistrictPolicy(time_zone="America/Denver", quality=QualityRule(blocking=blocking, **knobs))}


def made_tests(*groups: tuple[str, str, int, float, float], year: str = "2026") -> pl.DataFrame:
    """(school, window, tests, score, percentile) of `map_growth_math`, one student each."""
    rows = [
        (f"{school}{number}", school, window, score, percentile)
        for school, window, count, score, percentile in groups
        for number in range(count)
    ]
    made = pl.DataFrame(
        rows, schema=["subject_key", "school_id", "benchmark_window", "score", "percentile"], orient="row"
    )
    return _contract(
        made.with_columns(
            measure=pl.lit("map_growth_math"),
            school_year=pl.lit(year),
            is_valid=pl.lit(value=True),
            is_chosen=pl.lit(value=True),
        ),
        ScreeningResult,
    )


def members(*groups: tuple[str, str, int]) -> pl.DataFrame:
    """(school, window, students) on the roster."""
    rows = [(f"{school}{number}", school, window) for school, window, count in groups for number in range(count)]
    made = pl.DataFrame(rows, schema=["subject_key", "school_id", "benchmark_window"], orient="row")
    return _contract(made.with_columns(school_year=pl.lit("2026")), ClassMembership)


def _contract(rows: pl.DataFrame, contract: type[Projection]) -> pl.DataFrame:
    return pl.concat([empty(contract), rows.with_columns(district_id=pl.lit("d1"))], how="diagonal_relaxed")


def judged(
    screened: pl.DataFrame | None = None,
    enrolled: pl.DataFrame | None = None,
    ledger: pl.DataFrame = NO_FILES,
    policy: Mapping[str, DistrictPolicy] | None = None,
) -> dict[tuple[str, str | None], tuple[bool, int, float | None]]:
    """(rule, school) to (passed, rows, observed)."""
    given = {
        ScreeningResult: made_tests() if screened is None else screened,
        ClassMembership: members() if enrolled is None else enrolled,
    }
    results = plausible(given, ledger, policy or policies())
    assert broken_rules(
        results.with_columns(input_id=pl.lit("i")).select(list(columns(QualityResult))), QualityResult
    ).is_empty()
    return {
        (rule, school): (passed, rows, observed)
        for rule, school, passed, rows, observed in results.select(
            "rule", "school_id", "is_passed", "rows", "observed"
        ).rows()
    }


def test_a_delivery_of_nothing_has_nothing_to_judge():
    assert judged() == {}


def test_a_school_whose_tests_fall_by_more_than_half_is_reported():
    found = judged(
        made_tests(
            ("a", "fall", 20, 200, 50),
            ("a", "winter", 10, 200, 50),
            ("b", "fall", 20, 200, 50),
            ("b", "winter", 9, 200, 50),
        )
    )
    assert found["volume_per_school: winter", "a"] == (True, 0, 0.5)
    assert found["volume_per_school: winter", "b"] == (False, 11, 0.45)
    assert ("volume_per_school: fall", "a") not in found


def test_a_school_with_half_its_students_tested_is_plausible_and_with_fewer_is_not():
    found = judged(
        made_tests(("a", "fall", 5, 200, 50), ("b", "fall", 4, 200, 50)),
        members(("a", "fall", 10), ("b", "fall", 10), ("c", "fall", 3)),
    )
    assert found["tested_share: fall", "a"] == (True, 0, 0.5)
    assert found["tested_share: fall", "b"] == (False, 6, 0.4)
    assert found["tested_share: fall", "c"] == (False, 3, 0.0)


def test_a_school_is_the_rosters_where_the_roster_knows_the_student():
    found = judged(
        made_tests(("a", "fall", 5, 200, 50)).with_columns(school_id=pl.lit("School A")), members(("a", "fall", 5))
    )
    assert found["tested_share: fall", "a"] == (True, 0, 1.0)


def test_scores_off_the_vendors_scale_are_counted_and_not_shown():
    found = judged(made_tests(("a", "fall", 3, 351, 50), ("a", "winter", 4, 350, 50), ("b", "winter", 1, 100, 1)))
    assert found["score_range: fall", None] == (False, 3, 1.0)
    assert found["score_range: winter", None] == (True, 0, 0.0)


@pytest.mark.parametrize(("later", "passed"), [(65, True), (66, False), (35, True), (34, False)])
def test_a_mean_percentile_that_moves_by_more_than_the_policy_allows_is_reported(later: int, passed: bool):
    found = judged(made_tests(("a", "fall", 30, 200, 50), ("a", "winter", 30, 200, later)))
    assert found["percentile_drift: winter", None] == (passed, 0 if passed else 30, later - 50)


def test_a_mean_of_few_tests_is_not_compared():
    assert not any(
        "drift" in rule for rule, _ in judged(made_tests(("a", "fall", 29, 200, 50), ("a", "winter", 30, 200, 9)))
    )


def test_fall_is_compared_with_last_spring_where_both_are_there():
    screened = pl.concat(
        [made_tests(("a", "spring", 30, 200, 50), year="2025"), made_tests(("a", "fall", 30, 200, 30))]
    )
    assert judged(screened)["percentile_drift: fall", None] == (False, 30, -20)


def test_the_lowest_match_rate_of_a_layouts_files_is_reported():
    ledger = table(
        IngestLedger,
        """
        batch_id | layout  | match_rate | parked | school_years
        b1       | map     | 0.99       | 0      | 2026
        b2       | map     | 0.90       | 7      | 2025;2026
        b3       | iready  | 0.95       | 1      | 2026
        b4       | roster  |            |        | 2026
        """,
        status="loaded",
        district_id="d1",
        attempt=1,
    )
    results = plausible({ScreeningResult: made_tests(), ClassMembership: members()}, ledger, policies())
    assert sorted(results.select("about", "school_year", "stage", "is_passed", "rows", "observed").rows()) == [
        ("iready", "2026", "exports", True, 0, 0.95),
        ("map", "2025", "exports", False, 7, 0.90),
        ("map", "2026", "exports", False, 7, 0.90),
    ]


def test_a_rule_warns_unless_the_policy_lists_it_as_blocking():
    screened, enrolled = made_tests(("a", "fall", 1, 200, 50)), members(("a", "fall", 10))
    given = {ScreeningResult: screened, ClassMembership: enrolled}
    for names in ((), ("tested_share",)):
        results = plausible(given, NO_FILES, policies(*names)).filter(~pl.col("is_passed"))
        assert results["is_blocking"].to_list() == [bool(names)]
        assert results["rule"].to_list() == ["tested_share: fall"]


def test_a_district_sets_its_own_numbers():
    screened, enrolled = made_tests(("a", "fall", 1, 200, 50)), members(("a", "fall", 10))
    assert judged(screened, enrolled, policy=policies(tested_share_minimum=0.1))["tested_share: fall", "a"][0]


def test_only_numbers_of_rows_are_asked_for():
    assert ROWS_ONLY["exclude_unexpected_values"] and not ROWS_ONLY["include_unexpected_rows"]
    assert ROWS_ONLY["partial_unexpected_count"] == 0
    assert set(RULES) == {"volume_per_school", "tested_share", "score_range", "percentile_drift", "match_rate"}


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "warehouse.duckdb"
    publish(path, {})
    return path


def test_empty_tables_are_what_they_promise(warehouse: Path):
    results = published(warehouse)
    assert results.height > 20 and results["is_passed"].all()
    assert {"great_expectations", "reconciliation"} == set(results["tool"])


def test_a_published_value_that_breaks_a_promise_is_counted_and_the_file_let_go(warehouse: Path):
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(
            "insert into marts.classroom_flag (district_id, school_year, level, reason, enrolled, tested)"
            " values ('d1', '2026', 'Quixote-4711', 'r', 3, 5), ('d1', '2026', 'NONE', null, 5, 5)"
        )
        connection.execute(
            "insert into marts.tier_summary (school_year, students, tier_1_share) values ('2026', 3, 1.5)"
        )
        connection.execute(
            "insert into projections.tier_placement (district_id, school_year, benchmark_window, subject_key, tier)"
            " values ('d1', '2026', 'fall', 'k', 4), ('d1', '2026', 'fall', 'k', 3), ('d1', '2026', 'fall', 'l', 1)"
        )
    results = published(warehouse).filter(~pl.col("is_passed"))
    assert {(about, rule): rows for about, rule, rows in results.select("about", "rule", "rows").rows()} == {
        ("classroom_flag", "column_values_to_be_in_set level"): 1,
        ("classroom_flag", "column_values_to_not_be_null reason"): 1,
        ("classroom_flag", "column_pair_values_a_to_be_greater_than_b enrolled tested"): 1,
        ("classroom_flag", "adds up to the projections"): 2,
        ("tier_summary", "column_values_to_not_be_null district_id"): 1,
        ("tier_summary", "column_values_to_be_between tier_1_share"): 1,
        ("tier_placement", "column_values_to_be_in_set tier"): 1,
        ("tier_placement", "compound_columns_to_be_unique district_id school_year benchmark_window subject_key"): 2,
    }
    assert "Quixote" not in repr(results.to_dicts())
    with duckdb.connect(str(warehouse)) as connection:
        for table in ("marts.classroom_flag", "marts.tier_summary", "projections.tier_placement"):
            connection.execute(f"delete from {table}")


def test_every_mart_is_looked_at(warehouse: Path):
    assert {table_name(mart) for mart in MARTS} <= set(published(warehouse)["about"])
