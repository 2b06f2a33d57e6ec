"""Entering class against growth."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from schemas.contract import broken_rules, conform
from schemas.policy import ClassRule
from schemas.projections import ClassGrowth, ClassMembership, NeedLevel
from tests import reference_entering as reference
from tests.examples import examples
from tests.made_classes import POLICY, REFERENCE_ON, frame
from transforms.entering import class_growth

VECTOR = json.loads((Path(__file__).parent / "data" / "vectors" / "12_entering_class.json").read_text())
BANDS = {"T3": "tier_3", "T2": "tier_2", "WATCH": "watch", "T1": "none"}
READ = examples(40)


def school_data(students, window="winter", district="d1"):
    """Memberships, needs of the window and needs of fall of students given as `cls, grade, band, need`."""
    members, now, fall = [], [], []
    for place, each in enumerate(students):
        key = {
            "district_id": district,
            "school_year": "2026",
            "subject_key": each.get("subject", f"{district}-{place}"),
        }
        here = key | {"benchmark_window": window}
        members.append(
            here
            | {
                "reference_on": REFERENCE_ON[window],
                "school_id": each.get("school", "s1"),
                "grade": each["grade"],
                "class_id": each["cls"],
                "is_mobile": each.get("mobile", False),
            }
        )
        test = {"measure": "map_growth_math", "status": "tested"}
        now.append(here | test | {"is_in_need": each["need"], "need_level": "tier_2" if each["need"] else "none"})
        if each["band"] is not None:
            fall.append(key | test | {"benchmark_window": "fall", "need_level": each["band"], "is_in_need": False})
    return frame(members, ClassMembership), frame(now, NeedLevel), frame(fall, NeedLevel)


def compared(students, policies=None, **where):
    return class_growth(*school_data(students, **where), policies or {"d1": POLICY})


def one(found, cls="a"):
    return found.row(by_predicate=pl.col("class_id") == cls, named=True)


def group(cls, band, students, in_need, grade="4"):
    return [{"cls": cls, "grade": grade, "band": band, "need": place < in_need} for place in range(students)]


def others(rates=VECTOR["transition_to_need"], students=100):
    """Another class of the grade in which each fall level has its rate."""
    return [each for band, q in rates.items() for each in group("rest", BANDS[band], students, round(q * students))]


# Vector 12


@pytest.mark.parametrize("case", VECTOR["cases"])
def test_vector_12_gives_expected_ratio_and_tail_from_the_rates_of_other_classes(case):
    entering = [BANDS[band] for band, many in case["entering"].items() for _ in range(many)]
    mine = [
        {"cls": "a", "grade": "4", "band": band, "need": place < case["observed_now"]}
        for place, band in enumerate(entering)
    ]
    row = one(compared([*mine, *others()]))
    assert (row["matched"], row["observed"]) == (case["n"], case["observed_now"])
    assert row["expected"] == pytest.approx(case["expected"], abs=1e-8)
    assert row["ratio"] == pytest.approx(case["oe_ratio"], abs=1e-8)
    assert row["p_at_least"] == pytest.approx(case["p_ge"], abs=1e-8)


def test_a_class_with_high_need_that_arrived_so_has_no_excess():
    mine = [each for band, many in (("tier_3", 5), ("tier_2", 7), ("watch", 5), ("none", 6))
            for each in group("a", band, many, 0)]  # fmt: skip
    mine = [each | {"need": place < 10} for place, each in enumerate(mine)]
    assert one(compared([*mine, *others()]))["growth_excess"] == "as_expected"


# Rules


def test_the_rates_leave_the_class_out():
    """All of the class are in need and nobody else: its own students would raise what is expected of it."""
    mine, rest = group("a", "none", 20, 20), group("rest", "none", 40, 4)
    assert one(compared([*mine, *rest]))["expected"] == pytest.approx(20 * 4 / 40)


def test_thirty_students_of_other_classes_make_a_rate_and_twenty_nine_do_not():
    enough = one(compared([*group("a", "watch", 12, 3), *group("rest", "watch", 30, 6)]))
    assert (enough["matched"], enough["expected"]) == (12, pytest.approx(12 * 6 / 30))
    few = one(compared([*group("a", "watch", 12, 3), *group("rest", "watch", 29, 6)]))
    assert (few["with_fall"], few["matched"], few["expected"], few["reason"]) == (12, 0, None, "few_with_rate")
    assert few["growth_excess"] is None


def test_tiers_two_and_three_are_taken_together_where_either_is_rare():
    rest = [*group("rest", "tier_3", 10, 9), *group("rest", "tier_2", 30, 15)]
    row = one(compared([*group("a", "tier_3", 10, 5), *group("a", "tier_2", 10, 5), *rest]))
    assert row["expected"] == pytest.approx(10 * 24 / 40 + 10 * 15 / 30)


def test_a_level_without_a_rate_leaves_its_students_out_of_both_sides():
    rest = [*group("rest", "none", 50, 5), *group("rest", "tier_3", 8, 8)]
    row = one(compared([*group("a", "none", 12, 2), *group("a", "tier_3", 3, 3), *rest]))
    assert (row["with_fall"], row["matched"], row["observed"]) == (15, 12, 2)
    assert row["expected"] == pytest.approx(1.2)


def test_nine_matched_students_say_nothing():
    nine = one(compared([*group("a", "none", 9, 2), *group("a", None, 12, 2), *group("rest", "none", 50, 5)]))
    assert (nine["tested"], nine["with_fall"], nine["observed"], nine["p_at_least"]) == (21, 9, None, None)
    assert (nine["growth_excess"], nine["reason"]) == (None, "few_with_fall")
    ten = one(compared([*group("a", "none", 10, 2), *group("rest", "none", 50, 5)]))
    assert (ten["growth_excess"], ten["reason"]) == ("as_expected", None)


def test_nobody_in_need_elsewhere_is_half_a_student_and_no_certainty():
    row = one(compared([*group("a", "none", 24, 1), *group("rest", "none", 149, 0)]))
    assert row["expected"] == pytest.approx(24 * 0.5 / 150)
    assert row["growth_excess"] == "as_expected"


def test_many_more_and_many_fewer_than_expected_are_said():
    rest = [each for n in range(6) for each in group(f"rest{n}", "none", 24, 6)]
    found = compared([*group("more", "none", 24, 16), *group("fewer", "none", 24, 0), *rest])
    assert one(found, "more")["growth_excess"] == "more"
    assert one(found, "fewer")["growth_excess"] == "fewer"
    assert set(found.filter(pl.col("class_id").str.starts_with("rest"))["growth_excess"]) == {"as_expected"}


def test_a_tail_under_five_percent_among_many_classes_is_not_believed():
    few = [*group("a", "none", 24, 9), *group("r", "none", 100, 20)]
    many = [*group("a", "none", 24, 9), *(s for n in range(30) for s in group(f"r{n}", "none", 50, 10))]
    assert one(compared(few))["p_at_least"] < 0.05
    assert one(compared(few))["growth_excess"] == "more"
    assert one(compared(many))["p_at_least"] < 0.05
    assert one(compared(many))["growth_excess"] == "as_expected"


def test_neither_is_a_tail_over_ninety_five_percent():
    few = [*group("a", "none", 24, 1), *group("r", "none", 100, 20)]
    many = [*group("a", "none", 24, 1), *(s for n in range(30) for s in group(f"r{n}", "none", 50, 10))]
    assert one(compared(few))["p_at_least"] > 0.95
    assert one(compared(few))["growth_excess"] == "fewer"
    assert one(compared(many))["p_at_least"] > 0.95
    assert one(compared(many))["growth_excess"] == "as_expected"


def test_grades_have_rates_of_their_own_and_no_grade_has_none():
    rest = [*group("rest", "none", 40, 4), *group("rest5", "none", 40, 20, grade="5")]
    rest += group("rest", "none", 40, 40, grade=None)
    mine = [*group("a", "none", 10, 2), *group("a", "none", 10, 2, grade="5"), *group("a", "none", 4, 1, grade=None)]
    row = one(compared([*mine, *rest]))
    assert (row["with_fall"], row["matched"], row["expected"]) == (24, 20, pytest.approx(10 * 0.1 + 10 * 0.5))


def test_mobile_members_count_neither_in_the_class_nor_in_the_rates():
    mobile = [each | {"mobile": True} for each in [*group("a", "none", 5, 5), *group("rest", "none", 40, 40)]]
    row = one(compared([*group("a", "none", 12, 2), *group("rest", "none", 40, 4), *mobile]))
    assert (row["tested"], row["expected"]) == (12, pytest.approx(1.2))


def test_fall_makes_no_rows():
    assert compared([*group("a", "none", 12, 2), *group("rest", "none", 40, 4)], window="fall").is_empty()


def test_the_knobs_are_read():
    rule = ClassRule(matched_minimum=5, band_minimum=20, growth_tail=0.5)
    students = [*group("a", "none", 6, 1), *group("rest", "none", 20, 2)]
    row = one(compared(students, {"d1": POLICY.model_copy(update={"classes": rule})}))
    assert row["expected"] == pytest.approx(0.6)


def test_rows_keep_their_contract():
    found = compared([*group("a", "none", 12, 2), *group("rest", "none", 40, 4)])
    shaped = conform(found.with_columns(input_id=pl.lit("i")).lazy(), ClassGrowth).collect()
    assert shaped.height == 2
    assert broken_rules(shaped, ClassGrowth).is_empty()


# Properties


def rows_of(found):
    return {
        row["class_id"]: {
            name: row[name] for name in ("tested", "with_fall", "matched", "observed", "expected", "growth_excess")
        }
        | {"p": row["p_at_least"]}
        for row in found.iter_rows(named=True)
    }


@st.composite
def districts(draw):
    """Up to eight classes of two grades, large enough for rates to exist, small enough for them to be missing."""
    rates = {band: draw(st.sampled_from([0.0, 0.05, 0.3, 0.6, 1.0])) for band in BANDS.values()}
    random = draw(st.randoms(use_true_random=False))
    common = draw(st.sampled_from([(1, 1, 3, 8), (3, 3, 4, 6), (1, 0, 0, 9)]))
    students = []
    for number in range(draw(st.integers(2, 8))):
        grade = random.choice(["4", "4", "5"])
        factor = random.choice([0.5, 1.0, 1.0, 2.5])
        for _ in range(random.randint(6, 30)):
            band = random.choices([*rates, None], weights=[*common, 1])[0]
            own_grade = random.choices([grade, "5", None], weights=[20, 1, 1])[0]
            need = random.random() < min(1.0, factor * rates.get(band, 0.2))
            students.append({"cls": f"c{number}", "grade": own_grade, "band": band, "need": need})
    return students


@READ
@given(students=districts())
def test_a_slow_reference_agrees(students):
    found = rows_of(compared(students))
    expected = reference.growth(students)
    assert set(found) == set(expected)
    for cls, row in expected.items():
        assert {name: found[cls][name] for name in ("tested", "with_fall", "matched")} == {
            name: row[name] for name in ("tested", "with_fall", "matched")
        }
        assert found[cls]["observed"] == row.get("observed")
        assert found[cls]["expected"] == (pytest.approx(row["expected"], abs=1e-8) if "expected" in row else None)
        assert found[cls]["p"] == (pytest.approx(row["p"], abs=1e-8) if "p" in row else None)
        assert found[cls]["growth_excess"] == row.get("growth_excess")


@READ
@given(students=districts(), shuffle=st.randoms(use_true_random=False))
def test_labels_of_classes_order_of_rows_and_other_districts_change_no_digit(students, shuffle):
    named = [each | {"subject": f"x{place}"} for place, each in enumerate(students)]
    first = compared(named)
    labels = sorted({each["cls"] for each in named})
    turned = dict(zip(labels, shuffle.sample(labels, len(labels)), strict=True))
    permuted = [each | {"cls": turned[each["cls"]]} for each in named]
    shuffle.shuffle(permuted)
    again = compared(permuted)
    back = {new: old for old, new in turned.items()}
    assert_frame_equal(
        again.with_columns(pl.col("class_id").replace_strict(back)).sort("class_id"), first, check_exact=True
    )
    both = [
        pl.concat(pair)
        for pair in zip(school_data(named), school_data(permuted[: len(permuted) // 2], district="d2"), strict=True)
    ]
    beside = class_growth(*both, {"d1": POLICY, "d2": POLICY}).filter(pl.col("district_id") == "d1")
    assert_frame_equal(beside, first, check_exact=True)


def test_where_classes_differ_by_chance_alone_few_are_called_more():
    """200 districts of 20 classes: no more than one in ten has any finding, all of them false."""
    rng = np.random.default_rng(5)
    bands = np.array(["tier_3", "tier_2", "watch", "none"])
    size, classes, districts_ = 24, 20, 200
    n = size * classes * districts_
    place = rng.choice(4, n, p=[0.1, 0.1, 0.2, 0.6])
    rows = pl.DataFrame(
        {
            "district_id": np.repeat([f"d{i}" for i in range(districts_)], size * classes),
            "class_id": np.tile(np.repeat([f"c{i}" for i in range(classes)], size), districts_),
            "band": bands[place],
            "need": rng.random(n) < np.array([0.82, 0.55, 0.24, 0.05])[place],
        }
    ).with_columns(
        subject_key=pl.int_range(pl.len()).cast(pl.String),
        school_year=pl.lit("2026"),
        benchmark_window=pl.lit("winter"),
        measure=pl.lit("m"),
        school_id=pl.lit("s"),
        grade=pl.lit("4"),
        is_mobile=pl.lit(value=False),
        is_alternate_assessment=pl.lit(value=False),
    )
    needs = rows.select("district_id", "school_year", "benchmark_window", "subject_key", "measure", is_in_need="need")
    fall = rows.select(
        "district_id", "school_year", "subject_key", "measure", benchmark_window=pl.lit("fall"), need_level="band"
    )
    policies = {f"d{i}": POLICY for i in range(districts_)}
    found = class_growth(rows.drop("band", "need", "measure").lazy(), needs.lazy(), fall.lazy(), policies)
    any_more = found.group_by("district_id").agg(pl.col("growth_excess").eq("more").any())["growth_excess"].mean()
    raw = (found["p_at_least"] <= 0.05).mean()
    assert any_more <= 0.10 + 2 * (0.1 * 0.9 / districts_) ** 0.5
    assert 0.01 < raw < 0.06
