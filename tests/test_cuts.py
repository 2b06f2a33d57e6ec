"""Scores at percentile cuts, and the probability of being below them."""

import json
from datetime import date
from math import erf, floor, isclose, sqrt
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from schemas.contract import broken_rules, conform
from schemas.policy import CutRule, DistrictPolicy, PinnedCut, StandardError, TierRule
from schemas.projections import ClassMembership, CutScore, NeedLevel, ScreeningResult, WindowRule
from tests.examples import examples
from tests.reference_cuts import reference_cut
from tests.tables import EXPORTED, facts, table
from transforms.classes import class_sensitivity
from transforms.cuts import cut_scores, drawn_to_mean, p_below
from transforms.intervals import tail_at_least
from transforms.placement import need_levels

VECTORS = Path(__file__).parent / "data" / "vectors"
BANDS = json.loads((VECTORS / "02_bands.json").read_text("utf-8"))
ERRORS = json.loads((VECTORS / "03_sem_probability.json").read_text("utf-8"))
HERE = {"district_id": "d1", "school_year": "2026", "benchmark_window": "fall"}
WINDOWS = table(WindowRule, "reference_on\n2025-09-30", **HERE).lazy()
NOBODY = table(ClassMembership, "subject_key", **HERE).lazy()
LATE = EXPORTED.replace(year=2026)


def district(**settings) -> DistrictPolicy:
    return DistrictPolicy(time_zone="America/Denver", **settings)


def rule(**settings) -> CutRule:
    given = {
        "measure": "map_growth_math",
        "by": "percentile",
        "tier_2_below": 21,
        "class_need_below": 20,
        "source": "s",
    }
    return CutRule.model_validate(given | settings)


POLICY = district()


def screened(rows: list[dict], **constants) -> pl.LazyFrame:
    """Valid, chosen fall tests of grade 4 by students of their own."""
    given = {
        **HERE,
        "measure": "map_growth_math",
        "grade": "4",
        "norm_version": "2020",
        "standard_error_unit": "score",
        "is_valid": True,
        "is_chosen": True,
        "first_export_at": EXPORTED,
    }
    written = pl.DataFrame([given | constants | row for row in rows], infer_schema_length=None)
    number = pl.format("k{}", pl.int_range(pl.len()))
    return conform(written.with_columns(subject_key=number, natural_key=number).lazy(), ScreeningResult).drop(
        "input_id"
    )


def derive(tests: pl.LazyFrame, policy: DistrictPolicy = POLICY) -> pl.DataFrame:
    return checked(cut_scores(tests, NOBODY, WINDOWS, {"d1": policy}).collect(), CutScore).sort("percentile_cut")


def judge(tests: pl.LazyFrame, policy: DistrictPolicy = POLICY) -> pl.DataFrame:
    policies = {"d1": policy}
    cuts = cut_scores(tests, NOBODY, WINDOWS, policies)
    found = need_levels(tests, NOBODY, WINDOWS, cuts, facts(), policies).collect()
    order = tests.collect().select("natural_key")
    return order.join(checked(found, NeedLevel), on="natural_key", maintain_order="left")


def checked(found: pl.DataFrame, contract) -> pl.DataFrame:
    conformed = conform(found.with_columns(input_id=pl.lit("i")).lazy(), contract).collect()
    assert broken_rules(conformed, contract).is_empty()
    assert dict(found.schema) == dict(conformed.drop("input_id").schema)
    return found


def ladder(**constants) -> list[dict]:
    """Two tests at each score from 181 to 240: percentile = score - 180."""
    return [{"score": float(180 + p), "percentile": float(p), **constants} for p in range(1, 61) for _ in range(2)]


# The score at a percentile cut


def test_the_cut_is_the_midpoint_of_the_highest_score_below_and_the_lowest_at_or_above():
    found = derive(screened([row for row in ladder() if row["percentile"] != 20]))
    assert found.select(
        "percentile_cut", "cut_score", "score_below", "score_at_or_above", "pairs", "source"
    ).rows() == [
        (11, 190.5, 190, 191, 40, "derived"),
        (20, 200, 199, 201, 40, "derived"),
        (21, 200, 199, 201, 40, "derived"),
        (41, 220.5, 220, 221, 42, "derived"),
    ]


@pytest.mark.parametrize(("tests", "source"), [(29, "unknown"), (30, "derived")])
def test_a_cut_needs_thirty_tests_within_ten_percentiles(tests, source):
    near = [{"score": 200.0 + n, "percentile": p} for n, p in enumerate([10.0, 30.0])] * 15
    far = [{"score": 150.0, "percentile": 9.0}, {"score": 250.0, "percentile": 31.0}] * 50
    policy = district(cuts=(rule(class_need_below=20),))
    found = derive(screened(near[:tests] + far), policy).filter(percentile_cut=20)
    assert found.select("pairs", "source").rows() == [(tests, source)]
    assert found["cut_score"].to_list() == [200.5 if source == "derived" else None]


@pytest.mark.parametrize("percentile", [12.0, 28.0])
def test_without_a_test_on_both_sides_the_cut_is_unknown(percentile):
    tests = screened([{"score": score, "percentile": percentile} for score in (199.0, 200.0)] * 20)
    found = derive(tests).filter(percentile_cut=20)
    assert found.select("source", "cut_score", "pairs").rows() == [("unknown", None, 40)]


def test_where_scores_cross_the_isotonic_fit_says_which_are_below():
    crossing = {198: [17, 22], 199: [18, 18], 200: [21, 18], 201: [19, 22], 202: [23, 24]}
    pairs = [(float(score), float(p)) for score, both in crossing.items() for p in both * 8]
    found = derive(screened([{"score": s, "percentile": p} for s, p in pairs])).filter(percentile_cut=20)
    # 198 is 19.5 and 199 is 18: together 18.75; 200 is 19.5; 201 is 20.5
    assert found["cut_score"].to_list() == [200.5]


def test_a_fit_on_the_cut_is_not_below_it():
    pairs = [(198.0, 15.0)] * 20 + [(199.0, 21.0), (200.0, 19.0)] * 20 + [(201.0, 25.0)] * 20
    found = derive(screened([{"score": s, "percentile": p} for s, p in pairs])).filter(percentile_cut=20)
    assert found["cut_score"].to_list() == [198.5]


def test_wrong_percentiles_do_not_carry_the_fit():
    wrong = {"score": 150.0, "percentile": 99.0}
    found = derive(screened([*ladder(), wrong, wrong])).filter(percentile_cut=11)
    assert found["cut_score"].to_list() == [190.5]


def test_each_grade_and_norm_version_has_its_own_cut():
    other = [row | {"score": row["score"] + 30} for row in ladder()]
    tests = screened(
        ladder() + [row | {"norm_version": "2025"} for row in other] + [row | {"grade": "5"} for row in other]
    )
    found = derive(tests).filter(percentile_cut=20).sort("grade", "norm_version")
    assert found.select("grade", "norm_version", "cut_score").rows() == [
        ("4", "2020", 199.5),
        ("4", "2025", 229.5),
        ("5", "2020", 229.5),
    ]


def test_the_cut_is_frozen_by_the_tests_exported_in_time():
    late = [row | {"score": row["score"] + 30, "first_export_at": LATE} for row in ladder()]
    found = derive(screened(ladder() + late)).filter(percentile_cut=20)
    assert found.select("cut_score", "pairs").rows() == [(199.5, 42)]
    assert derive(screened(late)).filter(percentile_cut=20)["cut_score"].to_list() == [229.5]


def test_a_test_that_is_not_valid_or_outside_the_windows_settles_nothing():
    wrong = [row | {"score": row["score"] + 30} for row in ladder()]
    outside = [row | {"is_valid": False} for row in wrong] + [row | {"benchmark_window": None} for row in wrong]
    assert_frame_equal(derive(screened(ladder())), derive(screened(ladder() + outside)))


def test_a_rasch_error_has_its_cut_on_the_rasch_scale():
    rows = [row | {"rasch_score": (row["score"] - 200) / 10, "standard_error": 0.3} for row in ladder()]
    tests = screened(rows, measure="star_math", standard_error_unit="rasch", norm_version=None)
    found = derive(tests)
    assert found.select("scale", "percentile_cut", "cut_score").rows() == [
        ("rasch", 10, -1.05),
        ("rasch", 20, -0.05),
        ("rasch", 25, 0.45),
        ("rasch", 40, 1.95),
    ]
    by_percentile = judge(tests).unique("percentile").sort("percentile")
    p = dict(by_percentile.select("percentile", "p_class_need").iter_rows())
    assert isclose(p[20.0], normal((-0.05 - 0.0) / 0.3), abs_tol=1e-9)
    assert set(by_percentile["probability_basis"]) == {"sem"}


def pin(**settings) -> PinnedCut:
    given = {"measure": "map_growth_math", "grade": "4", "season": "fall", "percentile_below": 20, "source": "Board"}
    return PinnedCut.model_validate(given | settings)


def test_a_pinned_cut_wins_over_the_derived_one():
    pins = (
        pin(score=201),
        pin(score=202, valid_from="2025-09-01"),
        pin(score=203, norm_version="2025", valid_from="2025-09-02"),
        pin(score=204, valid_from="2025-10-01"),
        pin(score=205, grade="5"),
        pin(score=206, season="winter"),
        pin(score=207, percentile_below=11, norm_version="2020"),
        pin(score=208, percentile_below=11, valid_from="2025-09-02"),
    )
    found = derive(screened(ladder()), district(pinned_cuts=pins))
    assert found.select("percentile_cut", "cut_score", "source", "pinned_source").rows() == [
        (11, 207, "pinned", "Board"),
        (20, 202, "pinned", "Board"),
        (21, 200.5, "derived", None),
        (41, 220.5, "derived", None),
    ]


def test_a_rule_by_score_or_label_has_no_percentile_cut():
    by_score = district(cuts=(rule(by="score", tier_2_below=200, class_need_below=200),))
    assert derive(screened(ladder()), by_score).is_empty()
    assert derive(screened(ladder(), measure="fastbridge_amath")).is_empty()


PAIRS = st.lists(
    st.tuples(st.integers(0, 12).map(lambda n: 190 + n / 2), st.integers(1, 60).map(lambda p: p / 2)),
    min_size=20,
    max_size=70,
)


@given(PAIRS, st.integers(0, 99))
@examples(60)
def test_any_pairs_give_the_cut_of_the_slow_version_in_any_order_and_none_falls_as_the_percentile_rises(pairs, seed):
    policy = district(cuts=(rule(tier_3_below=7.5, tier_2_below=15, watch_below=25, class_need_below=12),))
    tests = screened([{"score": score, "percentile": percentile} for score, percentile in pairs])
    found = derive(tests, policy)
    shuffled = tests.collect().sample(fraction=1, shuffle=True, seed=seed).lazy()
    assert_frame_equal(found, derive(shuffled, policy), check_exact=True)
    assert {row[0]: row[1:] for row in found.select("percentile_cut", "cut_score", "pairs").iter_rows()} == {
        cut: reference_cut(pairs, cut) for cut in (7.5, 12.0, 15.0, 25.0)
    }
    known = found["cut_score"].drop_nulls()
    assert known.to_list() == sorted(known)


# Probabilities


def normal(z: float) -> float:
    return (1 + erf(z / sqrt(2))) / 2


def by_score(**settings) -> DistrictPolicy:
    cuts = (rule(by="score", tier_3_below=180, tier_2_below=188, class_need_below=188),)
    return district(cuts=cuts, **settings)


@pytest.mark.parametrize("case", ERRORS["cases"], ids=lambda case: str(case["x"]))
def test_the_probability_below_a_cut_by_the_tests_own_error(case):
    found = judge(screened([{"score": float(case["x"]), "standard_error": case["sem"]}]), by_score()).row(0, named=True)
    assert isclose(found["p_tier_2"], case["p_t2"], abs_tol=1e-8)
    assert isclose(found["p_tier_3"], case["p_t3"], abs_tol=1e-8)
    tiers = (1 - found["p_tier_2"], found["p_tier_2"] - found["p_tier_3"], found["p_tier_3"])
    assert all(isclose(*both, abs_tol=1e-8) for both in zip(tiers, case["p_tier"], strict=True))
    assert (found["probability_basis"], found["probability_flag"]) == ("sem", None)


@pytest.mark.parametrize("case", ERRORS["cases"], ids=lambda case: str(case["x"]))
def test_kelley_draws_the_score_to_the_mean(case):
    expected = case["kelley_t2_mu198_sd15"]
    score, error = drawn_to_mean(pl.lit(float(case["x"])), pl.lit(case["sem"]), pl.lit(198.0), pl.lit(15.0))
    found = pl.select(score=score, error=error, p=p_below(pl.lit(188.0), score, error)).row(0, named=True)
    assert isclose(found["score"], expected["true_mean"], abs_tol=1e-8)
    assert isclose(found["error"], expected["true_sd"], abs_tol=1e-8)
    assert isclose(found["p"], expected["p_below"], abs_tol=1e-8)


def test_kelley_takes_mean_and_deviation_of_the_grade_and_needs_thirty_tests():
    scores = [190.0 + n % 10 for n in range(30)]
    tests = screened([{"score": score, "standard_error": 1.5} for score in scores])
    kelley = by_score(tiers=TierRule(probability="kelley"))
    found = judge(tests, kelley)
    mean = sum(scores) / 30
    variance = sum((score - mean) ** 2 for score in scores) / 29
    rho = 1 - 1.5**2 / variance
    expected = normal((188 - (mean + rho * (190 - mean))) / (1.5 * sqrt(rho)))
    assert isclose(found["p_tier_2"][0], expected, abs_tol=1e-8)
    assert set(found["probability_basis"]) == {"kelley"}
    few = judge(screened([{"score": score, "standard_error": 1.5} for score in scores[:29]]), kelley)
    assert isclose(few["p_tier_2"][0], normal((188 - 190) / 1.5), abs_tol=1e-8)
    assert set(few["probability_basis"]) == {"sem"}
    wide = judge(screened([{"score": score, "standard_error": 9.0} for score in scores]), kelley)
    assert set(wide["probability_basis"]) == {"sem"}


def test_a_measure_without_errors_takes_its_default():
    errors = (
        StandardError(measure="map_growth_math", standard_error=4, valid_from=date(2025, 9, 1), source="s"),
        StandardError(measure="map_growth_math", standard_error=5, valid_from=date(2025, 10, 1), source="s"),
        StandardError(measure="map_growth_math", standard_error=6, scale="rasch", source="s"),
    )
    for policy, error in ((by_score(), 3), (by_score(standard_errors=errors), 4)):
        found = judge(screened([{"score": 187.0}, {"score": 187.0, "standard_error": 0.0}]), policy)
        assert all(isclose(p, normal(1 / error), abs_tol=1e-8) for p in found["p_tier_2"])
        assert found["probability_basis"].to_list() == ["sem_default"] * 2
        assert found["probability_flag"].to_list() == [None] * 2


def told(tests: pl.LazyFrame, policy: DistrictPolicy = POLICY) -> list[tuple]:
    names = ("p_tier_3", "p_tier_2", "p_class_need", "probability_basis", "probability_flag")
    return judge(tests, policy).select(names).rows()


def test_without_any_error_the_observed_need_is_all_there_is():
    rows = [{"score": 1.0, "percentile": p} for p in (9.0, 11.0, 20.0, 25.0)]
    tests = screened(rows, measure="local", standard_error_unit=None)
    assert told(tests) == [
        (1, 1, 1, "none", "sem_missing"),
        (0, 1, 1, "none", "sem_missing"),
        (0, 1, 0, "none", "sem_missing"),
        (0, 0, 0, "none", "sem_missing"),
    ]


def test_an_error_in_another_unit_than_the_cut_is_no_error():
    tests = screened(
        [{"score": 187.0, "standard_error": 0.3, "rasch_score": 1.0}], measure="star_math", standard_error_unit="rasch"
    )
    policy = district(cuts=(rule(measure="star_math", by="score", tier_2_below=188, class_need_below=188),))
    assert told(tests, policy) == [(0, 1, 1, "none", "sem_missing")]


def test_at_a_cut_without_a_score_the_observed_need_is_all_there_is():
    assert told(screened([{"score": 200.0, "percentile": 15.0, "standard_error": 3.0}])) == [
        (0, 1, 1, "none", "cut_unknown")
    ]


def test_a_cut_that_is_known_keeps_its_probability_beside_one_that_is_not():
    low = {"score": 150.0, "percentile": 10.0, "standard_error": 3.0}
    policy = district(pinned_cuts=(pin(percentile_below=21, score=151.0),))
    p = round(normal(1 / 3), 9)
    assert told(screened([low]), policy) == [(p, p, 1, "sem", "cut_unknown")]


def test_a_label_and_the_knob_none_are_certain():
    labelled = screened(
        [{"score": 1.0, "placement": label} for label in ("highRisk", "someRisk", "lowRisk", "?")],
        measure="fastbridge_amath",
    )
    assert told(labelled) == [
        (1, 1, 1, "label", None),
        (0, 1, 0, "label", None),
        (0, 0, 0, "label", None),
        (None, None, None, None, None),
    ]
    certain = by_score(tiers=TierRule(probability="none"))
    assert told(screened([{"score": 187.0, "standard_error": 3.0}]), certain) == [(0, 1, 1, "none", None)]


def test_a_rule_without_a_tier_3_cut_puts_nobody_below_it():
    policy = district(cuts=(rule(by="score", tier_2_below=188, class_need_below=188),))
    assert told(screened([{"score": 188.0, "standard_error": 3.0}]), policy) == [(0, 0.5, 0.5, "sem", None)]


def test_observed_need_does_not_move_with_the_error():
    rows = [row | {"standard_error": 3.0} for row in ladder()]
    kept = ["need_level", "is_in_need", "rule"]
    found = [judge(screened(rows), district(tiers=TierRule(probability=p))) for p in ("rudner", "kelley", "none")]
    assert_frame_equal(found[0].select(kept), found[1].select(kept))
    assert_frame_equal(found[0].select(kept), found[2].select(kept))
    assert [set(each["probability_basis"]) for each in found] == [{"sem"}, {"kelley"}, {"none"}]


@given(PAIRS, st.sampled_from(["rudner", "kelley", "none"]), st.integers(0, 99))
@examples(30)
def test_probabilities_fall_with_the_cut_and_the_score_and_depend_on_no_order(pairs, model, seed):
    cut = rule(tier_3_below=10, tier_2_below=15, class_need_below=12)
    policy = district(cuts=(cut,), tiers=TierRule(probability=model))
    tests = screened([{"score": score, "percentile": p, "standard_error": 2.0} for score, p in pairs])
    found = judge(tests, policy)
    shuffled = tests.collect().sample(fraction=1, shuffle=True, seed=seed)
    again = judge(shuffled.lazy(), policy)
    assert_frame_equal(found.sort("natural_key"), again.sort("natural_key"), check_exact=True)
    assert found.select((pl.col("p_tier_3") <= pl.col("p_tier_2")).all()).item()
    if found["probability_flag"].null_count() == found.height and model != "none":
        assert found.select((pl.col("p_tier_3") <= pl.col("p_class_need")).all()).item()
        assert found.select((pl.col("p_class_need") <= pl.col("p_tier_2")).all()).item()
        assert found.sort("score").select((pl.col("p_tier_2").diff() <= 1e-9).all()).item()


# Bands of vendors (METHOD 1.1)

LEVEL_OF_BAND = {
    "map_growth_quintile": {"low": ("tier_2", "tier_3"), "lo_avg": ("watch",)},
    "star_us_default": {"urgent_intervention": ("tier_3",), "intervention": ("tier_2",), "on_watch": ("watch",)},
    "aimswebplus_levels": {"well_below_average": ("tier_3",), "below_average": ("tier_2",)},
}
MEASURE_OF = {
    "map_growth_quintile": "map_growth_math",
    "star_us_default": "star_math",
    "aimswebplus_levels": "aimswebplus_math",
}


@pytest.mark.parametrize("convention", LEVEL_OF_BAND)
def test_default_cuts_follow_the_bands_of_the_vendor(convention):
    edges = BANDS["edge_cases"][convention]
    tests = screened(
        [{"score": 1.0, "percentile": float(edge["pr"])} for edge in edges], measure=MEASURE_OF[convention]
    )
    for edge, level in zip(edges, judge(tests)["need_level"], strict=True):
        assert level in LEVEL_OF_BAND[convention].get(edge["band"], ("none",))


@pytest.mark.parametrize("convention", [name for name, bands in BANDS["conventions"].items() if len(bands) < 5])
def test_bands_of_any_convention_can_be_a_districts_cuts(convention):
    bands = BANDS["conventions"][convention]
    names = ["tier_3", "tier_2", "watch"][: len(bands) - 1]
    own = rule(**{f"{name}_below": high + 1 for name, (_, _, high) in zip(names, bands, strict=False)})
    level = dict(zip((band for band, _, _ in bands), [*names, "none"], strict=True))
    edges = BANDS["edge_cases"][convention]
    tests = screened([{"score": 1.0, "percentile": float(edge["pr"])} for edge in edges])
    found = judge(tests, district(cuts=(own,)))
    assert found["need_level"].to_list() == [level[edge["band"]] for edge in edges]


@pytest.mark.parametrize(
    "case", BANDS["naive_rule_flag_probability"], ids=lambda case: f"{case['base_rate']}-{case['n']}"
)
def test_the_raw_rule_flags_average_classes_by_chance(case):
    for percent in (10, 20):
        first = floor(case["n"] * percent / 100) + 1
        found = tail_at_least(first, case["n"], case["base_rate"])
        assert isclose(float(found), case[f"p_rate_gt_{percent}"], abs_tol=1e-8)


# The class


def test_the_true_share_of_a_class_given_the_errors_of_its_tests():
    case = ERRORS["class_example"]
    rows = [{"score": float(score), "standard_error": case["sem"]} for score in case["scores"]]
    tests = screened([*rows, {"score": 150.0, "standard_error": 3.2}, {"score": 150.0, "standard_error": 3.2}])
    cut = rule(by="score", tier_2_below=case["cut"], class_need_below=case["cut"])
    needs = judge(tests, district(cuts=(cut,))).lazy()
    members = needs.select("subject_key", **{name: pl.lit(value) for name, value in HERE.items()}).with_columns(
        school_id=pl.lit("s1"),
        class_id=pl.lit("c"),
        is_mobile=pl.col("subject_key") == "k10",
        is_alternate_assessment=pl.col("subject_key") == "k11",
    )

    def told(tau: tuple[int, int], needs: pl.LazyFrame = needs) -> dict:
        asked = pl.DataFrame(HERE | {"class_id": "c", "measure": "map_growth_math", "tested": 10}).with_columns(
            tau_parts=pl.lit(tau[0], pl.Int64), tau_of=pl.lit(tau[1], pl.Int64)
        )
        return class_sensitivity(members, needs, asked).row(0, named=True)

    fifth = told((1, 5))
    assert isclose(fifth["expected_in_need"], case["expected_count"], abs_tol=1e-8)
    assert isclose(fifth["p_above_with_error"], case["p_true_rate_gt_20"], abs_tol=1e-8)
    assert isclose(told((499, 1000))["p_above_with_error"], case["p_true_rate_ge_50"], abs_tol=1e-8)
    # without any error the count says nothing about errors
    observed = needs.with_columns(probability_basis=pl.lit("none"))
    assert [told((1, 5), observed)[name] for name in ("expected_in_need", "p_above_with_error")] == [None, None]
