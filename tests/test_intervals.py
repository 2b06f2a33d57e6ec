"""Intervals and probabilities of a share."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import reference_classrooms as reference
from tests.examples import examples
from transforms import intervals

VECTORS = Path(__file__).parent / "data" / "vectors"
CASES = json.loads((VECTORS / "09_class_rates.json").read_text())["cases"]
Y = np.array([case["y"] for case in CASES])
N = np.array([case["n"] for case in CASES])


@pytest.mark.parametrize(
    ("interval", "column"),
    [
        (intervals.jeffreys, "jeffreys95"),
        (intervals.wilson, "wilson95"),
        (intervals.clopper_pearson, "clopper_pearson95"),
    ],
)
def test_intervals_match_the_vector(interval, column):
    low, high = interval(Y, N)
    np.testing.assert_allclose(np.c_[low, high], [case[column] for case in CASES], atol=1e-8)


@pytest.mark.parametrize(
    ("probability", "column"),
    [
        (lambda: intervals.tail_at_least(Y, N, 0.2), "p_tail_ge"),
        (lambda: intervals.mid_p(Y, N, 0.2), "p_mid"),
        (lambda: intervals.p_above(Y, N, 0.2), "p_gt_20_jeffreys"),
        (lambda: intervals.p_above(Y, N, 0.5), "p_gt_50_jeffreys"),
    ],
)
def test_probabilities_match_the_vector(probability, column):
    np.testing.assert_allclose(probability(), [case[column] for case in CASES], atol=1e-8)


def test_one_beta_above_another_matches_the_vector():
    cases = json.loads((VECTORS / "10_beta_binomial.json").read_text())["beta_compare"]
    found = intervals.p_greater(*([case[name] for case in cases] for name in ("a1", "b1", "a2", "b2")))
    np.testing.assert_allclose(found, [case["p_first_greater"] for case in cases], atol=1e-8)


def test_nobody_tested_has_no_interval_and_no_probability():
    for pair in (intervals.jeffreys(0, 0), intervals.wilson(0, 0), intervals.clopper_pearson(0, 0)):
        assert np.isnan(pair).all()
    for one in (intervals.tail_at_least(0, 0, 0.2), intervals.mid_p(0, 0, 0.2), intervals.p_above(0, 0, 0.2)):
        assert np.isnan(one)


COUNTS = st.integers(0, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
SMALL = st.integers(0, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@examples(100)
@given(SMALL, COUNTS)
def test_one_beta_above_another_agrees_with_the_exact_sum(one, other):
    (y1, n1), (y2, n2) = one, other
    found = intervals.p_greater(y1 + 0.5, n1 - y1 + 0.5, y2 + 0.5, n2 - y2 + 0.5)
    assert abs(found - reference.p_greater(y1, n1, y2, n2)) < 1e-8


@examples(100)
@given(SMALL, SMALL)
def test_either_of_two_betas_is_the_greater(one, other):
    first = (one[0] + 0.5, one[1] - one[0] + 0.5)
    second = (other[0] + 0.5, other[1] - other[0] + 0.5)
    assert abs(intervals.p_greater(*first, *second) + intervals.p_greater(*second, *first) - 1) < 1e-8


@examples(100)
@given(SMALL.filter(lambda pair: pair[1] > 0))
def test_every_interval_holds_the_observed_share(pair):
    y, n = pair
    for interval in (intervals.jeffreys, intervals.wilson, intervals.clopper_pearson):
        low, high = interval(y, n)
        assert 0 <= low <= y / n <= high <= 1


def test_a_row_does_not_depend_on_the_rows_beside_it():
    y, n = np.arange(0, 37) % 19, np.full(37, 24)
    together = intervals.p_greater(y + 0.5, n - y + 0.5, 20.5, 50.5)
    alone = np.array([intervals.p_greater(one + 0.5, 24 - one + 0.5, 20.5, 50.5) for one in y])
    np.testing.assert_array_equal(together.round(9), alone.round(9))
