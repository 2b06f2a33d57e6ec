"""Policies are facts with dates: each window by the policy of its day, closed windows only anew when asked to be."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.refresh import refresh
from schemas.contract import broken_rules, columns
from schemas.policy import ClassRule, DistrictPolicy, UnreadablePolicy
from schemas.projections import PolicySetting
from tests.homes import POLICY, Clock, Place, map_file, map_row
from transforms.policies import History, Span, policy_settings, window_ends
from warehouse.home import Home
from warehouse.projections import Projections

CUT = """
[[cuts]]
measure = "map_growth_math"
by = "percentile"
tier_3_below = 11
tier_2_below = {tier_2}
watch_below = 41
class_need_below = 20
source = "The district's own."
"""
FALL = [map_row(each, 186, percentile="22", term="Fall 2025-2026", day="09/10/2025", test=f"f{each}") for each in "12"]
WINTER = [
    map_row(each, 190, percentile="22", term="Winter 2025-2026", day="01/20/2026", test=f"w{each}") for each in "12"
]


def policy(tier_2: int, head: str = "") -> str:
    return POLICY + head + CUT.format(tier_2=tier_2)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(tmp_path_factory.mktemp("started"), policy(21))
    made.clock = Clock(datetime(2026, 2, 1, tzinfo=UTC))
    made.load("2026-01-30/map.csv", map_file(*FALL, *WINTER))
    made.refresh()
    return made


@pytest.fixture
def place(started: Place, tmp_path: Path) -> Place:
    return started.copy(tmp_path)


def levels(place: Place) -> dict[str, set[str]]:
    rows = place.table("need_level").group_by("benchmark_window").agg(pl.col("need_level").unique()).rows()
    return {window: set(found) for window, found in rows}


def versions(place: Place) -> dict[str, str]:
    return dict(place.table("window_rule").select("benchmark_window", "policy_version").rows())


def test_a_new_policy_rules_the_windows_from_its_first_day_on(place: Place):
    assert levels(place) == {"fall": {"watch"}, "winter": {"watch"}}
    before = place.table("need_level").filter(pl.col("benchmark_window") == "fall").drop("input_id")
    place.set_policy(policy(25, "valid_from = 2025-12-01\n"))
    place.load()
    assert place.refresh().updated == [("d1", "2026")]
    assert levels(place) == {"fall": {"watch"}, "winter": {"tier_2"}}
    assert versions(place) == {"fall": "1980-01-01", "winter": "2025-12-01"}
    assert before.equals(place.table("need_level").filter(pl.col("benchmark_window") == "fall").drop("input_id"))
    assert place.table("screening_result").height == 4


def test_a_policy_of_a_later_year_is_no_news_for_the_years_before(place: Place):
    place.set_policy(policy(25, "valid_from = 2026-07-01\n"))
    assert place.load().rules == 1
    assert place.refresh().updated == []


def test_rules_of_closed_windows_do_not_change_unasked(place: Place):
    place.set_policy(policy(25))
    with pytest.raises(UnreadablePolicy, match="closed, the last on 2025-11-15"):
        place.load()
    place.refresh()
    assert levels(place)["fall"] == {"watch"}
    place.set_policy(policy(25, 'retroactive = true\nreason = "The board corrected the cut."\n'))
    place.load()
    place.refresh()
    assert levels(place) == {"fall": {"tier_2"}, "winter": {"tier_2"}}
    assert place.log.notes.scan().collect()["text"].to_list() == ["The board corrected the cut."]
    (told,) = place.events("rules").sort("export_at").tail(1).to_dicts()
    assert told["is_retroactive"]
    assert "board" not in told["document"]


def test_retroactive_needs_a_reason():
    with pytest.raises(ValueError, match="retroactive = true needs a reason"):
        DistrictPolicy(time_zone="America/Denver", retroactive=True)


@pytest.mark.slow
def test_each_retroactive_change_has_a_reason_of_its_own(place: Place):
    place.set_policy(policy(25, 'retroactive = true\nreason = "The board corrected the cut."\n'))
    place.load()
    place.refresh()
    assert place.load().rules == 0  # the same file again is no change
    for tier_2, reason in ((30, "The board corrected the cut."), (21, " the Board  corrected the CUT.")):
        place.set_policy(policy(tier_2, f'retroactive = true\nreason = "{reason}"\n'))
        with pytest.raises(UnreadablePolicy, match="its reason is that of an earlier change") as refused:
            place.load()
        assert "board" not in str(refused.value).lower()
    place.refresh()
    assert levels(place)["fall"] == {"tier_2"}
    place.set_policy(policy(30, 'retroactive = true\nreason = "The appeal of May."\n'))
    assert place.load().rules == 1


def test_a_reason_that_was_left_in_the_file_makes_no_later_change_retroactive(place: Place):
    left = 'retroactive = true\nreason = "The board corrected the cut."\n'
    place.set_policy(policy(25, left))
    place.load()
    place.set_policy(policy(30, f"valid_from = 2026-07-01\n{left}"))
    assert place.load().rules == 1
    assert place.events("rules").sort("valid_from")["is_retroactive"].to_list()[-1] is False
    assert place.log.notes.scan().collect().height == 1


def test_a_policy_older_than_the_one_on_record_is_refused(place: Place):
    place.set_policy(policy(25, "valid_from = 2026-07-01\n"))
    place.load()
    place.set_policy(policy(21))
    with pytest.raises(UnreadablePolicy, match="before 2026-07-01"):
        place.load()


def test_how_files_are_kept_and_what_is_plausible_may_change_any_day(place: Place):
    place.set_policy(policy(21, 'landing = "keep"\n'))
    assert place.load().rules == 0
    place.set_policy(policy(21) + "[quality]\nscore_drift_maximum = 5\n")
    assert place.load().rules == 1


@pytest.mark.slow
def test_a_policy_set_back_is_three_facts(place: Place):
    for tier_2 in (25, 21):
        place.set_policy(policy(tier_2, f'retroactive = true\nreason = "A trial of {tier_2}."\n'))
        place.load()
        place.refresh()
    assert place.events("rules").height == 3
    assert levels(place)["fall"] == {"watch"}


def test_a_calendar_counts_for_its_year_and_closed_windows_keep_theirs(place: Place):
    window = '[[windows]]\nschool_year = "{year}"\nseason = "{season}"\nbegins_on = {begins}\nends_on = {ends}\n'
    spring = window.format(year="2026", season="spring", begins="2026-03-02", ends="2026-05-31")
    winter = window.format(year="2026", season="winter", begins="2026-01-01", ends="2026-02-20")
    fall = window.format(year="2026", season="fall", begins="2025-08-15", ends="2025-10-15")
    place.set_policy(policy(21) + winter + spring)
    assert place.load().rules == 1
    place.refresh()
    # where ranges are configured only they decide, and a date in none is outside
    assert set(levels(place)) == {"winter"}
    place.set_policy(policy(21) + fall + winter + spring)
    with pytest.raises(UnreadablePolicy, match="windows or no_school_days of 2026"):
        place.load()
    place.set_policy(policy(21))
    assert place.load().rules == 1
    place.refresh()
    assert set(levels(place)) == {"fall", "winter"}


@pytest.mark.slow
def test_a_past_day_is_rebuilt_with_its_policy(place: Place, tmp_path: Path):
    then = place.clock.now
    place.set_policy(policy(25, 'retroactive = true\nreason = "The board corrected the cut."\n'))
    place.load()
    place.refresh()
    past = Projections(str(tmp_path / "past"))
    refresh(place.log, past, {"d1": place.home.policy("d1")}, as_of=then)
    found = {contract.__name__: contract for contract in past.tables}
    assert set(past.read(found["NeedLevel"]).collect()["need_level"]) == {"watch"}


def test_a_run_without_news_says_nothing_new(place: Place):
    again = place.load()
    assert (again.rules, again.rows) == (0, [])
    assert place.refresh().unchanged == ["d1"]


def test_a_year_takes_the_policies_that_touch_it():
    plain = DistrictPolicy(time_zone="America/Denver")
    told = History([(date(1980, 1, 1), plain), (date(2025, 12, 1), plain), (date(2026, 7, 1), plain)])
    assert [(span.from_on, span.until_on) for span in told.of_year("2025")] == [(None, date(2025, 12, 1))]
    assert [span.from_on for span in told.of_year("2026")] == [None, date(2025, 12, 1)]
    assert [span.from_on for span in told.of_year("2027")] == [date(2026, 7, 1)]


def test_windows_nobody_configures_end_by_default():
    assert window_ends(DistrictPolicy(time_zone="America/Denver"), "2026") == {
        "fall": date(2025, 11, 15),
        "winter": date(2026, 3, 1),
        "spring": date(2026, 6, 30),
    }


def test_a_policy_is_no_file_of_a_student(place: Place):
    home = Home(place.home.root)
    assert place.ledger().height == 1
    assert home.districts() == ["d1"]


# Settings in force


def test_settings_in_force_say_what_differs_from_the_default_and_since_when():
    first = DistrictPolicy(time_zone="America/Denver", source="Board, 2025.")
    second = first.model_copy(update={"classes": ClassRule(tau=0.25), "source": "Board, 2026."})
    plans = {"d1": [Span(first, None, date(2026, 1, 5)), Span(second, date(2026, 1, 5), None)]}
    years = pl.DataFrame({"district_id": ["d1"], "school_year": ["2026"]})
    got = policy_settings(plans, years)
    assert got.filter(setting="classes.tau").select("value", "is_default", "from_on", "until_on", "source").rows() == [
        ("0.2", True, None, date(2026, 1, 5), "Board, 2025."),
        ("0.25", False, date(2026, 1, 5), None, "Board, 2026."),
    ]
    assert {each.split(".")[0] for each in got["setting"]} >= {"tiers", "cuts", "classes", "cycles", "windows"}
    assert broken_rules(
        got.with_columns(input_id=pl.lit("i")).select(list(columns(PolicySetting))), PolicySetting
    ).is_empty()


def test_a_reason_that_people_typed_is_no_setting():
    policy = DistrictPolicy(time_zone="America/Denver", retroactive=True, reason="Quixote")
    assert not [each for each in policy.settings() if "Quixote" in "".join(map(str, each))]
