"""Class decisions."""

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from scipy import stats

from schemas.contract import conform, require
from schemas.policy import ClassRule, CutRule, DistrictPolicy
from schemas.projections import LEVELS, ClassDecision
from tests import reference_classrooms as reference
from tests.examples import examples
from tests.made_classes import POLICY, quality, school_data
from transforms.class_priors import network_priors
from transforms.classes import UnknownDistrict
from transforms.classrooms import LEVEL_OF, class_decisions, evaluable_classes

VECTORS = Path(__file__).parent / "data" / "vectors"
FIXED = DistrictPolicy(time_zone="America/Denver", classes=ClassRule(prior="fixed"))
ONE_LEVEL = DistrictPolicy(time_zone="America/Denver", classes=ClassRule(prior="one_level"))
READ = examples(40)


def decided(*classes, checks=None, policies=None):
    memberships, needs = school_data(classes)
    return class_decisions(memberships, needs, quality() if checks is None else checks, policies or {"d1": POLICY})


def one(frame, cls="a"):
    return frame.row(by_predicate=pl.col("class_id") == cls, named=True)


# Vectors


def vector_13():
    return json.loads((VECTORS / "13_level_decision.json").read_text())


def of_vector_13(rule=ONE_LEVEL):
    return decided(
        *({"cls": r["cls"], "school": r["school"], "y": r["y"], "n": r["n_tested"], "roster": r["n_roster"]}
          for r in vector_13()["rows"]), policies={"d1": rule}
    )  # fmt: skip


def test_vector_13_gives_its_levels():
    found = of_vector_13()
    levels = dict(zip(found["class_id"], found["level"], strict=True))
    expected = {each["cls"]: each["level"] for each in vector_13()["classes"]}
    expected["e3"] = "LOW_COVERAGE"  # SEMANTICS 7.4 splits INSUFFICIENT_DATA
    assert levels == expected


def test_vector_13_gives_its_fit_pools_coverage_and_comparisons():
    vector, found = vector_13(), of_vector_13()
    for each in vector["classes"]:
        row = one(found, each["cls"])
        school = vector["schools"][each["school"]]
        assert row["grade_coverage"] == pytest.approx(school["coverage"], abs=1e-8)
        assert (row["grade_in_need"], row["grade_tested"]) == (school["pooled_y"], school["pooled_n"])
        assert row["p_grade_above"] == pytest.approx(school["p_grade_gt_tau"], abs=1e-8)
        assert row["p_above"] == pytest.approx(each["p_gt_tau"], abs=1e-5)
        assert row["p_above_peers"] == pytest.approx(each["p_above_rest"], abs=1e-8)
        assert row["is_flagged"] == each["flagged"]
        assert (row["level"] == "SYSTEM_DATA") == school["system_data"]
        assert row["level"].startswith("SYSTEM") == (school["system_data"] or school["system_grade"])
        assert row["p_district_above"] == pytest.approx(vector["district"]["p_district_gt_tau"], abs=1e-8)
        assert row["is_district_wide"] == vector["district"]["system_district"]
    row = one(found, "a1")
    assert (row["prior"], row["prior_from"], row["at_bound"]) == ("one_level", "district_grade", False)
    assert row["prior_mean"] == pytest.approx(vector["fit"]["mu"], abs=1e-5)
    assert row["prior_strength"] == pytest.approx(vector["fit"]["M"], rel=1e-4)
    assert row["reliability"] == pytest.approx(24 / (24 + vector["fit"]["M"]), abs=1e-5)


@pytest.mark.parametrize("case", json.loads((VECTORS / "11_coverage_bounds.json").read_text())["cases"])
def test_vector_11_gives_its_coverage_bounds_and_verdict(case):
    row = one(decided({"cls": "a", "y": case["y"], "n": case["n_tested"], "roster": case["n_roster"]}))
    assert row["coverage"] == pytest.approx(case["coverage"])
    assert [row["bound_low"], row["bound_high"]] == pytest.approx(case["worst_case"])
    assert row["bound_verdict"] == case["verdict"]
    assert (row["level"] in ("LOW_COVERAGE", "SYSTEM_DATA")) == (case["status"] == "insufficient_data")


@pytest.mark.parametrize("case", json.loads((VECTORS / "09_class_rates.json").read_text())["cases"])
def test_vector_09_gives_its_band_and_interval(case):
    row = one(decided({"cls": "a", "y": case["y"], "n": case["n"], "roster": case["n"]}))
    assert row["guidance_band"] == case["cde_band"]
    assert [row["interval_low"], row["interval_high"]] == pytest.approx(case["jeffreys95"], abs=1e-8)
    if case["n"] >= 10:
        assert row["p_tail"] == pytest.approx(case["p_tail_ge"], abs=1e-8)
    else:
        assert row["p_tail"] is None


# Examples


def test_the_frame_is_what_its_contract_says():
    found = decided({"cls": "a", "y": 5, "n": 20, "roster": 22}, {"cls": "b", "y": 0, "n": 0, "roster": 0, "mobile": 2})
    rows = conform(found.lazy().with_columns(input_id=pl.lit("i")), ClassDecision).collect()
    assert require(rows, ClassDecision).height == 2


@pytest.mark.parametrize(
    ("y", "n", "band"),
    [
        (2, 20, "10-20"),
        (4, 20, "10-20"),
        (5, 20, ">20"),
        (1, 11, "<10"),
        (3, 15, "10-20"),
        (7, 35, "10-20"),
        (0, 9, "<10"),
    ],
)
def test_exactly_10_and_20_percent_are_in_the_middle_band(y, n, band):
    assert one(decided({"cls": "a", "y": y, "n": n, "roster": n}))["guidance_band"] == band


def test_mobile_and_alternate_members_leave_y_n_and_roster():
    row = one(decided({"cls": "a", "y": 2, "n": 20, "roster": 22, "mobile": 3, "alternate": 1}))
    assert (row["in_need"], row["tested"], row["enrolled"], row["mobile"]) == (2, 20, 22, 3)


def test_recommended_is_counted_beside_in_need():
    row = one(decided({"cls": "a", "y": 6, "n": 20, "roster": 20, "watch": 1}))
    assert (row["in_need"], row["recommended"]) == (6, 7)


def test_a_test_the_rule_cannot_judge_is_not_tested():
    memberships, needs = school_data([{"cls": "a", "y": 5, "n": 20, "roster": 20}])
    unclear = pl.col("subject_key").str.ends_with("-19")
    needs = needs.with_columns(is_in_need=pl.when(~unclear).then("is_in_need"))
    assert one(class_decisions(memberships, needs, quality(), {"d1": POLICY}))["tested"] == 19


def test_a_class_of_mobile_members_only_has_nulls_and_is_small():
    found = decided({"cls": "a", "y": 5, "n": 20, "roster": 20}, {"cls": "b", "y": 0, "n": 0, "roster": 0, "mobile": 2})
    row = one(found, "b")
    assert (row["level"], row["reason"], row["enrolled"], row["mobile"]) == ("TOO_SMALL", "nobody_enrolled", 0, 2)
    empty = ("coverage", "need_share", "guidance_band", "interval_low", "interval_high", "p_above", "bound_low",
             "bound_high", "bound_verdict", "p_above_peers", "prior", "p_tail", "severity", "pooled_level")  # fmt: skip
    assert [row[name] for name in empty] == [None] * len(empty)


def test_a_class_nobody_of_which_was_tested_has_nulls_and_bounds_from_0_to_1():
    found = decided(
        *({"cls": c, "y": 3, "n": 25, "roster": 25} for c in "bcdef"), {"cls": "a", "y": 0, "n": 0, "roster": 20}
    )
    row = one(found)
    assert (row["level"], row["coverage"], row["bound_low"], row["bound_high"]) == ("LOW_COVERAGE", 0.0, 0.0, 1.0)
    assert [row[name] for name in ("need_share", "guidance_band", "interval_low", "p_above")] == [None] * 4
    assert row["bound_verdict"] == "ambiguous"


def test_fewer_than_ten_tested_is_small_not_missing():
    assert one(decided({"cls": "a", "y": 9, "n": 9, "roster": 9}))["level"] == "TOO_SMALL"
    assert one(decided({"cls": "a", "y": 9, "n": 10, "roster": 10}))["level"] == "CLASSROOM_OR_SYSTEM"


def test_coverage_of_exactly_80_percent_is_enough_and_below_it_is_not():
    full = [{"cls": c, "y": 1, "n": 25, "roster": 25} for c in "bcd"]
    assert one(decided(*full, {"cls": "a", "y": 1, "n": 20, "roster": 25}))["level"] == "STUDENT"
    assert one(decided(*full, {"cls": "a", "y": 1, "n": 19, "roster": 25}))["level"] == "LOW_COVERAGE"


def test_a_grade_covered_below_80_percent_is_a_data_matter():
    row = one(decided({"cls": "a", "y": 9, "n": 20, "roster": 20}, {"cls": "b", "y": 0, "n": 3, "roster": 20}))
    assert (row["level"], row["reason"]) == ("SYSTEM_DATA", "grade_coverage_low")


def test_more_than_a_third_of_classes_with_low_coverage_is_a_data_matter_and_small_ones_do_not_count():
    full = [{"cls": c, "y": 1, "n": 60, "roster": 60} for c in "bc"]
    low = {"cls": "a", "y": 1, "n": 15, "roster": 20}
    assert one(decided(*full, low))["level"] == "LOW_COVERAGE"
    second = {"cls": "d", "y": 1, "n": 15, "roster": 20}
    assert one(decided(*full, low, second))["reason"] == "many_classes_coverage_low"
    small = [{"cls": c, "y": 0, "n": 5, "roster": 5} for c in "efg"]
    assert one(decided(*full, low, second, *small))["reason"] == "many_classes_coverage_low"


def test_a_blocking_failure_of_a_school_makes_its_classes_a_data_matter_and_no_others():
    classes = [{"cls": c, "school": s, "y": 9, "n": 20, "roster": 20} for c, s in (("a", "s1"), ("b", "s2"))]
    failed = decided(*classes, checks=quality({"school_id": "s1", "rule": "volume"}))
    assert dict(zip(failed["class_id"], failed["level"], strict=True))["a"] == "SYSTEM_DATA"
    assert one(failed, "b")["level"] != "SYSTEM_DATA"
    for harmless in ({"is_blocking": False}, {"is_passed": True}, {"school_id": None}, {"school_year": "2025"}):
        assert one(decided(*classes, checks=quality({"school_id": "s1"} | harmless)))["level"] != "SYSTEM_DATA"


def test_a_school_that_did_not_test_where_the_others_did_is_in_scope():
    others = [{"cls": f"b{i}", "school": f"s{i}", "y": 3, "n": 20, "roster": 20} for i in range(2, 7)]
    silent = {"cls": "a", "school": "s1", "y": 0, "n": 0, "roster": 20}
    assert one(decided(*others, silent))["level"] == "SYSTEM_DATA"
    assert decided(*others[:4], silent, silent | {"cls": "c", "school": "s9"}).height == 6
    assert decided(*others[:3], silent, silent | {"cls": "c", "school": "s9"}).height == 3


def test_results_of_exactly_20_percent_are_in_scope():
    assert decided({"cls": "a", "y": 0, "n": 4, "roster": 20}).height == 1
    assert decided({"cls": "a", "y": 0, "n": 4, "roster": 21}).height == 0


def test_a_remedial_section_is_judged_alone():
    regular = [{"cls": c, "y": 2, "n": 20, "roster": 20} for c in "bc"]
    found = decided(*regular, {"cls": "a", "y": 18, "n": 20, "roster": 20, "section": "remedial"})
    row = one(found)
    assert (row["level"], row["reason"], row["p_above_peers"]) == ("WATCH", "section_not_regular", None)
    assert one(found, "b")["grade_tested"] == 40
    high = [{"cls": c, "y": 12, "n": 20, "roster": 20} for c in "bc"]
    assert one(decided(*high, {"cls": "a", "y": 18, "n": 20, "roster": 20, "section": "advanced"}))["level"] == "WATCH"


def test_a_remedial_section_beside_one_regular_class_leaves_it_the_only_class():
    found = decided(
        {"cls": "a", "y": 12, "n": 20, "roster": 20},
        {"cls": "b", "y": 12, "n": 20, "roster": 20, "section": "remedial"},
    )
    assert one(found)["level"] == "CLASSROOM_OR_SYSTEM"


def test_a_weak_flag_alone_stays_a_watch():
    """Eight of 24 reaches the floor of .80, but its chance of being wrong is above the district's .10."""
    alone = {"cls": "a", "y": 8, "n": 24, "roster": 24}
    others = [{"cls": c, "y": 1, "n": 24, "roster": 24} for c in "bcd"]
    row = one(decided(alone, *others, policies={"d1": FIXED}))
    assert row["p_above"] == pytest.approx(0.8869826778, abs=1e-8)
    assert (row["is_flagged"], row["level"]) == (False, "WATCH")


def test_a_class_takes_the_grade_of_most_members_and_the_lower_of_a_tie():
    memberships, needs = school_data([{"cls": "a", "y": 2, "n": 20, "roster": 20, "grade": "5"}])
    place = pl.col("subject_key").str.split("-").list.last().cast(pl.Int64)
    for fourth, expected in ((9, "5"), (10, "4"), (11, "4")):
        mixed = memberships.with_columns(grade=pl.when(place < fourth).then(pl.lit("4")).otherwise("grade"))
        assert one(class_decisions(mixed, needs, quality(), {"d1": POLICY}))["grade"] == expected
    kindergarten = memberships.with_columns(grade=pl.when(place < 10).then(pl.lit("K")).otherwise(pl.lit("1")))
    assert one(class_decisions(kindergarten, needs, quality(), {"d1": POLICY}))["grade"] == "K"
    tenth = memberships.with_columns(grade=pl.when(place < 10).then(pl.lit("10")).otherwise(pl.lit("9")))
    assert one(class_decisions(tenth, needs, quality(), {"d1": POLICY}))["grade"] == "9"


def test_labels_are_letters_by_class_id_and_the_same_in_every_window_and_measure():
    classes = [
        {"cls": c, "y": 2, "n": 20, "roster": 20, "window": w, "measure": m}
        for c in ("x2", "x1")
        for w in ("fall", "winter")
        for m in ("map_growth_math", "star_math")
    ]
    opened_later = {"cls": "x0", "y": 2, "n": 20, "roster": 20, "window": "winter"}
    found = decided(*classes, opened_later).group_by("class_id").agg(pl.col("class_label").unique()).sort("class_id")
    assert found["class_label"].to_list() == [["Grade 4, class C"], ["Grade 4, class A"], ["Grade 4, class B"]]


def test_the_twenty_seventh_class_has_two_letters():
    found = decided(*({"cls": f"c{i:02}", "y": 1, "n": 10, "roster": 10} for i in range(28)))
    assert one(found, "c26")["class_label"] == "Grade 4, class AA"
    assert one(found, "c27")["class_label"] == "Grade 4, class AB"


def test_members_without_a_class_make_no_rows():
    memberships, needs = school_data([{"cls": "a", "y": 2, "n": 20, "roster": 20}])
    none = memberships.with_columns(class_id=pl.lit(None, pl.String))
    assert class_decisions(none, needs, quality(), {"d1": POLICY}).height == 0


def test_the_cut_in_force_is_named():
    policy = DistrictPolicy(
        time_zone="America/Denver",
        cuts=(
            CutRule(measure="own", by="score", source="s", tier_2_below=190, class_need_below=188, grades=("4",)),
            CutRule(measure="own", by="percentile", source="s", tier_2_below=25, class_need_below=15),
        ),
    )
    base = {"y": 2, "n": 20, "roster": 20, "measure": "own"}
    found = decided(
        base | {"cls": "a"},
        base | {"cls": "b", "grade": "5"},
        base | {"cls": "c", "measure": "iready_math"},
        base | {"cls": "d", "measure": "something_else"},
        policies={"d1": policy},
    )
    cuts = {(row["class_id"]): row["need_cut"] for row in found.to_dicts() if row["tested"]}
    assert cuts == {"a": "score<188", "b": "PR<15", "c": "vendor label", "d": "PR<20"}


def test_districts_keep_their_own_rules_and_do_not_mix():
    strict = DistrictPolicy(time_zone="America/Denver", classes=ClassRule(class_minimum=25))
    both = decided(
        {"cls": "a", "y": 12, "n": 20, "roster": 20},
        {"cls": "z", "y": 12, "n": 20, "roster": 20, "district_id": "d2"},
        policies={"d1": POLICY, "d2": strict},
    )
    assert both["level"].to_list() == ["CLASSROOM_OR_SYSTEM", "TOO_SMALL"]
    assert both["p_above_peers"].to_list() == [None, None]


def test_a_district_without_policy_is_named():
    with pytest.raises(UnknownDistrict, match="No policy for district d2"):
        decided({"cls": "a", "y": 1, "n": 20, "roster": 20, "district_id": "d2"})


# Priors


def grade_of(schools, classes, *, y=3, n=22, **more):
    """So many schools with so many classes each, of counts that differ a little."""
    return [
        {"cls": f"{more.get('district_id', '')}{more.get('grade', '')}s{s}c{c}", "school": f"s{s}",
         "y": y + (s + 2 * c) % 3, "n": n, "roster": n} | more
        for s in range(schools) for c in range(classes)
    ]  # fmt: skip


def priors_of(frame):
    return set(frame.select("prior", "prior_from").drop_nulls().rows())


def test_a_grade_is_fitted_with_as_many_levels_as_it_has_classes_and_schools_for():
    for schools, classes, expected in (
        (4, 2, ("two_level", "district_grade")),
        (3, 3, ("two_level", "district_grade")),
        (2, 4, ("one_level", "district_grade")),
        (7, 1, ("pooled", "district_grade")),
        (3, 1, ("pooled", "district_grade")),
        (2, 1, ("pooled", "district")),
    ):
        assert priors_of(decided(*grade_of(schools, classes))) == {expected}


def test_a_grade_of_two_classes_takes_the_rate_of_all_grades():
    found = decided(*grade_of(2, 1, y=10), *grade_of(5, 1, y=2, grade="5"))
    rows = found.filter(pl.col("grade") == "4").to_dicts()
    in_need, tested = found["in_need"].sum(), found["tested"].sum()
    assert {(row["prior_mean"], row["prior_strength"]) for row in rows} == {(round(in_need / tested, 9), 10.0)}
    assert one(found, "5s0c0")["prior_mean"] == pytest.approx(14 / 110, abs=1e-9)


def test_a_district_with_nobody_in_need_has_a_prior_that_still_is_one():
    row = one(decided({"cls": "a", "y": 0, "n": 20, "roster": 20}))
    assert row["prior_mean"] == pytest.approx(0.0024726, abs=1e-6)
    assert 0 < row["posterior_mean"] < 0.01


def of_vector_17(policy=POLICY):
    vector = json.loads((VECTORS / "17_two_level.json").read_text())
    return decided(*({"cls": r["cls"], "school": r["school"], "y": r["y"], "n": r["n"], "roster": r["n"]}
                     for r in vector["rows"]), policies={"d1": policy})  # fmt: skip


def test_two_levels_give_vector_17():
    vector = json.loads((VECTORS / "17_two_level.json").read_text())
    found = of_vector_17()
    schools = {each["school"]: each for each in vector["mle"]["schools"]}
    for each in vector["mle"]["classes"]:
        row = one(found, each["cls"])
        assert row["posterior_mean"] == pytest.approx(each["mean"], abs=1e-4)
        assert row["p_above"] == pytest.approx(each["p_gt_tau"], abs=1e-4)
        assert row["p_above_peers"] == pytest.approx(each["p_gt_school"], abs=1e-4)
        assert row["p_excess"] == pytest.approx(each["p_gt_school_plus_10"], abs=1e-4)
        assert row["p_grade_above"] == pytest.approx(schools[row["school_id"]]["p_gt_tau"], abs=1e-4)


def test_a_class_of_a_system_matter_is_one_of_its_own_only_far_above_its_school_grade():
    """Both classes of s6 and s8 are high; only where it is ten points above, more likely than not, both are told."""
    row = one(of_vector_17(), "s8c3")
    assert row["p_above_peers"] >= 0.90 and row["p_excess"] >= 0.50
    assert row["level"] == "SYSTEM+CLASSROOM"
    strict = DistrictPolicy(time_zone="America/Denver", classes=ClassRule(excess_probability=0.70))
    assert one(of_vector_17(strict), "s8c3")["level"] == "SYSTEM"


def lending(*classes, policies=None):
    memberships, needs = school_data(classes)
    districts = {row.get("district_id", "d1") for row in classes}
    return network_priors(evaluable_classes(memberships, needs, policies or dict.fromkeys(districts, POLICY)))


def test_a_small_district_borrows_the_two_levels_of_its_home():
    mine, others = grade_of(2, 2), [grade_of(3, 2, district_id=d, y=y) for d, y in (("d2", 2), ("d3", 8))]
    network = lending(*mine, *others[0], *others[1])
    assert network.select("classes", "schools", "districts").row(0) == (16, 8, 3)
    memberships, needs = school_data(mine)
    found = class_decisions(memberships, needs, quality(), {"d1": POLICY}, network)
    assert priors_of(found) == {("two_level", "home")}
    assert found["prior_mean"].unique().to_list() == network["prior_mean"].to_list()
    assert found["p_excess"].null_count() == 0


def test_nothing_is_borrowed_where_a_district_can_fit_itself_or_cuts_elsewhere_or_is_alone():
    own, other = grade_of(4, 2), grade_of(4, 2, district_id="d2", y=9)
    memberships, needs = school_data(own)
    found = class_decisions(memberships, needs, quality(), {"d1": POLICY}, lending(*own, *other))
    assert_frame_equal(found, decided(*own))
    assert lending(*other).is_empty()
    elsewhere = CutRule(measure="map_growth_math", by="percentile", source="s", tier_2_below=25, class_need_below=15)
    cut = DistrictPolicy(time_zone="America/Denver", cuts=(elsewhere,))
    small = grade_of(2, 2)
    assert lending(*small, *other, policies={"d1": cut, "d2": POLICY}).is_empty()


def test_what_a_home_lends_does_not_depend_on_the_order_of_its_districts():
    rows = [*grade_of(2, 2), *grade_of(3, 2, district_id="d2", y=6)]
    assert_frame_equal(lending(*rows), lending(*reversed(rows)))


def test_stored_decisions_lend_as_the_classes_behind_them():
    rows = [*grade_of(2, 2), *grade_of(3, 2, district_id="d2", y=6)]
    rows.append({"cls": "r", "y": 20, "n": 22, "roster": 22, "section": "remedial"})
    policies = {"d1": POLICY, "d2": POLICY}
    assert_frame_equal(network_priors(decided(*rows, policies=policies)), lending(*rows))


def test_full_bayes_gives_vector_10():
    vector = json.loads((VECTORS / "10_beta_binomial.json").read_text())
    rule = DistrictPolicy(time_zone="America/Denver", classes=ClassRule(prior="full_bayes"))
    found = decided(
        *({"cls": f"c{i:02}", "y": y, "n": n, "roster": n + 2}
          for i, (y, n) in enumerate(zip(vector["y"], vector["n"], strict=True))), policies={"d1": rule}
    )  # fmt: skip
    assert found["p_above"].to_list() == pytest.approx(vector["full_bayes"]["p_gt_20"], abs=1e-5)
    assert found["prior_mean"][0] == pytest.approx(vector["full_bayes"]["e_mu"], abs=1e-6)
    assert found["p_above_if_all_tested"].is_between(0, 1).all()


def of_moments(*counts):
    rule = DistrictPolicy(time_zone="America/Denver", classes=ClassRule(prior="moments"))
    rows = [{"cls": f"c{i:02}", "y": y, "n": n, "roster": n} for i, (y, n) in enumerate(counts)]
    return decided(*rows, policies={"d1": rule})


def test_moments_give_vector_10():
    vector = json.loads((VECTORS / "10_beta_binomial.json").read_text())
    found = of_moments(*zip(vector["y"], vector["n"], strict=True))
    assert priors_of(found) == {("moments", "district_grade")}
    assert found["prior_mean"][0] == pytest.approx(vector["moments"]["mu"], abs=1e-8)
    assert found["prior_strength"][0] == pytest.approx(vector["moments"]["M"], abs=1e-8)
    mean, strength = vector["moments"]["mu"], vector["moments"]["M"]
    expected = [
        stats.beta.sf(0.2, mean * strength + y, (1 - mean) * strength + n - y)
        for y, n in zip(vector["y"], vector["n"], strict=True)
    ]
    assert found["p_above"].to_list() == pytest.approx(expected, abs=1e-8)
    assert not found["at_bound"].any()


def test_moments_of_classes_that_differ_as_by_chance_stand_at_the_greatest_strength():
    found = of_moments(*[(4, 20)] * 8)
    assert found["prior_strength"].unique().to_list() == [200.0] and found["at_bound"].all()
    nobody = of_moments(*[(0, 20)] * 8)
    assert nobody["prior_mean"][0] > 0 and nobody["p_above"].max() < 0.01
    assert priors_of(of_moments(*[(4, 20)] * 7)) == {("pooled", "district_grade")}


@pytest.mark.parametrize(("fdr", "expected"), [("bayes", "bfdr_flagged"), ("bh", "bh_flagged_q10")])
def test_vector_10_flags_its_classes_under_either_rule_of_false_discovery(fdr, expected):
    vector = json.loads((VECTORS / "10_beta_binomial.json").read_text())
    rule = DistrictPolicy(time_zone="America/Denver", classes=ClassRule(prior="one_level", fdr=fdr))
    found = decided(
        *({"cls": f"c{i:02}", "y": y, "n": n, "roster": n}
          for i, (y, n) in enumerate(zip(vector["y"], vector["n"], strict=True))), policies={"d1": rule}
    )  # fmt: skip
    assert [i for i, is_flagged in enumerate(found["is_flagged"]) if is_flagged] == vector[expected]
    assert found["overdispersion_z"][0] == pytest.approx(vector["tarone"]["z"], abs=1e-8)


# What stands beside the level


def test_severity_follows_the_share_and_the_median():
    rows = {"a": (1, 20), "b": (2, 20), "c": (4, 20), "d": (5, 20), "e": (10, 20), "f": (11, 20)}
    found = decided(*({"cls": c, "y": y, "n": n, "roster": n} for c, (y, n) in rows.items()))
    told = dict(zip(found["class_id"], found["severity"], strict=True))
    assert told == {"a": "none", "b": "watch", "c": "watch", "d": "suspect", "e": "suspect", "f": "classwide_severe"}
    small = decided({"cls": "a", "y": 9, "n": 9, "roster": 9})
    assert small["severity"].to_list() == [None]


@pytest.mark.parametrize(
    ("ranks", "below"), [((5, 19, 20, 60), True), ((5, 20, 20, 60), False), ((5, 19, 21, 60), False)]
)
def test_a_class_whose_median_is_below_the_cut_is_severe_whatever_its_share(ranks, below):
    memberships, needs = school_data([{"cls": "a", "y": 1, "n": 20, "roster": 20}])
    needs = needs.with_columns(percentile=pl.Series(sorted(ranks * 5), dtype=pl.Float64))
    row = one(class_decisions(memberships, needs, quality(), {"d1": POLICY}))
    assert row["class_median_below"] == below
    assert (row["severity"] == "classwide_severe") == below


def test_vendor_labels_have_no_median():
    row = one(decided({"cls": "a", "y": 11, "n": 20, "roster": 20, "measure": "iready_math"}))
    assert (row["class_median_below"], row["severity"]) == (None, "classwide_severe")


def test_a_small_class_is_told_by_its_grade_else_by_its_school():
    small = {"cls": "a", "y": 1, "n": 5, "roster": 5}
    alone = {"cls": "b", "school": "s2", "y": 0, "n": 9, "roster": 9}
    grade = [{"cls": "c", "y": 9, "n": 20, "roster": 20}]
    found = decided(small, alone, *grade)
    assert (one(found)["level"], one(found)["pooled_level"]) == ("TOO_SMALL", "WATCH")
    assert one(found, "b")["pooled_level"] is None
    assert one(found, "c")["pooled_level"] is None
    other_grade = {"cls": "d", "school": "s2", "grade": "5", "y": 0, "n": 8, "roster": 8}
    found = decided(alone, other_grade)
    assert found["pooled_level"].to_list() == ["NONE", "NONE"]
    thin = {"cls": "e", "y": 1, "n": 15, "roster": 25}
    assert (
        one(decided(small, thin, *[row | {"cls": f"x{i}"} for i, row in enumerate(grade * 4)]))["pooled_level"]
        == "WATCH"
    )


def test_the_untested_are_missing_at_random_or_change_nothing():
    for case in json.loads((VECTORS / "11_coverage_bounds.json").read_text())["cases"]:
        row = one(decided({"cls": "a", "y": case["y"], "n": case["n_tested"], "roster": case["n_roster"]},
                          policies={"d1": FIXED}))  # fmt: skip
        if case["status"] == "ok":
            assert row["p_above_if_all_tested"] == pytest.approx(case["p_full_class_rate_gt_20"], abs=1e-8)
        else:
            assert row["p_above_if_all_tested"] is None


def test_fewer_than_95_percent_tested_is_marked_and_decides_nothing():
    told = decided({"cls": "a", "y": 1, "n": 19, "roster": 20}, {"cls": "b", "y": 1, "n": 18, "roster": 20})
    assert told["is_participation_low"].to_list() == [False, True]
    assert told["level"].to_list() == ["STUDENT", "STUDENT"]


def test_a_district_most_schools_of_which_are_a_system_matter_looks_at_the_cut_first():
    high = [{"cls": f"{s}{c}", "school": s, "y": 12, "n": 22, "roster": 22} for s in ("s1", "s2") for c in "ab"]
    low = [{"cls": f"{s}{c}", "school": s, "y": 1, "n": 22, "roster": 22} for s in ("s3", "s4") for c in "ab"]
    assert decided(*high, *low[:2])["is_district_wide"].all()
    assert not decided(*high, *low)["is_district_wide"].any()
    single = [{"cls": f"x{i}", "school": f"x{i}", "y": 2, "n": 22, "roster": 22} for i in range(4)]
    assert decided(*high, *low[:2], *single)["is_district_wide"].all()


def test_every_level_of_the_rules_is_in_the_contract():
    assert set(LEVEL_OF.values()) == set(LEVELS)


def test_nothing_in_gives_nothing_out():
    assert decided().height == 0


# Properties


@st.composite
def districts(draw):
    rows = []
    for number in range(draw(st.integers(1, 14))):
        roster = draw(st.sampled_from([20, 25, 30, 24, 15, 12, 10, 4, 0]))
        kept = draw(st.sampled_from([1.0] * 10 + [0.9, 0.8, 0.75, 0.1]))
        tested = round(roster * kept)
        rows.append(
            {
                "cls": f"c{number:02}",
                "school": draw(st.sampled_from(["s1", "s2", "s3"])),
                "grade": draw(st.sampled_from(["4", "4", "5"])),
                "section": draw(st.sampled_from(["regular", "regular", "regular", "remedial"])),
                "roster": roster,
                "mobile": 0 if roster else 1,
                "n": tested,
                "y": draw(st.integers(0, tested)),
            }
        )
    return rows


@READ
@given(districts(), st.sampled_from([frozenset(), frozenset({"s1"})]))
def test_decisions_agree_with_the_slow_reference(classes, blocked):
    checks = quality(*({"school_id": school} for school in blocked))
    made = decided(*classes, checks=checks, policies={"d1": ONE_LEVEL})
    found = {row["class_id"]: row for row in made.to_dicts()}
    expected = reference.decide(classes, blocked)
    assert found.keys() == expected.keys()
    for cls, row in expected.items():
        assert {name: found[cls][name] for name in row} == pytest.approx(row, abs=1e-6)


@READ
@given(districts(), st.randoms(use_true_random=False))
def test_permuting_class_ids_permutes_the_results(classes, random):
    names = [row["cls"] for row in classes]
    renamed = dict(zip(names, random.sample(names, len(names)), strict=True))
    first = decided(*classes).drop("class_label").with_columns(pl.col("class_id").replace(renamed))
    second = decided(*(row | {"cls": renamed[row["cls"]]} for row in classes)).drop("class_label")
    assert_frame_equal(first, second, check_row_order=False)


@READ
@given(districts())
def test_a_class_at_or_below_tau_is_never_called_a_classroom_matter(classes):
    found = decided(*classes).filter(pl.col("in_need") * 5 <= pl.col("tested"))
    assert not set(found["level"]) & {"CLASSROOM", "SYSTEM+CLASSROOM", "CLASSROOM_OR_SYSTEM"}
    assert not found["is_flagged"].any()


@READ
@given(districts())
def test_the_bounds_meet_when_everyone_was_tested(classes):
    found = decided(*classes).filter(pl.col("tested") == pl.col("enrolled"), pl.col("enrolled") > 0)
    assert found["bound_low"].to_list() == found["bound_high"].to_list() == found["need_share"].to_list()
    assert "ambiguous" not in found["bound_verdict"].to_list()


@READ
@given(st.integers(10, 40), st.data())
def test_with_the_prior_fixed_one_more_student_above_the_cut_never_raises_the_probability(tested, data):
    in_need = data.draw(st.integers(0, tested))
    rows = decided(
        {"cls": "a", "y": in_need, "n": tested, "roster": tested},
        {"cls": "b", "y": in_need, "n": tested + 1, "roster": tested + 1},
        policies={"d1": FIXED},
    )
    assert one(rows, "b")["p_above"] <= one(rows, "a")["p_above"]


@READ
@given(districts(), districts())
def test_a_district_does_not_depend_on_what_else_is_in_the_run(first, second):
    assume(any(row["n"] for row in first))
    other = [row | {"cls": f"z{row['cls']}", "district_id": "d2"} for row in second]
    together = decided(*first, *other, policies={"d1": POLICY, "d2": POLICY}).filter(pl.col("district_id") == "d1")
    assert_frame_equal(together, decided(*first))


def test_tau_is_the_base_rate_of_the_cut_where_the_district_says_so():
    cuts = (
        CutRule(measure="own", by="percentile", source="s", tier_2_below=25, class_need_below=25),
        CutRule(measure="lower", by="percentile", source="s", tier_2_below=25, class_need_below=21),
    )
    policy = DistrictPolicy(time_zone="America/Denver", cuts=cuts, classes=ClassRule(norm_adjust=True))
    base = {"y": 6, "n": 25, "roster": 25}
    found = decided(
        base | {"cls": "a", "measure": "own"},
        base | {"cls": "b", "measure": "lower"},
        base | {"cls": "c", "measure": "iready_math"},
        base | {"cls": "d"},
        policies={"d1": policy},
    )
    names = ["class_id", "tau", "is_norm_adjusted", "bound_verdict", "recommended_cut"]
    told = found.filter(pl.col("tested") > 0).select(names)
    assert sorted(told.rows()) == [
        ("a", 0.24, True, "not_above", "PR<=24"),
        ("b", 0.2, False, "above", "PR<=24"),
        ("c", 0.2, False, "above", "vendor label"),
        ("d", 0.2, False, "above", "PR<=20"),
    ]


def test_measurement_error_is_shown_beside_the_decision_and_changes_nothing_of_it():
    members, needs = school_data([{"cls": "c1", "y": 9, "n": 20, "roster": 20}])
    certain = class_decisions(members, needs, quality(), {"d1": POLICY})
    p = pl.when("is_in_need").then(0.75).otherwise(0.25)
    unsure = needs.with_columns(p_class_need=p, probability_basis=pl.lit("sem"))
    shown = class_decisions(members, unsure, quality(), {"d1": POLICY})
    assert certain["expected_in_need"].to_list() == [None]
    assert shown["expected_in_need"].to_list() == [9 * 0.75 + 11 * 0.25]
    assert 0 < shown["p_above_with_error"].item() < 1
    beside = ["expected_in_need", "p_above_with_error"]
    assert shown.drop(beside).equals(certain.drop(beside))


@pytest.mark.parametrize("case", json.loads((VECTORS / "09_class_rates.json").read_text())["median_rule"])
def test_the_median_rule_is_that_of_the_vector(case):
    """Each score stands for two students, so that the class is large enough to be judged."""
    below = {"tier_2_below": case["criterion"], "class_need_below": case["criterion"]}
    cut = CutRule(measure="map_growth_math", by="score", source="The vector.", **below)
    scores = sorted(case["scores"] * 2)
    members, needs = school_data([{"cls": "c1", "y": 0, "n": len(scores), "roster": len(scores)}])
    scored = needs.with_columns(score=pl.Series(scores, dtype=pl.Float64)).with_columns(
        is_in_need=pl.col("score") < case["criterion"]
    )
    policies = {"d1": DistrictPolicy(time_zone="America/Denver", cuts=(cut,))}
    row = class_decisions(members, scored, quality(), policies).row(0, named=True)
    assert row["class_median_below"] == case["classwide_median"]
    assert row["need_share"] == pytest.approx(case["fraction_below"], abs=1e-9)
    assert (row["need_share"] > 0.5) == case["majority_below"]
