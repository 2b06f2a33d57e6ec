"""Gains, regression to the mean, matching and the cut."""

import json
from datetime import date, timedelta
from pathlib import Path
from statistics import correlation, mean, stdev
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from schemas.contract import broken_rules, columns
from schemas.policy import DistrictPolicy, GrowthNorm, ResponseRule
from schemas.projections import Cycle, CycleOutcome, InterventionEffect, NeedLevel, ScreeningResult
from tests.examples import examples
from tests.made_classes import frame
from transforms.effects import hedges_g, intervention_effects, regression_to_the_mean
from transforms.matching import nearest_pairs

VECTORS = json.loads((Path(__file__).parent / "data/vectors/08_rtm_effects.json").read_text())
KEY = {"district_id": "d1", "school_year": "2026"}
TESTED_ON = {"fall": date(2025, 9, 10), "winter": date(2026, 1, 20), "spring": date(2026, 5, 5)}
CUT = 200


# Formulas


@pytest.mark.parametrize("case", VECTORS["regression_to_mean"], ids=lambda case: f"r {case['test_retest_r']}")
def test_regression_to_the_mean_is_that_of_the_vector(case):
    got = regression_to_the_mean(case["selected_below_percentile"], case["test_retest_r"], case["sd"])
    assert float(got) == pytest.approx(case["spurious_gain"], abs=1e-8)


def test_a_cut_that_chooses_nobody_or_everybody_has_no_regression():
    assert np.isnan(regression_to_the_mean([0, 1, np.nan], 0.8, 10)).all()


def test_a_group_chosen_below_a_cut_gains_that_much_without_any_effect():
    draw = np.random.default_rng(8)
    before = draw.normal(size=400_000)
    after = 0.7 * before + np.sqrt(1 - 0.49) * draw.normal(size=before.size)
    chosen = before < special.ndtri(0.2)
    expected = regression_to_the_mean(0.2, 0.7, 1)
    assert (after - before)[chosen].mean() == pytest.approx(float(expected), abs=0.01)


def paired(after, after_pool, before=None, before_pool=None, **given):
    rows = {
        "after": after,
        "after_pool": after_pool,
        "before": before or after,
        "before_pool": before_pool or after_pool,
    }
    return pl.DataFrame({name: [float(each) for each in values] for name, values in rows.items()}).with_columns(
        by=pl.lit("x"), **{name: pl.Series(values) for name, values in given.items()}
    )


def test_hedges_g_is_that_of_the_vector():
    case = VECTORS["hedges_g"]
    got = hedges_g(paired(case["treated"], case["comparison"]), ["by"]).row(0, named=True)
    assert got["g"] == pytest.approx(case["g"], abs=1e-8)
    assert got["g_standard_error"] == pytest.approx(case["se"], abs=1e-8)
    ends = [got["g"] + sign * 1.959963984540054 * got["g_standard_error"] for sign in (-1, 1)]
    assert ends == pytest.approx(case["ci95"], abs=1e-8)


def test_grades_of_different_level_do_not_widen_the_deviation():
    one = paired([3, 5, 4, 8], [2, 4, 4, 5])
    far = one.with_columns(pl.selectors.float() + 1000)
    both = pl.concat([one.with_columns(grade=pl.lit("3")), far.with_columns(grade=pl.lit("4"))])
    narrow = hedges_g(both, ["by"], ["grade"])["g"].item()
    assert narrow == pytest.approx(1.25 / np.sqrt((14 + 4.75) * 2 / 12) * (1 - 3 / (4 * 12 - 1)), abs=1e-8)
    assert hedges_g(both, ["by"])["g"].item() < 0.01


def test_an_adjusted_difference_is_that_of_parallel_lines():
    draw = np.random.default_rng(2)
    pre, pre_pool = draw.normal(1, 1, 30), draw.normal(0, 1, 30)
    post, post_pool = 2 * pre + 3, 2 * pre_pool
    got = hedges_g(paired(list(post), list(post_pool), list(pre), list(pre_pool)), ["by"]).row(0, named=True)
    pooled = np.sqrt((post.var(ddof=1) + post_pool.var(ddof=1)) / 2)
    assert got["adjusted_g"] == pytest.approx(3 / pooled * (1 - 3 / (4 * 58 - 1)), abs=1e-8)
    assert got["g"] > got["adjusted_g"]


def test_scores_that_are_all_one_have_no_difference_in_deviations():
    assert hedges_g(paired([5, 5], [5, 5]), ["by"]).select("g", "adjusted_g", "baseline_g").row(0) == (None,) * 3


# Matching


def greedy(treated, pool, reach):
    """The closest of all possible pairs, over and over."""
    left, right, pairs = sorted(treated), sorted(pool), []
    while left and right:
        one, other = min(((a, b) for a in left for b in right), key=lambda p: (abs(p[0][0] - p[1][0]), p[0], p[1]))
        if abs(one[0] - other[0]) > reach:
            break
        pairs.append((one[1], other[1]))
        left.remove(one)
        right.remove(other)
    return sorted(pairs)


def students(scores, name, cell="a"):
    rows = [(cell, float(score), f"{name}{number:02}") for number, score in enumerate(scores)]
    return pl.DataFrame(rows, schema={"cell": pl.String, "score": pl.Float64, "key": pl.String}, orient="row")


@examples(80)
@given(
    st.lists(st.integers(0, 12), max_size=9),
    st.lists(st.integers(0, 12), max_size=12),
    st.integers(0, 4),
    st.randoms(use_true_random=False),
)
def test_pairs_are_those_of_taking_the_closest_over_and_over(treated, pool, reach, random):
    ones, others = students(treated, "t"), students(pool, "c")
    expected = greedy(*([(s, k) for s, k in zip(f["score"], f["key"], strict=True)] for f in (ones, others)), reach)
    more = (ones.with_columns(cell=pl.lit("b")), others.with_columns(cell=pl.lit("b")))
    ones, others = pl.concat([ones, more[0]]), pl.concat([others, more[1]])
    seed = random.randrange(1000)
    ones = ones.with_columns(reach=pl.lit(float(reach))).sample(fraction=1, shuffle=True, seed=seed)
    got = nearest_pairs(ones, others.sample(fraction=1, shuffle=True, seed=seed))
    for cell in "ab":
        assert got.filter(cell=cell).select("key", "key_pool").rows() == expected


# Whole districts


def screened(who, before, after, windows=("fall", "winter"), grade="4", school="s1", cut=CUT, **given):
    """A student tested in two windows; below the cut the student needs tier 2."""
    rows = []
    for window, score in zip(windows, (before, after), strict=True):
        level = "tier_3" if score < cut - 15 else "tier_2" if score < cut else "none"
        row = KEY | {"subject_key": who, "measure": "map", "benchmark_window": window, "grade": grade, "score": score}
        row |= {"status": "tested", "need_level": level, "natural_key": f"{who}-{window}", "school_id": school}
        rows.append(row | {"occurred_on": TESTED_ON[window]} | given)
    return rows


def cycle(name="c1", intervention="bridges", tier=2, opened=14, closed=49, **given):
    start = TESTED_ON["fall"]
    row = KEY | {"cycle_id": name, "school_id": "s1", "intervention": intervention, "tier": tier}
    end = None if closed is None else start + timedelta(closed)
    return row | {"opened_on": start + timedelta(opened), "closed_on": end, "state": "closed"} | given


def member(who, name="c1", **given):
    return KEY | {"cycle_id": name, "school_id": "s1", "subject_key": who} | given


def effects(rows, cycles, members, **rule):
    policy = DistrictPolicy(time_zone="America/Denver", responses=ResponseRule(**rule))
    made = (frame(rows, ScreeningResult), frame(rows, NeedLevel), frame(cycles, Cycle), frame(members, CycleOutcome))
    return intervention_effects(*(each.collect() for each in made), {"d1": policy})


def only(*given: Any, **rule: Any) -> dict[str, Any]:
    return effects(*given, **rule).row(0, named=True)


def population(size=400, seed=1, gain=0.0, served=lambda score, coin: score < CUT and coin < 0.5, noise=4, mean=205):
    """Scores of a district; those served gain some points more than their scores would."""
    draw = np.random.default_rng(seed)
    before = np.round(draw.normal(mean, 10, size))
    after = np.round(before + draw.normal(5, noise, size))
    rows, members = [], []
    for number, (pre, post, coin) in enumerate(zip(before, after, draw.random(size), strict=True)):
        who, is_served = f"p{number:04}", served(pre, coin)
        rows += screened(who, float(pre), float(post) + (gain if is_served else 0))
        members += [member(who)] if is_served else []
    return rows, members


def test_a_gain_is_shown_less_what_regression_and_growth_bring_without_any_effect():
    rows, members = population(120)
    norm = GrowthNorm(measure="map", grades=("4",), before="fall", after="winter", points=4, source="made up")
    got = only(rows, [cycle()], members, growth_norms=(norm,))
    scores = {row["natural_key"]: row["score"] for row in rows}
    everyone = sorted({row["subject_key"] for row in rows})
    pre, post = ([scores[f"{who}-{window}"] for who in everyone] for window in ("fall", "winter"))
    share = mean(score < CUT for score in pre)
    drift = float(regression_to_the_mean(share, correlation(pre, post), stdev(pre)))
    gain = mean(scores[f"{m['subject_key']}-winter"] - scores[f"{m['subject_key']}-fall"] for m in members)
    assert (got["students"], got["gain_label"]) == (len(members), "descriptive")
    assert got["gain"] == pytest.approx(gain, abs=1e-8)
    assert got["gain"] == pytest.approx(got["mean_after"] - got["mean_before"], abs=1e-8)
    assert got["expected_regression"] == pytest.approx(drift, abs=1e-6)
    assert got["gain_less_regression"] == pytest.approx(gain - drift, abs=1e-6)
    assert got["gain_less_regression_and_norm"] == pytest.approx(gain - drift - 4, abs=1e-6)
    assert (got["norm_growth"], got["norm_students"], got["regression_students"]) == (4, len(members), len(members))


def test_a_small_grade_has_no_regression_and_no_comparison():
    rows, members = population(29)
    got = only(rows, [cycle()], members)
    assert (got["regression_students"], got["norm_students"], got["norm_growth"]) == (0, 0, None)
    assert (got["expected_regression"], got["gain_less_regression"]) == (None, None)
    assert (got["method"], got["match_refusal"], got["effect"]) == ("none", "too_few_pairs", None)
    assert got["statement"] == "No fair comparison; the gain is descriptive."
    assert only(*[*population(30)[:1], [cycle()], population(30)[1]])["regression_students"] > 0


def test_pupils_alike_before_are_compared_and_the_difference_found():
    rows, members = population(3000, gain=4)
    got = only(rows, [cycle()], members)
    assert (got["method"], got["match_refusal"], got["cut_refusal"]) == ("matched", None, "cut_not_followed")
    assert got["pairs"] > 300
    assert abs(got["baseline_g"]) <= 0.05
    assert got["effect_low"] < 4 / 7 < got["effect_high"]
    assert got["effect"] > 0.4
    assert got["statement"].startswith("Associated with 0.")
    assert f"{got['pairs']} pairs" in got["statement"]


def test_the_comparison_is_that_of_the_pairs_by_hand():
    rows, members = population(240, gain=2)
    got = only(rows, [cycle()], members)
    served = {row["subject_key"] for row in members}
    scores = {row["natural_key"]: row["score"] for row in rows}
    everyone = sorted({row["subject_key"] for row in rows})
    reach = 0.2 * stdev(scores[f"{who}-fall"] for who in everyone)
    sides = ([(scores[f"{who}-fall"], who) for who in everyone if (who in served) is side] for side in (True, False))
    pairs = greedy(*sides, reach)
    post, pool = ([scores[f"{pair[side]}-winter"] for pair in pairs] for side in (0, 1))
    n, pooled = len(pairs), np.sqrt((np.var(post, ddof=1) + np.var(pool, ddof=1)) / 2)
    plain = (mean(post) - mean(pool)) / pooled * (1 - 3 / (8 * n - 9))
    assert (got["pairs"], got["method"]) == (n, "matched")
    assert got["effect"] == pytest.approx(plain, abs=1e-8)


def test_fewer_than_twenty_pairs_make_no_comparison():
    def some(number):
        rows = [row for k in range(number) for row in screened(f"t{k:02}", 190 + k % 7, 200 + k % 5)]
        rows += [row for k in range(40) for row in screened(f"c{k:02}", 190 + k % 7, 199 + k % 6)]
        return only(rows, [cycle()], [member(f"t{k:02}") for k in range(number)])

    assert (some(19)["method"], some(19)["match_refusal"], some(19)["pairs"]) == ("none", "too_few_pairs", 19)
    assert (some(20)["method"], some(20)["match_refusal"], some(20)["pairs"]) == ("matched", None, 20)


def apart(by):
    """Forty served and forty not, whose scores before differ by that many points; those of a grade spread widely."""
    rows = [row for k in range(40) for row in screened(f"t{k:02}", 170.0 + 5 * (k % 9), 190.0 + k % 5)]
    rows += [row for k in range(40) for row in screened(f"c{k:02}", 170.0 - by + 5 * (k % 9), 189.0 + k % 6)]
    return rows, [cycle()], [member(f"t{k:02}") for k in range(40)]


@pytest.mark.parametrize(
    ("by", "method", "refusal"),
    [(0.5, "matched", None), (2, "matched_and_adjusted", None), (2.4, "matched_and_adjusted", None)],
)
def test_a_difference_before_is_adjusted_for(by, method, refusal):
    got = only(*apart(by))
    assert (got["method"], got["match_refusal"], got["pairs"]) == (method, refusal, 40)


def test_a_large_difference_before_is_refused():
    got = only(*apart(2.4), baseline_refused=0.1)
    assert (got["method"], got["match_refusal"], got["effect"]) == ("none", "baseline_differs", None)
    assert abs(got["baseline_g"]) > 0.1


def test_pairs_within_reach_that_all_differ_one_way_are_refused():
    rows = [row for k in range(40) for row in screened(f"t{k:02}", 170.0 + k % 4, 190.0 + k % 5)]
    rows += [row for k in range(40) for row in screened(f"c{k:02}", 166.0 + k % 4, 189.0 + k % 6)]
    rows += [row for k in range(40) for row in screened(f"far{k:02}", 260.0, 270.0)]
    got = only(rows, [cycle()], [member(f"t{k:02}") for k in range(40)])
    assert (got["pairs"], got["match_refusal"], got["method"]) == (40, "baseline_differs", "none")


def test_without_any_spread_nothing_is_compared():
    rows = [row for k in range(60) for row in screened(f"p{k:02}", 190.0, 195.0)]
    got = only(rows, [cycle()], [member(f"p{k:02}") for k in range(25)])
    assert (got["method"], got["match_refusal"], got["gain"]) == ("none", "too_few_pairs", 5)


def test_partners_are_of_the_same_grade_and_in_no_cycle_between_the_tests():
    rows, members = population(200)
    other = cycle("c2", "other", opened=20)
    served = {row["subject_key"] for row in members}
    rest = sorted({row["subject_key"] for row in rows} - served)
    base = effects(rows, [cycle()], members).row(0, named=True)
    for away in ([member(who, "c2") for who in rest], []):
        got = effects(rows, [cycle(), other], members + away).row(
            by_predicate=pl.col("intervention") == "bridges", named=True
        )
        assert got["pairs"] == (0 if away else base["pairs"])
    moved = [row | ({} if row["subject_key"] in served else {"grade": "5"}) for row in rows]
    assert only(moved, [cycle()], members)["pairs"] == 0
    running = cycle("c3", "later", closed=None)
    assert effects(rows, [cycle(), running], members + [member(who, "c3") for who in rest])["pairs"].to_list() == [0]
    past = cycle("c4", "earlier", opened=-40, closed=-10)
    assert effects(rows, [cycle(), past], members + [member(who, "c4") for who in rest])["pairs"].to_list() == [
        base["pairs"]
    ]


def test_an_abandoned_cycle_and_one_nobody_came_to_are_served_all_the_same():
    rows, members = population(60)
    got = only(rows, [cycle(state="abandoned", close_reason="abandoned")], members)
    assert got["students"] == len(members)


def test_the_nearest_tests_around_a_cycle_count_and_a_running_cycle_has_none():
    rows = screened("ana", 190.0, 200.0) + screened("ana", 200.0, 210.0, ("winter", "spring"))[1:]
    for opened, closed, spans in ((14, 49, [("fall", "winter")]), (14, 150, [("fall", "spring")]), (-9, 20, [])):
        got = effects(rows, [cycle(opened=opened, closed=closed)], [member("ana")])
        assert got.select("before_window", "after_window").rows() == spans
    assert effects(rows, [cycle(closed=None)], [member("ana")]).is_empty()
    left = member("ana", left_on=TESTED_ON["fall"] + timedelta(30))
    assert effects(rows, [cycle(closed=None)], [left])["after_window"].to_list() == ["winter"]
    twice = effects(rows, [cycle(), cycle("c2", opened=60, closed=90)], [member("ana"), member("ana", "c2")])
    assert twice["students"].to_list() == [1]


# The cut


def test_where_the_cut_is_followed_it_makes_the_comparison():
    rows, members = population(2000, gain=6, served=lambda score, coin: (score < CUT) == (coin < 0.97))
    got = only(rows, [cycle()], members)
    assert (got["method"], got["cut_refusal"]) == ("regression_discontinuity", None)
    assert 0.9 < got["follows_cut_share"] < 1
    assert got["cut_students"] > 100
    assert got["effect_low"] < 0.94 * 6 / 10.8 < got["effect_high"]
    assert "just below the cut" in got["statement"]


def test_the_jump_is_that_of_two_straight_lines():
    rows, members = population(300, gain=6, served=lambda score, coin: score < CUT)
    got = only(rows, [cycle()], members)
    scores = {row["natural_key"]: row["score"] for row in rows}
    everyone = sorted({row["subject_key"] for row in rows})
    pre, post = (np.array([scores[f"{who}-{window}"] for who in everyone]) for window in ("fall", "winter"))
    cut = (pre[pre < CUT].max() + pre[pre >= CUT].min()) / 2
    x, y = (pre - cut) / pre.std(ddof=1), (post - post.mean()) / post.std(ddof=1)
    near = abs(x) <= 0.5
    lines = [stats.linregress(x[near & side], y[near & side]) for side in (pre < CUT, pre >= CUT)]
    assert got["follows_cut_share"] == 1
    assert got["cut_students"] == near.sum()
    assert got["effect"] == pytest.approx(lines[0].intercept - lines[1].intercept, abs=1e-6)
    error = np.hypot(lines[0].intercept_stderr, lines[1].intercept_stderr)
    assert got["effect_standard_error"] == pytest.approx(error, abs=1e-6)


def test_a_cut_hardly_anyone_below_is_served_by_is_not_followed():
    """Of all students 95 % do what the cut says; of those below it, half."""
    rows, members = population(800, mean=213)
    got = only(rows, [cycle()], members)
    assert got["follows_cut_share"] < 0.6
    assert got["cut_refusal"] == "cut_not_followed"


def test_a_cut_that_lies_nowhere_on_the_scale_makes_no_comparison():
    rows, members = population(300, served=lambda score, coin: score < CUT)
    assert only(rows, [cycle()], members)["cut_refusal"] is None
    odd = next(row["natural_key"] for row in rows if row["score"] == CUT - 1 and row["benchmark_window"] == "fall")
    crossed = [row | ({"need_level": "none"} if row["natural_key"] == odd else {}) for row in rows]
    assert only(crossed, [cycle()], members)["cut_refusal"] == "too_few_at_the_cut"
    few, some = population(60, served=lambda score, coin: score < CUT)
    assert only(few, [cycle()], some)["cut_refusal"] == "too_few_at_the_cut"


def test_without_need_levels_the_cut_is_unknown():
    rows, members = population(100)
    got = only([row | {"need_level": None} for row in rows], [cycle()], members)
    assert (got["cut_refusal"], got["follows_cut_share"], got["expected_regression"]) == ("cut_unknown", None, None)


def test_tier_3_support_goes_by_the_cut_of_tier_3():
    rows, members = population(600, served=lambda score, coin: score < CUT - 15, mean=195)
    assert only(rows, [cycle(tier=3)], members)["follows_cut_share"] == 1
    assert only(rows, [cycle(tier=2)], members)["follows_cut_share"] < 0.9


# Every row


def test_no_cycles_and_no_tests_are_no_rows():
    rows, members = population(40)
    assert effects(rows, [], []).is_empty()
    assert effects([], [cycle()], members).is_empty()
    assert effects([], [], []).columns == [name for name in columns(InterventionEffect) if name != "input_id"]


def test_neither_the_order_of_rows_nor_another_district_matters():
    rows, members = population(250, gain=3)
    cycles = [cycle(), cycle("c2", None, tier=None, opened=20)]
    members = members + [member(row["subject_key"], "c2") for row in rows[::7]]
    before = effects(rows, cycles, members)
    shaped = before.with_columns(input_id=pl.lit("i")).select(columns(InterventionEffect).keys())
    assert broken_rules(shaped, InterventionEffect).is_empty()
    assert before.height == 2
    draw = np.random.default_rng(3)
    away = {"district_id": "d2"}
    shuffled = [
        [given[place] for place in draw.permutation(len(given))]
        for given in (
            rows + [row | away for row in rows[::2]],
            cycles + [row | away for row in cycles],
            members + [row | away for row in members],
        )
    ]
    assert effects(*shuffled).filter(district_id="d1").equals(before)


def test_words_say_associated_and_never_caused():
    rows, members = population(3000, gain=4)
    for served in (members, members[:15]):
        text = only(rows, [cycle()], served)["statement"].lower()
        assert "caus" not in text
        assert "effective" not in text
