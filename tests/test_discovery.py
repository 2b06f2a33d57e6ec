"""Families of findings: which to believe."""

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.examples import examples
from transforms.discovery import believed, discovered

TEN = json.loads((Path(__file__).parent / "data" / "vectors" / "10_beta_binomial.json").read_text())
CHANCES = st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0, None]), max_size=12)


def family(chances, share=0.10, of="a"):
    rows = {"chance": pl.Series(chances, dtype=pl.Float64)}
    return pl.DataFrame(rows).with_columns(of=pl.lit(of), share=pl.lit(share))


def test_vector_10_is_believed_down_to_its_running_mean():
    rows = family([each["p_gt_20"] for each in TEN["classes"]], TEN["q"])
    told = believed(rows, "chance", ["of"], "share").to_list()
    within = {each["index"] for each in TEN["bfdr_trace"] if each["running_bfdr"] <= TEN["q"]}
    assert {place for place, is_believed in enumerate(told) if is_believed} == within
    above = {c for c in within if TEN["classes"][c]["p_gt_20"] >= TEN["min_posterior"]}
    assert sorted(c for c in above if TEN["classes"][c]["raw"] > TEN["tau"]) == TEN["bfdr_flagged"]


def test_vector_10_is_discovered_by_its_exact_tails():
    rows = family(TEN["binomial_tail_p"], TEN["q"])
    told = discovered(rows, "chance", ["of"], "share").to_list()
    assert [place for place, is_discovered in enumerate(told) if is_discovered] == TEN["bh_flagged_q10"]


@examples(100)
@given(CHANCES)
def test_tails_are_adjusted_as_scipy_does(chances):
    told = discovered(family(chances, 0.3), "chance", ["of"], "share").to_list()
    known = [each for each in chances if each is not None]
    adjusted = iter(stats.false_discovery_control(known) if known else [])
    assert told == [each is not None and next(adjusted) <= 0.3 + 1e-9 for each in chances]


@examples(100)
@given(CHANCES)
def test_the_believed_are_the_most_that_stay_within_the_share(chances):
    told = believed(family(chances), "chance", ["of"], "share").to_list()
    ordered = sorted((each for each in chances if each is not None), reverse=True)
    sizes = [k for k in range(1, len(ordered) + 1) if k == len(ordered) or ordered[k - 1] > ordered[k]]
    most = max((k for k in sizes if sum(1 - p for p in ordered[:k]) / k <= 0.10 + 1e-9), default=0)
    assert told == [each is not None and most > 0 and each >= ordered[most - 1] for each in chances]


def test_families_do_not_see_each_other_and_each_has_its_share():
    rows = pl.concat([family([0.85, 0.2]), family([0.85, 0.99], of="b"), family([0.85], 0.2, of="c")])
    assert believed(rows, "chance", ["of"], "share").to_list() == [False, False, True, True, True]
    tails = pl.concat([family([0.06, 0.9]), family([0.04, 0.9], of="b")])
    assert discovered(tails, "chance", ["of"], "share").to_list() == [False, False, True, False]


@pytest.mark.parametrize("rule", [believed, discovered])
def test_no_findings_are_none(rule):
    assert rule(family([]), "chance", ["of"], "share").to_list() == []
