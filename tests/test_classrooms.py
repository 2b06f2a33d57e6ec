"""Class decisions."""

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from schemas.contract import conform, require
from schemas.policy import ClassRule, CutRule, DistrictPolicy
from schemas.projections import LEVELS, ClassDecision
from tests import reference_classrooms as reference
from tests.made_classes import POLICY, quality, school_data
from transforms.classes import UnknownDistrict
from transforms.classrooms import LEVEL_OF, class_decisions

VECTORS = Path(__file__).parent / "data" / "vectors"
READ = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def decided(*classes, checks=None, policies=None):
    memberships, needs = school_data(classes)
    return class_decisions(memberships, needs, quality() if checks is None else checks, policies or {"d1": POLICY})


def one(frame, cls="a"):
    return frame.row(by_predicate=pl.col("class_id") == cls, named=True)


# Vectors


def vector_13():
    return json.loads((VECTORS / "13_level_decision.json").read_text())


def test_vector_13_gives_its_levels_but_for_two_classes_that_only_the_fitted_prior_watches():
    vector = vector_13()
    found = decided(
        *({"cls": r["cls"], "school": r["school"], "y": r["y"], "n": r["n_tested"], "roster": r["n_roster"]}
          for r in vector["rows"])
    )  # fmt: skip
    levels = dict(zip(found["class_id"], found["level"], strict=True))
    expected = {each["cls"]: each["level"] for each in vector["classes"]}
    # Posterior .553 under the fitted prior, .472 under Jeffreys: left to the fit.
    expected |= {"h1": "STUDENT", "h2": "STUDENT"}
    expected["e3"] = "LOW_COVERAGE"
    assert levels == expected


def test_vector_13_gives_its_pools_coverage_and_comparisons():
    vector = vector_13()
    found = decided(
        *({"cls": r["cls"], "school": r["school"], "y": r["y"], "n": r["n_tested"], "roster": r["n_roster"]}
          for r in vector["rows"])
    )  # fmt: skip
    for each in vector["classes"]:
        row = one(found, each["cls"])
        school = vector["schools"][each["school"]]
        assert row["grade_coverage"] == pytest.approx(school["coverage"], abs=1e-8)
        assert (row["grade_in_need"], row["grade_tested"]) == (school["pooled_y"], school["pooled_n"])
        assert row["p_grade_above"] == pytest.approx(school["p_grade_gt_tau"], abs=1e-8)
        assert row["p_above_peers"] == pytest.approx(each["p_above_rest"], abs=1e-8)
        assert (row["level"] == "SYSTEM_DATA") == school["system_data"]
        assert row["level"].startswith("SYSTEM") == (school["system_data"] or school["system_grade"])


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
    assert row["p_above"] == pytest.approx(case["p_gt_20_jeffreys"], abs=1e-8)


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
             "bound_high", "bound_verdict", "p_above_peers")  # fmt: skip
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
    alone = {"cls": "a", "y": 7, "n": 24, "roster": 24}
    others = [{"cls": c, "y": 1, "n": 24, "roster": 24} for c in "bcd"]
    row = one(decided(alone, *others))
    assert row["p_above"] >= 0.80
    assert row["level"] == "WATCH"


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
    found = {row["class_id"]: row for row in decided(*classes, checks=checks).to_dicts()}
    expected = reference.decide(classes, blocked)
    assert found.keys() == expected.keys()
    for cls, row in expected.items():
        assert {name: found[cls][name] for name in row} == pytest.approx(row, abs=1e-8)


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


@READ
@given(districts())
def test_the_bounds_meet_when_everyone_was_tested(classes):
    found = decided(*classes).filter(pl.col("tested") == pl.col("enrolled"), pl.col("enrolled") > 0)
    assert found["bound_low"].to_list() == found["bound_high"].to_list() == found["need_share"].to_list()
    assert "ambiguous" not in found["bound_verdict"].to_list()


@READ
@given(st.integers(1, 40), st.data())
def test_one_more_student_above_the_cut_never_raises_the_probability(tested, data):
    in_need = data.draw(st.integers(0, tested))
    rows = decided(
        {"cls": "a", "y": in_need, "n": tested, "roster": tested},
        {"cls": "b", "y": in_need, "n": tested + 1, "roster": tested + 1},
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
