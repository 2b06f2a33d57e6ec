"""Which probes make one series, and a series beside those of the class."""

from datetime import date
from statistics import mean, median, stdev
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from schemas.policy import CycleRule, DistrictPolicy, FormFamily
from schemas.projections import ClassMembership
from tests.examples import examples
from tests.made_classes import frame
from tests.reference_cycles import DISTRICT, YEAR, attended, closed, day, facts, held, joined, opened, probe, scheduled
from transforms.cycles import cycle_tables

GOAL = {"baseline": 10.0, "goal_score": 22.0}
"""Over 42 days: 2 points a week."""
GRADES = (
    FormFamily(measure="m", family="grade 3", forms=("3_1", "3_2")),
    FormFamily(measure="m", family="grade 4", forms=("4_1", "4_2")),
)


def policies(**knobs: Any) -> dict[str, DistrictPolicy]:
    return {DISTRICT: DistrictPolicy(time_zone="America/Denver", cycles=CycleRule(**knobs))}


def delivered(who: str = "ana") -> list[dict[str, Any]]:
    return [row for on in (0, 3) for row in (scheduled(on), held(on), attended(on, who))]


def series(*points: tuple[int, float, str | None]) -> list[dict[str, Any]]:
    """A cycle of one student with full dose and probes of these days, scores and forms."""
    probes = [probe(on, score, form=form) for on, score, form in points]
    return [opened(), joined(**GOAL), closed(42), *delivered(), *probes]


def told(rows: list[dict[str, Any]], rules: dict[str, DistrictPolicy]) -> dict[str, Any]:
    got = cycle_tables(facts(*rows), rules)
    broken = got.finding.filter(pl.col("rows") > 0)
    findings = {"findings": dict(zip(broken["rule"], broken["rows"], strict=True))}
    return got.progress.row(0, named=True) | got.cycle_outcome.row(0, named=True) | findings


# Forms


def test_without_families_all_forms_are_one_series():
    got = told(series((0, 10, "3_1"), (7, 12, None), (14, 14, "4_1")), policies())
    assert (got["probes"], got["form_family"], got["slope"]) == (3, None, pytest.approx(2))
    assert got["findings"] == {}


def test_another_family_of_forms_starts_a_new_series_with_a_baseline_of_its_own():
    rows = series((0, 20, "3_1"), (7, 22, "3_2"), (14, 4, "4_1"), (21, 5, " 4_2 "), (28, 6, "4_1"), (35, 7, "4_2"))
    got = told(rows, policies(form_families=GRADES))
    assert (got["probes"], got["form_family"]) == (4, "grade 4")
    assert (got["baseline"], got["slope"]) == (4, pytest.approx(1))
    assert got["goal_slope"] == pytest.approx((22 - 4) / 4)  # from day 14 to day 42
    assert got["aim_at_level_end"] == pytest.approx(4 + 18 * 14 / 28)
    assert got["findings"] == {"probe_of_other_forms": 2}


def test_the_first_series_keeps_the_recorded_baseline_and_counts_from_the_opening():
    rows = series((3, 11, "3_1"), (10, 12, "3_2"), (17, 13, "3_1"), (5, 1, "4_1"))
    got = told(rows, policies(form_families=GRADES))
    assert (got["form_family"], got["baseline"], got["goal_slope"]) == ("grade 3", 10, pytest.approx(2))
    assert got["findings"] == {"probe_of_other_forms": 1}


def test_three_probes_in_the_first_week_of_a_new_series_make_its_baseline():
    rows = series((0, 20, "3_1"), (14, 4, "4_1"), (16, 9, "4_2"), (18, 5, "4_1"))
    assert told(rows, policies(form_families=GRADES))["baseline"] == 5


def test_of_two_series_that_end_together_the_one_with_more_days_counts_then_the_first_by_name():
    rows = series((0, 1, "3_1"), (7, 2, "3_1"), (7, 9, "4_1"))
    assert told(rows, policies(form_families=GRADES))["form_family"] == "grade 3"
    rows = series((7, 2, "3_1"), (7, 9, "4_1"))
    assert told(rows, policies(form_families=GRADES))["form_family"] == "grade 3"


def test_a_family_is_of_one_measure_and_a_form_of_one_family():
    other = (FormFamily(measure="other", family="grade 3", forms=("3_1",)),)
    assert told(series((0, 1, "3_1"), (7, 2, "4_1")), policies(form_families=other))["probes"] == 2
    with pytest.raises(ValueError, match="the form 3_1 of a measure stands there more than once"):
        CycleRule(form_families=(*GRADES, FormFamily(measure="m", family="again", forms=("3_1 ",))))


# Adaptive tests


def test_the_slope_of_an_adaptive_test_is_theil_sens_unless_the_policy_says_otherwise():
    scores = [10, 11, 13, 13, 30, 16, 17]
    rows = [
        row | {"measure": "star_math"} if "measure" in row else row
        for row in series(*((7 * week, score, None) for week, score in enumerate(scores)))
    ]
    assert told(rows, policies())["slope"] == pytest.approx(1.2)
    assert told(rows, policies(theil_sen_measures=()))["slope"] == pytest.approx(12 / 7)


# The class


def of_class(students: dict[str, str], reference_on: date = day(0)) -> pl.DataFrame:
    rows = [
        {
            "district_id": DISTRICT,
            "school_year": YEAR,
            "benchmark_window": "fall",
            "subject_key": who,
            "class_id": class_id,
            "reference_on": reference_on,
        }
        for who, class_id in students.items()
    ]
    return frame(rows, ClassMembership).collect()


def monitored(who: str, start: float, slope: float, weeks: int = 5) -> list[dict[str, Any]]:
    return [probe(7 * week, start + slope * week, who) for week in range(weeks)]


CLASS = {f"c{number}": (20.0 + number, 1.0 + number / 10) for number in range(10)}
"""Start and slope of ten classmates, none of whom is in a cycle."""


def beside_class(start: float, slope: float, classmates: int = 10, **knobs: Any) -> dict[str, Any]:
    others = dict(list(CLASS.items())[:classmates])
    rows = [
        opened(),
        joined(baseline=start, goal_score=60.0),
        closed(42),
        *delivered(),
        *monitored("ana", start, slope),
    ]
    rows += [row for who, line in others.items() for row in monitored(who, *line)]
    classes = of_class({"ana": "a", **dict.fromkeys(others, "a")})
    got = cycle_tables(facts(*rows), policies(dual_discrepancy=True, **knobs), None, classes)
    return got.cycle_outcome.row(by_predicate=pl.col("subject_key") == "ana", named=True)


@pytest.mark.parametrize(
    ("start", "slope", "response", "reason"),
    [
        (10, 0.1, "poor", "level_and_slope_below_class"),
        (10, 1.5, "questionable", "below_aim_but_uncertain"),
        (40, 0.1, "questionable", "below_aim_but_uncertain"),
    ],
)
def test_poor_is_whose_level_and_slope_are_both_far_below_the_class(start, slope, response, reason):
    got = beside_class(start, slope)
    assert (got["response"], got["reason"], got["classmates"]) == (response, reason, 10)


def test_the_gaps_are_in_standard_deviations_of_the_classmates():
    got = beside_class(10, 0.1)
    slopes = [slope for _, slope in CLASS.values()]
    levels = [start + 3 * slope for start, slope in CLASS.values()]
    assert got["class_slope_gap"] == pytest.approx((0.1 - mean(slopes)) / stdev(slopes), abs=1e-8)
    assert got["class_level_gap"] == pytest.approx((10.3 - mean(levels)) / stdev(levels), abs=1e-8)


def test_too_few_classmates_say_nothing_and_nobody_is_poor():
    got = beside_class(10, 0.1, classmates=9)
    assert (got["response"], got["reason"]) == ("questionable", "class_growth_unknown")
    assert (got["classmates"], got["class_level_gap"]) == (9, None)
    assert beside_class(10, 0.1, classmates=9, classmates_minimum=9)["response"] == "poor"


def test_without_the_knob_the_class_changes_nothing():
    rows = [opened(), joined(**GOAL), closed(42), *delivered(), *monitored("ana", 10, 0)]
    rows += [row for who, line in CLASS.items() for row in monitored(who, *line)]
    classes = of_class(dict.fromkeys(["ana", *CLASS], "a"))
    bare, beside = (cycle_tables(facts(*rows), policies(), None, each).cycle_outcome for each in (None, classes))
    assert bare.equals(beside)
    assert bare["classmates"].to_list() == [None]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2)), min_size=8, max_size=60), st.randoms())
@examples(40)
def test_gaps_agree_with_the_slow_version_in_any_order(points, random):
    """Four students, two in a cycle, probed on random days; any three others say something."""
    names = ("ana", "ben", "cem", "dia", "eva")
    scored = [
        (names[(number + on) % 5], on % 50, 3.0 * level + number % 7) for number, (on, level) in enumerate(points)
    ]
    rows = [opened(), joined("ana", **GOAL), joined("ben", **GOAL), closed(42)]
    rows += [probe(on, score, who) for who, on, score in scored]
    random.shuffle(rows)
    knobs = {"dual_discrepancy": True, "classmates_minimum": 2, "probes_minimum": 3}
    got = cycle_tables(facts(*rows), policies(**knobs), None, of_class(dict.fromkeys(names, "a"))).cycle_outcome
    lines = {}
    for who in names:
        days: dict[int, list[float]] = {}
        for name, on, score in scored:
            if name == who and on <= 42:
                days.setdefault(on, []).append(score)
        line = [(on, median(days[on])) for on in sorted(days)]
        if len(line) >= 3:
            slope = stats.linregress([on / 7 for on, _ in line], [score for _, score in line]).slope
            lines[who] = (median(score for _, score in line[-3:]), float(slope))
    for row in got.to_dicts():
        others = [line for who, line in lines.items() if who != row["subject_key"]]
        for place, name in enumerate(("class_level_gap", "class_slope_gap")):
            values = [line[place] for line in others]
            spread = stdev(values) if len(values) >= 2 else 0.0
            own = lines.get(row["subject_key"])
            if spread < 1e-8 or own is None:
                continue
            assert row[name] == pytest.approx((own[place] - mean(values)) / spread, abs=1e-6)
