"""Slopes, their errors, the aim line and the point rule."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.examples import examples
from transforms.growth import aim, ols, p_slope_at_least, point_rule, slope_status, theil_sen

VECTORS = json.loads((Path(__file__).parent / "data/vectors/06_growth.json").read_text())
FOUR = pl.struct(rule_points=pl.lit(4), rule_minimum=pl.lit(4)).struct.unnest()
CASES = pytest.mark.parametrize("case", VECTORS["cases"], ids=[case["name"] for case in VECTORS["cases"]])


def series(*points: tuple[list[float], list[float]]) -> pl.DataFrame:
    """Series numbered from 0: days and scores of each."""
    return pl.DataFrame(
        [
            (number, day, float(score))
            for number, (days, scores) in enumerate(points)
            for day, score in zip(days, scores, strict=True)
        ],
        schema={"series_no": pl.UInt32, "day": pl.Int64, "score": pl.Float64},
        orient="row",
    )


def of_vector(case: dict[str, Any]) -> pl.DataFrame:
    return series(([round(t * 7) for t in case["t_weeks"]], case["y"]))


def p_of(rows: pl.DataFrame, goal: float | None) -> float | None:
    return p_slope_at_least(pl.Series([goal], dtype=pl.Float64), ols(rows))[0]


@CASES
def test_the_line_and_its_interval_are_those_of_the_vector(case):
    fit = ols(of_vector(case)).row(0, named=True)
    assert fit["probes"] == case["ols"]["n"]
    assert fit["slope"] == pytest.approx(case["ols"]["slope"], abs=1e-8)
    assert fit["intercept"] == pytest.approx(case["ols"]["intercept"], abs=1e-8)
    assert fit["slope_standard_error"] == pytest.approx(case["ols"]["se"], abs=1e-8)
    assert [fit["slope_low"], fit["slope_high"]] == pytest.approx(case["ols_ci95"], abs=1e-8)


@CASES
def test_the_probability_of_reaching_a_slope_is_that_of_the_vector(case):
    assert p_of(of_vector(case), case["goal_slope"]) == pytest.approx(case["p_slope_ge_goal"], abs=1e-8)
    assert p_of(of_vector(case), 0) == pytest.approx(case["p_slope_gt_0"], abs=1e-8)


@CASES
def test_theil_sen_is_that_of_the_vector(case):
    line = theil_sen(of_vector(case)).row(0, named=True)
    assert line["slope"] == pytest.approx(case["theil_sen"]["slope"], abs=1e-8)
    assert line["intercept"] == pytest.approx(case["theil_sen"]["intercept"], abs=1e-8)
    assert line["slope_low"] == pytest.approx(case["theil_sen"]["lo95"], abs=1e-8)
    assert line["slope_high"] == pytest.approx(case["theil_sen"]["hi95"], abs=1e-8)


@CASES
def test_the_aim_line_and_the_point_rule_are_those_of_the_vector(case):
    line = aim(pl.lit(case["baseline"]), pl.lit(case["goal"]), pl.col("day"), pl.lit(case["weeks_to_goal"] * 7))
    rows = of_vector(case).with_columns(FOUR, aim=line)
    assert rows["aim"].to_list() == pytest.approx(case["aim_at_t"], abs=1e-8)
    assert point_rule(rows)["point_rule"].to_list() == [case["four_point"]]


@pytest.mark.parametrize("case", VECTORS["slope_precision_weekly"], ids=lambda case: f"{case['n_weekly']} weeks")
def test_more_weeks_make_a_slope_more_certain(case):
    weeks = np.arange(case["n_weekly"])
    noise = np.random.default_rng(1).normal(size=weeks.size)
    noise -= np.polyval(np.polyfit(weeks, noise, 1), weeks)
    scores = 5 * noise * np.sqrt((weeks.size - 2) / (noise @ noise))
    fit = ols(series((list(weeks * 7), list(scores)))).row(0, named=True)
    assert fit["slope_standard_error"] == pytest.approx(case["se_if_resid_sd_5"], abs=1e-8)
    half = (fit["slope_high"] - fit["slope_low"]) / 2
    assert half == pytest.approx(case["half_width95_if_resid_sd_5"], abs=1e-8)


def test_two_days_have_a_line_and_no_error():
    fit = ols(series(([0, 7], [10, 12]), ([0], [5]))).to_dicts()
    assert (fit[0]["slope"], fit[0]["intercept"]) == (2, 10)
    assert fit[0]["slope_standard_error"] is None
    assert fit[0]["slope_low"] is None
    assert fit[1]["slope"] is None
    assert fit[1]["intercept"] is None


@pytest.mark.parametrize("days", [[0, 7], [0]])
def test_below_three_days_no_probability_is_given(days):
    assert p_of(series((days, [3.0] * len(days))), 1) is None


def test_without_a_goal_no_probability_is_given():
    assert p_of(series(([0, 7, 14], [1, 2, 5])), None) is None
    assert p_of(series(([0, 7, 14], [1, 2, 3])), None) is None


@pytest.mark.parametrize(("goal", "expected"), [(0.3, 1), (0.3000001, 0), (0.2, 1), (0.4, 0)])
def test_points_on_a_line_leave_no_doubt(goal, expected):
    days = [0, 7, 14, 21, 28]
    rows = series((days, [0.1 + 0.3 * day / 7 for day in days]))
    assert p_of(rows, goal) == expected
    fit = ols(rows).row(0, named=True)
    assert fit["slope_standard_error"] == 0
    assert fit["slope_low"] == fit["slope_high"] == fit["slope"]


def test_a_level_series_is_a_line():
    assert p_of(series(([0, 8, 13], [7.1, 7.1, 7.1])), 0) == 1


def test_no_series_is_no_row():
    assert ols(series()).is_empty()
    assert theil_sen(series()).is_empty()


@pytest.mark.parametrize(
    ("probes", "days", "status"),
    [
        (0, None, "none"),
        (2, 70, "none"),
        (3, 14, "descriptive"),
        (5, 70, "descriptive"),
        (6, 35, "provisional"),
        (11, 70, "provisional"),
        (12, 55, "provisional"),
        (12, 56, "decision"),
        (20, 40, "provisional"),
    ],
)
def test_a_slope_decides_from_twelve_days_over_eight_weeks(probes, days, status):
    rows = pl.DataFrame(
        {
            "probes": [probes],
            "first_day": [None if days is None else 3],
            "last_day": [None if days is None else days + 3],
        }
    )
    assert rows.cast(pl.Int64).select(slope_status()).item() == status


@pytest.mark.parametrize(
    ("scores", "label"),
    [
        ([9, 9, 9, 9], "change_instruction"),
        ([11, 11, 11, 11], "raise_goal"),
        ([9, 9, 10, 9], "continue"),
        ([9, 9, 11, 9], "continue"),
        ([9, 9, 9], "continue"),
        ([11, 9, 9, 9, 9], "change_instruction"),
    ],
)
def test_the_last_four_points_on_one_side_say_change_or_raise(scores, label):
    rows = series((list(range(len(scores))), scores)).with_columns(FOUR, aim=pl.lit(10.0))
    assert point_rule(rows.sample(fraction=1, shuffle=True, seed=2))["point_rule"].item() == label


def test_three_points_can_decide_where_the_knob_says_so():
    rows = series(([0, 1, 2], [9, 9, 9])).with_columns(aim=pl.lit(10.0), rule_points=3)
    assert point_rule(rows.with_columns(rule_minimum=3))["point_rule"].item() == "change_instruction"
    assert point_rule(rows.with_columns(rule_minimum=4))["point_rule"].item() == "continue"


def test_the_aim_line_has_no_height_without_days_to_the_goal():
    days = pl.Series("days", [0, None, -3], dtype=pl.Int64)
    assert pl.select(aim(pl.lit(1.0), pl.lit(2.0), pl.lit(3), pl.lit(days)))["literal"].to_list() == [None] * 3


points = st.lists(
    st.tuples(st.integers(0, 300), st.integers(-2000, 2000).map(lambda score: score / 10)),
    min_size=1,
    max_size=15,
    unique_by=lambda point: point[0],
)


@examples(60)
@given(st.lists(points, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_all_lines_at_once_are_scipys_lines_one_by_one(many, random):
    rows = [(number, *point) for number, each in enumerate(many) for point in each]
    random.shuffle(rows)
    shuffled = pl.DataFrame(rows, schema={"series_no": pl.UInt32, "day": pl.Int64, "score": pl.Float64}, orient="row")
    fits, robust = ols(shuffled).to_dicts(), theil_sen(shuffled).to_dicts()
    assert [fit["series_no"] for fit in fits] == list(range(len(many)))
    for fit, line, each in zip(fits, robust, many, strict=True):
        if len(each) < 2:
            assert fit["slope"] is None
            assert line["slope"] is None
            continue
        weeks, scores = np.array([day for day, _ in each]) / 7, np.array([score for _, score in each])
        expected = stats.linregress(weeks, scores)
        assert fit["slope"] == pytest.approx(expected.slope, rel=1e-8, abs=1e-8)
        assert fit["intercept"] == pytest.approx(expected.intercept, rel=1e-7, abs=1e-7)
        sen = stats.theilslopes(scores, weeks, method="separate")
        assert line["slope"] == pytest.approx(sen.slope, rel=1e-8, abs=1e-8)
        assert line["slope_low"] == pytest.approx(sen.low_slope, rel=1e-8, abs=1e-8)
        assert line["slope_high"] == pytest.approx(sen.high_slope, rel=1e-8, abs=1e-8)
        if len(each) > 2:
            error = 0 if np.isnan(expected.stderr) else expected.stderr  # SciPy has none for a level series
            assert fit["slope_standard_error"] == pytest.approx(error, rel=1e-6, abs=1e-6)


@examples(30)
@given(st.lists(points, min_size=2, max_size=4))
def test_a_series_does_not_depend_on_the_others(many):
    rows = series(*[([day for day, _ in each], [score for _, score in each]) for each in many])
    together = ols(rows)
    for number in range(len(many)):
        alone = ols(rows.filter(pl.col("series_no") == number))
        assert alone.equals(together.filter(pl.col("series_no") == number))
