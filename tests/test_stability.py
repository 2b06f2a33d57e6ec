"""Need levels between adjacent windows, against what measurement error alone would change."""

import random

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from schemas.contract import broken_rules, conform
from schemas.projections import NeedLevel, TierStability
from tests.tables import table
from transforms.intervals import wilson
from transforms.stability import tier_stability

LEVELS = """
    subject_key | benchmark_window | need_level | p_tier_2
    a           | fall             | none       | 0.1
    a           | winter           | tier_2     | 0.6
    b           | fall             | watch      | 0.3
    b           | winter           | none       | 0.2
    c           | fall             | tier_2     | 0.7
    c           | winter           | tier_3     | 0.9
    d           | fall             | none       | 0.0
    d           | winter           | tier_2     | 1.0
    e           | fall             | none       | 0.1
    f           | fall             | none       | 0.1
    f           | winter           |            |
    a           | spring           | tier_2     | 0.6
"""


def stability(text):
    given = {"district_id": "d1", "school_year": "2026", "measure": "map", "status": "tested", "grade": "4"}
    levels = table(NeedLevel, text, **given).with_columns(
        probability_basis=pl.when(pl.col("subject_key") == "e0").then(pl.lit("label")).otherwise(pl.lit("sem")),
        probability_flag=pl.when(pl.col("p_tier_2").is_in([0.0, 1.0])).then(pl.lit("cut_unknown")),
    )
    found = tier_stability(levels)
    shaped = conform(found.with_columns(input_id=pl.lit("i")).lazy(), TierStability).collect()
    assert broken_rules(shaped, TierStability).is_empty()
    assert found.schema == shaped.drop("input_id").schema
    return found


def test_changes_are_counted_beside_what_error_alone_would_change():
    first, second = stability(LEVELS).iter_rows(named=True)
    counts = ("from_window", "to_window", "students", "level_changed", "crossed", "error_known")
    assert [first[name] for name in counts] == ["fall", "winter", 4, 4, 2, 3]
    expected = [0.1 * 0.4 + 0.9 * 0.6, 0.3 * 0.8 + 0.7 * 0.2, 0.7 * 0.1 + 0.3 * 0.9]
    assert first["expected_crossed_share"] == pytest.approx(sum(expected) / 3, abs=1e-9)
    low, high = wilson(2, 4)
    assert (first["crossed_share"], first["crossed_low"], first["crossed_high"]) == (0.5, low, high)
    assert [second[name] for name in counts] == ["winter", "spring", 1, 0, 0, 1]


def test_where_winter_is_not_tested_fall_and_spring_are_adjacent():
    found = stability(LEVELS.replace("winter", "spring").rsplit("\n", 2)[0])
    assert found.select("from_window", "to_window", "students").rows() == [("fall", "spring", 4)]


def test_without_measurement_error_nothing_is_expected_of_it():
    found = stability(
        "subject_key | benchmark_window | need_level | p_tier_2\na | fall | none | 0\na | winter | tier_2 | 1"
    )
    assert found.select("crossed", "error_known", "expected_crossed_share").rows() == [(1, 0, None)]
    labels = (
        "subject_key | benchmark_window | need_level | p_tier_2\ne0 | fall | none | 0.4\ne0 | winter | tier_2 | 0.6"
    )
    assert stability(labels)["error_known"].to_list() == [0]


def test_the_order_of_rows_changes_no_digit():
    rng = random.Random(7)
    lines = [
        f"s{n} | {window} | {rng.choice(('none', 'tier_2'))} | {rng.random()}"
        for n in range(200)
        for window in ("fall", "winter", "spring")
    ]
    header = "subject_key | benchmark_window | need_level | p_tier_2\n"
    found = stability(header + "\n".join(lines))
    rng.shuffle(lines)
    assert_frame_equal(found, stability(header + "\n".join(lines)), check_exact=True)
