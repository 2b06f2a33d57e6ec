"""What a policy may say of cuts, and how a mistake in it is named."""

from pathlib import Path
from typing import get_args

import pytest

from pipelines.delivery import RULES
from schemas.exports import measures
from schemas.policy import (
    DEFAULT_CUTS,
    DEFAULT_STANDARD_ERRORS,
    CutRule,
    DistrictPolicy,
    Expectation,
    UnreadablePolicy,
    read_policy,
)

ZONE = 'time_zone = "America/Denver"\n'
PERCENTILE = 'by = "percentile"\ntier_2_below = 21\nclass_need_below = 20\nsource = "Board"\n'
LABELS = 'by = "placement"\ntier_3 = ["Two Below"]\nclass_need = ["two below "]\nsource = "Board"\n'


def policy(tmp_path: Path, text: str) -> DistrictPolicy:
    path = tmp_path / "d1.toml"
    path.write_text(ZONE + text, "utf-8")
    return read_policy(path)


def fault(tmp_path: Path, text: str) -> str:
    with pytest.raises(UnreadablePolicy) as raised:
        policy(tmp_path, text)
    return str(raised.value)


def cut(measure: str, *lines: str, body: str = PERCENTILE) -> str:
    return "\n".join(["[[cuts]]", f'measure = "{measure}"', *lines, body])


def test_a_cut_that_puts_tau_of_an_average_class_in_need_is_refused(tmp_path):
    too_high = cut("map_growth_math").replace("class_need_below = 20", "class_need_below = 21")
    assert fault(tmp_path, too_high) == (
        "d1.toml: policy: cuts of map_growth_math: class_need_below = 21 puts 20 % of an average class in need by"
        " construction, which is not below classes.tau = 0.2: the 10-20 % rule is incoherent with such a cut, whatever"
        " the teaching. Lower class_need_below, or set classes.norm_adjust = true, which judges the class against that"
        " share and says so."
    )
    assert policy(tmp_path, "[classes]\nnorm_adjust = true\n" + too_high).classes.norm_adjust
    assert policy(tmp_path, cut("map_growth_math")).all_cuts[0].class_base_rate == 0.19
    assert "class_need_below = 20 puts 19 %" in fault(tmp_path, "[classes]\ntau = 0.15\n")


def test_a_measure_no_layout_has_is_named_with_its_setting(tmp_path):
    assert fault(tmp_path, cut("map_growth_maths")) == (
        "d1.toml: cuts.0.measure: no layout has a measure map_growth_maths. Is map_growth_math meant?"
        " Measures of the district's own files are listed under local_measures."
    )
    assert "primary_measures.4: no layout has a measure x." in fault(tmp_path, '[primary_measures]\n4 = "x"\n')
    assert "select: no layout has a measure x." in fault(tmp_path, '[select]\nx = "latest"\n')
    assert policy(tmp_path, 'local_measures = ["x"]\n' + cut("x")).cuts[0].measure == "x"
    assert policy(tmp_path, cut("*")).cuts[0].measure == "*"


def test_windows_and_grades_without_a_rule_are_named(tmp_path):
    fall = cut("star_math", 'seasons = ["fall"]')
    rest = cut("star_math", 'seasons = ["winter", "spring"]', 'grades = ["3", "5"]')
    assert fault(tmp_path, fall) == (
        "d1.toml: cuts of star_math: no rule for winter. Name them in grades and seasons of a rule."
        " cuts of star_math: no rule for spring. Name them in grades and seasons of a rule."
    )
    assert "no rule for winter in grades PK, K, 1, 2, 4, 6," in fault(tmp_path, fall + rest)
    low = cut("star_math", 'grades = ["K", "1", "2"]')
    high = cut("star_math", 'grades = ["4", "5"]')
    assert "no rule for fall in grades 3." in fault(tmp_path, low + high)
    assert len(policy(tmp_path, low + cut("star_math", 'grades = ["3"]')).cuts) == 2


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"tier_2": ["One", "Two"], "tier_3": [" two"]}, "the label two stands in tier_3 and in tier_2"),
        ({"tier_2": ["One"], "class_need": ["Three"]}, "class_need names three, which has no level"),
        ({"tier_2": ["One"], "class_need": []}, "names the labels of tier_2 or tier_3 and class_need"),
        ({"watch": ["One"]}, "names the labels of tier_2 or tier_3 and class_need"),
    ],
)
def test_labels_have_one_level_each(labels, told):
    with pytest.raises(ValueError, match=told):
        CutRule.model_validate({"measure": "m", "by": "placement", "class_need": ["one"], "source": "s"} | labels)


def test_grades_are_those_of_schools(tmp_path):
    assert "cuts.0: star_math: grades third are none of PK, K and 1 to 12" in fault(
        tmp_path, cut("star_math", 'grades = ["third"]')
    )


PIN = """
[[pinned_cuts]]
measure = "map_growth_math"
grade = "4"
season = "fall"
percentile_below = 21
score = 196
"""
SOURCED = PIN + 'source = "Board, 4 May 2026"\n'


def test_a_pinned_cut_says_who_pinned_it_and_is_one_that_a_rule_asks_for(tmp_path):
    assert fault(tmp_path, PIN) == "d1.toml: pinned_cuts.0.source: Field required."
    assert policy(tmp_path, SOURCED).pinned_cuts[0].score == 196
    idle = SOURCED.replace("= 21", "= 22")
    assert "pinned_cuts.0.percentile_below: no rule of map_growth_math cuts at 22." in fault(tmp_path, idle)
    assert "pinned_cuts.1: a second pin of the same cut from the same day on." in fault(tmp_path, SOURCED * 2)
    assert len(policy(tmp_path, SOURCED * 2 + "valid_from = 2026-01-01\n").pinned_cuts) == 2


def test_the_defaults_hold_to_what_a_policy_must():
    assert {each.measure for each in DEFAULT_STANDARD_ERRORS} <= measures()
    mathematics = {measure for measure in measures() if not measure.endswith("_per_minute")}
    any_percentile = {"map_survey_math"}
    assert mathematics - any_percentile <= {each.measure for each in DEFAULT_CUTS}
    assert all(each.class_base_rate is None or each.class_base_rate < 0.2 for each in DEFAULT_CUTS)
    assert DEFAULT_CUTS[-1].measure == "*"


def window(year: str, season: str, begins: str, ends: str, more: str = "") -> str:
    named = f'school_year = "{year}"\nseason = "{season}"\nbegins_on = {begins}\nends_on = {ends}\n'
    return f"[[windows]]\n{named}{more}\n"


FALL = window("2026", "fall", "2025-08-15", "2025-10-15")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (FALL.replace('"2026"', '"2025-2026"'), "windows.0.school_year: 2025-2026 is no school year; name the year in"),
        (FALL.replace('"2026"', '"2027"'), "window fall of 2027: begins_on lies in the school year 2026; mend the day"),
        (FALL.replace("fall", "autumn"), "windows.0.season: Input should be 'fall', 'winter' or 'spring'"),
        (FALL + "reference_on = 2025-10-16", "window fall of 2026: reference_on is not one of its days; name a day"),
        (FALL * 2, "fall of 2026 is there more than once; keep one"),
        (
            FALL + window("2026", "winter", "2025-10-15", "2025-12-01"),
            "windows fall of 2026 and winter of 2026 overlap on 2025-10-15",
        ),
        (
            window("2026", "winter", "2025-08-01", "2025-08-14") + FALL,
            "windows: winter of 2026 comes before fall; they go fall, winter, spring",
        ),
        ("[classes]\ntau_low = 0.3", "classes: tau_low, tau and severe must rise"),
        ("[classes]\nwatch_probability = 0.9", "classes: watch_probability must not be above flag_probability"),
        ("[classes]\nsystem_probability = 1.1", "classes.system_probability: Input should be less than or equal to 1"),
        ("[classes]\nmobile_after_days = -1", "classes.mobile_after_days: Input should be greater than or equal to 0"),
        ("[cycles]\nshortest_days = 50", "cycles: shortest_days must not be above longest_days"),
        ("[responses]\nbaseline_alike = 0.5", "responses: baseline_alike must not be above baseline_refused"),
        ('[primary_measures]\nthird = "star_math"', "third is no grade; grades are PK, K and 1 to 12"),
        ('[season_names]\n"Feb-Mar" = "late"', "season_names.Feb-Mar: Input should be 'fall', 'winter' or 'spring'"),
        ("tau = 0.2", "tau: there is no such setting here; it stands under [classes]."),
        ("[classes]\ntaulow = 0.1", "classes.taulow: there is no such setting; perhaps tau_low is meant."),
        ("[select.map_growth_math]\nx = 1", "select.map_growth_math: Input should be 'growth_measure'"),
        ("windows = 3", "windows: a list is needed here, or tables under a name in double brackets."),
        ("classes = 3", "classes: a table is needed here, under its name in brackets."),
        (
            '[quality]\nblocking = ["match_rates"]',
            "quality.blocking.0: Input should be 'volume_per_school', 'tested_share'",
        ),
        (cut("star_math", "tier_3_below = 0"), "cuts by percentile lie from 1 to 100"),
    ],
)
def test_a_mistake_is_told_with_its_setting_and_what_to_do(tmp_path, text, told):
    message = fault(tmp_path, text)
    assert message.startswith("d1.toml: ")
    assert told in message


def test_windows_of_two_years_do_not_overlap(tmp_path):
    late, early = (window(year, season, begins, ends) for year, season, begins, ends in (
        ("2026", "spring", "2026-06-01", "2026-06-30"), ("2027", "fall", "2026-07-01", "2026-09-30"),
    ))  # fmt: skip
    assert len(policy(tmp_path, late + early).windows) == 2
    told = "window spring of 2026: ends_on lies in the school year 2027"
    assert told in fault(tmp_path, late.replace("06-30", "07-01") + early)


def test_a_policy_may_make_every_expectation_blocking():
    assert get_args(Expectation) == tuple(RULES)
