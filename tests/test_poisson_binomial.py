"""The number in need when each student is with a probability of their own."""

import json
from itertools import product
from math import isclose, prod
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tests.examples import examples
from transforms.poisson_binomial import at_least

VECTORS = Path(__file__).parent / "data" / "vectors"
ENTERING = json.loads((VECTORS / "12_entering_class.json").read_text("utf-8"))
CLASS = json.loads((VECTORS / "03_sem_probability.json").read_text("utf-8"))["class_example"]


def one_group(p: list[float], least: int) -> dict[str, float]:
    rows = pl.DataFrame({"g": 1, "p": p, "least": least}, schema={"g": pl.Int64, "p": pl.Float64, "least": pl.Int64})
    return at_least(rows, ["g"], "p", "least").row(0, named=True)


@pytest.mark.parametrize("case", ENTERING["cases"], ids=lambda case: f"{case['expected']}-{case['observed_now']}")
def test_need_now_against_need_expected_from_the_entering_bands(case):
    chance = ENTERING["transition_to_need"]
    p = [chance[band] for band, count in case["entering"].items() for _ in range(count)]
    found = one_group(p, case["observed_now"])
    assert found["students"] == case["n"]
    assert isclose(found["expected"], case["expected"], abs_tol=1e-8)
    assert isclose(found["p_at_least"], case["p_ge"], abs_tol=1e-8)
    mid = (found["p_at_least"] + one_group(p, case["observed_now"] + 1)["p_at_least"]) / 2
    assert isclose(mid, case["p_mid"], abs_tol=1e-8)


def test_the_whole_distribution_of_a_class():
    tails = [one_group(CLASS["p_need"], k)["p_at_least"] for k in range(12)]
    assert isclose(one_group(CLASS["p_need"], 0)["expected"], CLASS["expected_count"], abs_tol=1e-8)
    for k, chance in enumerate(CLASS["pmf"]):
        assert isclose(tails[k] - tails[k + 1], chance, abs_tol=1e-8)
    assert isclose(tails[3], CLASS["p_true_rate_gt_20"], abs_tol=1e-8)
    assert isclose(tails[5], CLASS["p_true_rate_ge_50"], abs_tol=1e-8)


@pytest.mark.parametrize(("least", "chance"), [(-1, 1), (0, 1), (1, 1), (2, 0.5), (3, 0), (9, 0)])
def test_the_ends_are_certain(least, chance):
    assert one_group([1.0, 0.5], least)["p_at_least"] == chance


def slow_tail(p: list[float], least: int) -> float:
    return sum(
        prod(each if is_in else 1 - each for each, is_in in zip(p, chosen, strict=True))
        for chosen in product([0, 1], repeat=len(p))
        if sum(chosen) >= least
    )


@given(
    st.lists(st.tuples(st.lists(st.floats(0, 1), min_size=1, max_size=7), st.integers(-1, 8)), min_size=1, max_size=9),
    st.integers(0, 99),
)
@examples(60)
def test_every_group_agrees_with_all_its_subsets_in_any_order_and_company(groups, seed):
    rows = pl.DataFrame(
        [(number, each, least) for number, (p, least) in enumerate(groups) for each in p],
        schema={"g": pl.Int64, "p": pl.Float64, "least": pl.Int64},
        orient="row",
    )
    found = at_least(rows, ["g"], "p", "least")
    assert_frame_equal(
        found, at_least(rows.sample(fraction=1, shuffle=True, seed=seed), ["g"], "p", "least"), check_exact=True
    )
    for number, (p, least) in enumerate(groups):
        row = found.row(number, named=True)
        assert isclose(row["p_at_least"], slow_tail(p, least), abs_tol=2e-9)
        assert isclose(row["expected"], sum(p), abs_tol=2e-9)
        alone = at_least(rows.filter(pl.col("g") == number), ["g"], "p", "least")
        assert_frame_equal(found.filter(pl.col("g") == number), alone, check_exact=True)


def test_no_group_gives_no_row():
    nobody = pl.DataFrame(schema={"g": pl.Int64, "p": pl.Float64, "least": pl.Int64})
    assert at_least(nobody, ["g"], "p", "least").is_empty()
