"""Pages about cycles, meetings, data quality, checks and the method: what they say of a district that was loaded."""

import re
from datetime import date, timedelta
from html import unescape

import duckdb
import polars as pl
import pytest

from pipelines.delivery import RULES
from pipelines.looked import remembered
from pipelines.quality import RESULT_SCHEMA
from pipelines.report import checks, cycles, meetings, method, quality
from pipelines.report.page import Page
from pipelines.report.panels import Series, panels
from pipelines.report.reading import WINDOWS, Reading
from pipelines.report.site import PAGES, rendered
from pipelines.report.words import LEVELS, Rate
from pipelines.work import Work
from schemas.contract import columns
from schemas.policy import DistrictPolicy
from schemas.projections import NEXT_STEPS, RESPONSES, UNGROUPED, Cycle
from tests.conftest import Small
from tests.test_wording import BLAME
from transforms.cycles import FINDINGS
from transforms.persistence import FLAGS

MAKERS = (cycles.pages, meetings.pages, quality.pages, checks.pages, method.pages)
MARKER = "Quixote-4711"
BEGAN = date(2025, 9, 15)
SIGNAL = {
    "recommended": 0, "served": 0, "planned_sessions": None, "held_sessions": 0, "referrals": 0,
    "tested": 20, "enrolled": 20, "families_contacted": 0, "no_math_section": 0,
}  # fmt: skip
"""A school with nothing to ask about."""


@pytest.fixture(scope="module")
def reading(small: Small) -> Reading:
    return Reading(small.home, small.district, "2026")


@pytest.fixture(scope="module")
def made(reading: Reading) -> dict[str, Page]:
    return {page.path: page for make in MAKERS for page in make(reading)}


@pytest.fixture(scope="module")
def html(small: Small, made: dict[str, Page]) -> dict[str, str]:
    return {path: (small.site / path).read_text("utf-8") for path in made}


def words(text: str) -> str:
    """What a page says, without its markup, style and script."""
    body = re.sub(r"<(style|script)>.*?</\1>", " ", text, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


# Drawings


def series(**given):
    days = [BEGAN + timedelta(days=7 * week) for week in range(3)]
    known = {
        "who": "ana", "opened_on": BEGAN, "ends_on": BEGAN + timedelta(days=42), "baseline": 10.0, "goal": 22.0,
        "days": days, "scores": [10.0, 13.0, 12.0], "aims": [10.0, 12.0, 14.0],
    }  # fmt: skip
    return Series(**(known | given))


@pytest.mark.parametrize(("last", "where"), [(12.0, "below"), (14.0, "on"), (15.0, "above")])
def test_a_drawing_says_in_words_where_the_last_probe_lies(last, where):
    told = series(scores=[10.0, 13.0, last]).told
    assert f"the last is {where} the aim line" in told
    assert "3 probes from 15 September 2025 to 29 September 2025" in told


def test_without_a_goal_there_is_no_aim_line_and_the_words_say_why():
    (drawn,) = panels([series(goal=None, aims=[None] * 3)])
    assert 'class="aim"' not in drawn.picture and 'class="goal"' not in drawn.picture
    assert "there is no aim line" in drawn.told


def test_the_drawings_of_a_cycle_share_their_scales():
    one, other = panels([series(), series(who="ben", scores=[10.0, 30.0, 12.0])])
    assert [re.findall(r">([\d.]+)</text>", each.picture)[:2] for each in (one, other)] == [["30", "10"]] * 2


def test_a_drawing_has_no_text_of_the_data():
    (drawn,) = panels([series(who="<script>")])
    assert "script" not in drawn.picture


def test_nothing_known_is_no_drawing():
    assert panels([series(days=[], scores=[], aims=[], baseline=None, goal=None)]) == []


# Every code has words


def test_every_code_that_a_page_may_meet_has_words():
    assert set(cycles.RESPONSES) == set(RESPONSES)
    assert set(cycles.NEXT_STEPS) == set(NEXT_STEPS)
    assert set(cycles.UNGROUPED) == set(UNGROUPED)
    assert set(checks.FINDINGS) == set(FINDINGS)
    assert set(checks.OBSERVED) == set(RULES)


def test_every_expectation_of_the_published_tables_has_words():
    from pipelines.expectations import PROMISED

    kinds = {promise.split(" ")[0] for promises in PROMISED.values() for promise in promises}
    assert kinds | {"adds"} == set(checks.PUBLISHED_WORDS)
    between = [
        sql for each in PROMISED.values() for name, sql in each.items() if name.split(" ")[0].endswith("between")
    ]
    assert between
    assert all("not between 0 and 1" in sql for sql in between)


# Cycles


def test_every_cycle_stands_on_the_page_of_its_school(reading, html):
    for school, cycle_id in reading.table("projections.cycle").select("school_id", "cycle_id").rows():
        assert f'id="{cycles.cycle_anchor(cycle_id)}"' in html[cycles.cycles_path(school)]


def test_what_is_not_recorded_is_said_and_is_no_zero():
    nothing = dict.fromkeys(columns(Cycle))
    assert {said for _, said in cycles._delivery(nothing)} == {"not recorded", "never observed"}
    assert dict(cycles._delivery(nothing | {"held_sessions": 0}))["Held"] == "0"


def test_everyone_in_need_and_in_no_cycle_is_in_a_group_or_counted(reading, made):
    table = reading.table("projections.regrouping_proposal").filter(benchmark_window=cycles.latest_window(reading))
    shown = [
        page.context["proposals"]
        for path, page in made.items()
        if path.startswith("cycles/") and "school" in page.context
    ]
    grouped = sum(group["students"] for found in shown for group in found["groups"])
    assert grouped + sum(found["ungrouped_students"] for found in shown) == table.height
    assert grouped == table.filter(pl.col("reason").is_null()).height > 0


def test_a_student_is_shown_by_the_beginning_of_a_key_and_the_whole_key_stands_once(reading, html):
    for school in reading.schools:
        page = html[cycles.cycles_path(school)]
        for key in reading.of("projections.cycle_outcome", school_id=school)["subject_key"].unique():
            assert page.count(key) == 1 and page.count(f"{key[:8]}<") > 1


# Meetings


def test_there_is_a_sheet_for_every_school_and_window(reading, made):
    signals = reading.table("marts.school_signal").select("school_id", "benchmark_window").rows()
    assert {meetings.meeting_path(*each) for each in signals} == {
        path for path in made if path.startswith("meetings/") and path != meetings.INDEX
    }


def test_a_sheet_lists_the_classes_by_grade_and_name_with_level_interval_and_coverage(reading, made, html):
    flagged = reading.current.filter("is_primary", pl.col("level").is_in(FLAGS))
    assert flagged.height
    for (school, window), rows in flagged.partition_by("school_id", "benchmark_window", as_dict=True).items():
        path = meetings.meeting_path(school, window)
        shown = made[path].context["classes"]
        assert [each["label"] for each in shown] == rows["class_label"].head(meetings.MOST_CLASSES).to_list()
        said = words(html[path])
        for row in rows.head(meetings.MOST_CLASSES).to_dicts():
            rate = Rate(row["in_need"], row["tested"], row["need_share"], row["interval_low"], row["interval_high"])
            assert f"interval {rate.interval}" in said and LEVELS[row["level"]].label in said


def test_what_changed_is_told_against_the_window_before(reading, made):
    found = reading.current.filter("is_primary", pl.col("level").is_in(FLAGS))
    for path, page in made.items():
        if not path.startswith("meetings/") or path == meetings.INDEX:
            continue
        school, window, before = (page.context[name] for name in ("school_id", "window", "before"))
        assert before == ([None, *WINDOWS][WINDOWS.index(window)])
        here = found.filter(school_id=school)
        now, was = (set(here.filter(benchmark_window=each or "none")["class_id"]) for each in (window, before))
        told = dict(page.context["changes"])["Classes"]
        if before is None:
            assert told.startswith(f"{len(now)} finding")
        else:
            assert f"Still: {len(now & was)}." in told
            assert ("New: none." in told) == (not now - was)


def test_questions_are_asked_only_where_there_is_something_to_ask():
    waiting = {"overdue": {"count": 0}}
    assert [*meetings._about_support(SIGNAL, waiting, 0), *meetings._about_data(SIGNAL, pl.DataFrame())] == []
    (unknown,) = meetings._about_support(SIGNAL | {"served": None, "recommended": 9}, waiting, 0)
    assert "is not recorded" in unknown
    (unserved,) = meetings._about_support(SIGNAL | {"served": 2, "recommended": 9}, waiting, 0)
    assert unserved.startswith("7 of 9 students")
    (held,) = meetings._about_support(SIGNAL | {"planned_sessions": 10, "held_sessions": 7}, waiting, 0)
    assert held.startswith("7 of 10 planned sessions")


def test_a_full_sheet_prints_on_one_page_of_either_paper(reading, made, html, browser, tmp_path):
    path = next(path for path, page in made.items() if page.template == "meeting.html" and page.context["classes"])
    page = made[path]
    each = page.context["classes"][0] | {"label": "Grade 12, class B", "level": "CLASSROOM_OR_SYSTEM"}
    many = {
        "count": 30,
        "listed": [(f"cycle-{n:05}", "cycles/a.html") for n in range(meetings.MOST_CYCLES)],
        "more": 22,
    }
    rows = pl.DataFrame(
        {
            "grade": [f"{n}" for n in range(1, 7)],
            "level": ["SYSTEM", "CLASSROOM", "SYSTEM+CLASSROOM"] * 2,
            "is_district_wide": True,
            "growth_excess": "more",
            "topics": "Geometry; Measurement and Data; Number and Operations; Operations and Algebraic Thinking",
        }
    )
    signal = SIGNAL | {"recommended": 90, "planned_sessions": 90, "referrals": 9, "enrolled": 90, "no_math_section": 9}
    asked = [
        *meetings._about_levels(rows, "fall"),
        *meetings._about_support(signal, {"overdue": many}, 9),
        *meetings._about_data(signal | {"families_contacted": None}, rows),
    ]
    assert len(asked) >= 12
    full = page.context | {
        "classes": [each] * meetings.MOST_CLASSES,
        "more_classes": ", ".join(f"Grade {n} (2)" for n in range(9)),
        "thin": ", ".join(f"Grade {n} (2)" for n in range(9)),
        "cycles": {"overdue": many, "group_plan": many},
        "questions": asked,
    }
    ((_, fullest),) = rendered(reading, [Page(path, page.title, page.template, full, page.section, page.trail)])
    for name, text in (("full", fullest), ("own", html[path])):
        file = tmp_path / f"{name}.html"
        file.write_text(text, "utf-8")
        sheet = browser.new_page()
        sheet.goto(file.as_uri())
        for paper in ("Letter", "A4"):
            assert len(re.findall(rb"/Type /Page\b(?!s)", sheet.pdf(format=paper))) == 1, (name, paper)


# Data quality and checks


def test_a_held_file_stands_on_the_page_with_its_rule(reading, html):
    held = reading.table("log.ingest_ledger").filter(status="held")
    assert held.height
    for file, rule in held.select("file", "held_rule").rows():
        assert file in words(html["quality.html"]) and rule in words(html["quality.html"])


def test_the_outcomes_of_every_kind_of_export_add_up_to_its_rows(made):
    for _, _, rows, *outcomes in made["quality.html"].context["layouts"]:
        assert sum(int(each.replace(",", "")) for each in outcomes) == int(rows.replace(",", ""))


def test_coverage_counts_everyone_enrolled_once(reading, made):
    members = reading.table("projections.class_membership").filter(
        ~pl.col("is_alternate_assessment").fill_null(value=False), pl.col("school_id").is_not_null()
    )
    shown = [rate for row in made["quality.html"].context["coverage"] for rate in row["rates"].values()]
    assert sum(int(re.search(r"of ([\d,]+)\)", each)[1].replace(",", "")) for each in shown) == members.height


def test_every_result_is_counted_among_the_checks(reading, made):
    context = made["checks.html"].context
    looked_at = sum(each["looked_at"] for each in context["delivery"])
    plain = sum(len(each["rows"]["broken"]) + len(each["rows"]["held"]) for each in context["tools"])
    assert looked_at + plain == context["results"] == reading.table("marts.data_quality").height
    assert context["published"]["broken"] == []
    assert len(context["published"]["held"]) > 30


def test_the_bounds_of_a_check_are_those_of_the_districts_policy(reading):
    assert checks.expected_of(reading)["tested_share"] == "at least 50 % of the students"


def test_no_cell_that_fails_a_check_reaches_the_page(spoilt, small):
    warehouse = spoilt.warehouse
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("update marts.classroom_flag set level = ?", [MARKER])
        connection.execute("update marts.classroom_flag set need_share = 4711.4711")
        connection.execute("update projections.tier_placement set tier = 47")
    found = Work(spoilt).look_at_warehouse()
    assert found is not None and found.filter(~pl.col("is_passed")).height >= 3
    assert remembered(warehouse).equals(found.cast(RESULT_SCHEMA))
    reading = Reading(spoilt, small.district, "2026")
    ((_, text),) = rendered(reading, list(checks.pages(reading)))
    assert "level is one of its known values" in words(text) and "does not hold" in words(text)
    assert not re.search(rf"{MARKER}|4711", text)


def test_a_warehouse_that_nobody_looked_at_is_said_to_be_so(spoilt, small):
    with duckdb.connect(str(spoilt.warehouse)) as connection:
        connection.execute("create table other (one integer)")
    reading = Reading(spoilt, small.district, "2026")
    ((_, text),) = rendered(reading, list(checks.pages(reading)))
    assert "was not looked at yet" in words(text)


# Method


def test_every_setting_in_force_stands_on_the_method_page(reading, html):
    settings = set(reading.table("projections.policy_setting")["setting"]) - method.ELSEWHERE
    shown = set(re.findall(r"<code>([\w.]+)</code>", html["method.html"]))
    assert len(settings) > 80 and settings <= shown


def test_only_what_differs_from_the_defaults_is_the_districts_own(made):
    assert {row["setting"] for row in made["method.html"].context["own"]} == {"time_zone", "source"}


def test_a_setting_that_changed_within_the_year_says_what_it_was():
    row = {"from_on": None, "until_on": date(2026, 1, 5), "is_default": False, "place": 1, "source": "Board."}
    values = {
        "classes.tau": [row | {"value": 0.2}, row | {"from_on": date(2026, 1, 5), "until_on": None, "value": 0.25}]
    }
    (shown,) = method._rows(values, "classes.", method.ClassRule)
    assert (shown["value"], shown["before"]) == ("0.25", [("5 January 2026", "0.2")])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "not set"),
        ([], "not set"),
        (True, "yes"),
        (0.2, "0.2"),
        (1 / 3, "0.3333"),
        (["a", "b"], "a; b"),
        (3, "3"),
    ],
)
def test_a_value_is_said_without_brackets(value, said):
    assert method.value_words(value) == said


def test_cuts_are_those_of_the_measures_in_use(reading, made):
    assert 0 < len(made["method.html"].context["cuts"]) < len(DistrictPolicy(time_zone="America/Denver").all_cuts)


# All of them


def test_no_page_ranks_or_blames(html):
    assert {path: BLAME.search(words(text))[0] for path, text in html.items() if BLAME.search(words(text))} == {}


def test_pages_of_one_warehouse_are_the_same_bytes(small, html):
    again = Reading(small.home, small.district, "2026")
    whole = [page for make in PAGES for page in make(again)]
    texts = {page.path: text for page, text in rendered(again, whole) if page.path in html}
    assert texts == html


def test_only_pages_of_cycles_show_keys(reading, html):
    keys = set(reading.table("projections.tier_placement")["subject_key"])
    others = [text for path, text in html.items() if not path.startswith("cycles/")]
    assert not any(key[:8] in text for key in sorted(keys)[:50] for text in others)
