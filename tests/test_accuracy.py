"""Screening accuracy against a later test."""

import itertools
import json
import math
import random
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from schemas.contract import broken_rules, conform
from schemas.policy import AccuracyRule, CutRule, DistrictPolicy
from schemas.projections import NeedLevel, ScreeningAccuracy, ScreeningResult
from transforms.accuracy import predictive_values, screening_accuracy
from transforms.intervals import wilson

VECTOR = json.loads((Path(__file__).parent / "data/vectors/05_screening_accuracy.json").read_text())
CUT = CutRule(measure="state_math", by="score", source="s", tier_2_below=1, class_need_below=1)


def district(**accuracy) -> DistrictPolicy:
    rule = AccuracyRule(outcome_measure="state_math", **accuracy)
    return DistrictPolicy(time_zone="America/Denver", cuts=(CUT,), accuracy=rule)


def students(scores, failed, cut=188, **given):
    """Need levels and tests of students screened in fall who took the state test in spring."""
    needs, tests = [], []
    for number, (score, has_failed) in enumerate(zip(scores, failed, strict=True)):
        for measure, window, day in (("map", "fall", date(2025, 9, 10)), ("state_math", "spring", date(2026, 4, 20))):
            is_screening = measure == "map"
            row = {
                "district_id": "d1", "school_year": "2026", "benchmark_window": window, "measure": measure,
                "subject_key": f"s{number:03}", "natural_key": f"{measure}{number}", "grade": "4", "status": "tested",
                "score": float(score) if is_screening else 0.0,
                "need_level": ("tier_2" if score < cut else "none") if is_screening else "none",
                "is_in_need": bool(has_failed) if not is_screening else None,
            }  # fmt: skip
            needs.append(row | (given if is_screening else {}))
            tests.append({k: row[k] for k in ("district_id", "school_year", "natural_key")} | {"occurred_on": day})
    return needs, tests


def accuracy(needs, tests, policy=None):
    levels = conform(pl.LazyFrame(needs, infer_schema_length=None), NeedLevel)
    results = conform(pl.LazyFrame(tests), ScreeningResult)
    found = screening_accuracy(levels, results, {"d1": policy or district()})
    shaped = conform(found.with_columns(input_id=pl.lit("i")).lazy(), ScreeningAccuracy).collect()
    assert broken_rules(shaped, ScreeningAccuracy).is_empty()
    assert found.schema == shaped.drop("input_id").schema
    return found


def test_accuracy_agrees_with_the_vector():
    found = accuracy(*students(VECTOR["scores"], VECTOR["failed_criterion"], VECTOR["cut"])).row(0, named=True)
    names = {"true_positives": "tp", "false_positives": "fp", "false_negatives": "fn", "true_negatives": "tn"}
    assert {theirs: found[ours] for ours, theirs in names.items()} == {each: VECTOR[each] for each in names.values()}
    same = {name: name for name in ("sensitivity", "specificity", "ppv", "npv", "base_rate", "auc")}
    for ours, theirs in (same | {"auc_standard_error": "auc_se_hanley_mcneil", "auc_low": "auc_lower95"}).items():
        assert found[ours] == pytest.approx(VECTOR[theirs], abs=1e-8), ours
    assert (found["sensitivity_low"], found["sensitivity_high"]) == tuple(float(end) for end in wilson(5, 7))
    assert (found["base_rate_low"], found["base_rate_high"]) == tuple(float(end) for end in wilson(7, 20))
    assert (found["students"], found["grade"], found["outcome_measure"]) == (20, "4", "state_math")


@pytest.mark.parametrize("case", VECTOR["ppv_by_base_rate"], ids=lambda case: str(case["base_rate"]))
def test_predictive_values_follow_the_base_rate(case):
    found = predictive_values(case["sensitivity"], case["specificity"], case["base_rate"])
    assert [float(each) for each in found] == pytest.approx([case["ppv"], case["npv"], case["apparent_rate"]], abs=1e-8)


def test_false_positives_alone_fill_a_class_that_is_well():
    """Sensitivity .70, specificity .80: where a tenth fails a quarter is below the cut."""
    scores, failed = [1] * 14 + [9] * 6 + [1] * 16 + [9] * 64, [1] * 20 + [0] * 80
    found = accuracy(*students(scores, failed, cut=5)).row(0, named=True)
    healthy = [found[name] for name in ("healthy_base_rate", "healthy_flagged_share", "healthy_ppv")]
    assert healthy == pytest.approx([0.10, 0.25, 0.28], abs=1e-9)


@pytest.mark.parametrize(
    ("caught", "flagged", "rubric", "rating"),
    [
        (20, 25, "behavior", "full"),
        (20, 25, "academic", "none"),
        (20, 14, "academic", "full"),
        (18, 25, "behavior", "half"),
        (10, 25, "behavior", "none"),
    ],
)
def test_the_rating_is_that_of_the_rubric(caught, flagged, rubric, rating):
    """Of 20 who failed so many are below the cut, and of 100 who passed."""
    scores = [1] * caught + [9] * (20 - caught) + [1] * flagged + [9] * (100 - flagged)
    found = accuracy(*students(scores, [1] * 20 + [0] * 100, cut=5), district(rubric=rubric))
    assert found["rating"].to_list() == [rating]


def test_without_both_outcomes_there_is_no_auc():
    found = accuracy(*students([180, 200], [0, 0])).row(0, named=True)
    names = ("sensitivity", "auc", "auc_low", "rating", "healthy_ppv")
    assert [found[name] for name in names] == [None] * 5
    assert (found["specificity"], found["base_rate"]) == (0.5, 0.0)


def test_only_a_later_outcome_counts_and_the_last_one():
    needs, tests = students([180, 200], [1, 0])
    assert accuracy(needs, [each | {"occurred_on": date(2026, 4, 20)} for each in tests]).is_empty()
    again, more = students([180, 200], [0, 0])
    again = [row | {"natural_key": "again" + row["natural_key"], "benchmark_window": "winter"} for row in again[1::2]]
    more = [row | {"natural_key": "again" + row["natural_key"]} for row in more[1::2]]
    earlier = [row | {"occurred_on": date(2026, 1, 5)} for row in more]
    later = [row | {"occurred_on": date(2026, 5, 5)} for row in more]
    counts = ("true_positives", "false_positives")
    assert accuracy(needs + again, tests + earlier).select(counts).rows() == [(1, 0)]
    assert accuracy(needs + again, tests + later).select(counts).rows() == [(0, 1)]


def test_nothing_is_said_without_an_outcome_test():
    needs, tests = students([180, 200], [1, 0])
    assert accuracy(needs, tests, DistrictPolicy(time_zone="America/Denver")).is_empty()


def test_an_outcome_test_needs_a_cut_rule_of_its_own():
    with pytest.raises(ValidationError, match="state_math has no rule of its own in cuts"):
        DistrictPolicy(time_zone="America/Denver", accuracy=AccuracyRule(outcome_measure="state_math"))


@pytest.mark.parametrize("seed", range(5))
def test_both_intervals_agree_with_the_slow_version_in_any_order(seed):
    rng = random.Random(seed)
    scores = [rng.randint(1, 12) for _ in range(40)]
    failed = [int(rng.random() < 0.5 - score / 40) for score in scores]
    needs, tests = students(scores, failed)
    low, high = ([s for s, f in zip(scores, failed, strict=True) if f == each] for each in (1, 0))

    def won(a, b):
        return (a < b) + (a == b) / 2

    def variance(values):
        mean = sum(values) / len(values)
        return sum((v - mean) ** 2 for v in values) / (len(values) - 1)

    auc = sum(won(a, b) for a, b in itertools.product(low, high)) / (len(low) * len(high))
    delong = variance([sum(won(a, b) for b in high) / len(high) for a in low]) / len(low)
    delong += variance([sum(won(a, b) for a in low) / len(low) for b in high]) / len(high)
    found = accuracy(needs, tests, district(auc_interval="delong"))
    assert found["auc"][0] == pytest.approx(auc, abs=1e-8)
    assert found["auc_standard_error"][0] == pytest.approx(math.sqrt(delong), abs=1e-8)
    rng.shuffle(needs)
    assert_frame_equal(found, accuracy(needs, tests, district(auc_interval="delong")), check_exact=True)
