"""Mart queries: their words, their columns and their counts."""

import itertools
import re
import tempfile
from datetime import UTC, date, datetime

import duckdb
import polars as pl
import pytest

from schemas.contract import columns, require, stage, summary, table_name
from schemas.marts import (
    MARTS,
    ClassroomFlag,
    CycleSummary,
    DataQuality,
    ResponderSummary,
    ReviewList,
    TierReconciliation,
    TierSummary,
)
from schemas.projections import (
    GROWTHS,
    SEASONS,
    ClassDecision,
    ClassGrowth,
    ClassMembership,
    Cycle,
    CycleOutcome,
    IngestLedger,
    QualityResult,
    Referral,
    ResponderRate,
    SchoolSignal,
    ScreeningResult,
    TierPlacement,
    WindowRule,
)
from tests.made_classes import POLICY, frame, quality, school_data
from transforms.classrooms import LEVEL_OF, NOT_REGULAR, class_decisions
from warehouse.publish import mart_sql
from warehouse.shape import duckdb_type

FORBIDDEN = ("ineffective", "failing teacher", "caused by", "teacher", "bad", "worst", "rank")
KEY = {"district_id": "d1", "school_year": "2026", "input_id": "i"}
READS = (
    WindowRule,
    ScreeningResult,
    ClassMembership,
    ClassDecision,
    ClassGrowth,
    TierPlacement,
    Referral,
    Cycle,
    CycleOutcome,
    ResponderRate,
    SchoolSignal,
    QualityResult,
    IngestLedger,
)


def mart(contract, **tables):
    """The mart over tables given by name; the others are empty."""
    connection = duckdb.connect()
    connection.execute("set TimeZone = 'UTC'; create schema projections; create schema log")
    for each in READS:
        name = table_name(each)
        schema = "log" if each is IngestLedger else "projections"
        kinds = ", ".join(f'"{column}" {duckdb_type(dtype)}' for column, dtype in columns(each).items())
        connection.execute(f"create table {schema}.{name} ({kinds})")
        given = tables.get(name)
        if given:
            with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
                frame(given, each).collect().write_parquet(file.name)
                connection.execute(f"insert into {schema}.{name} by name from read_parquet(?)", [file.name])
    found = connection.execute(mart_sql(contract))
    names = [column[0] for column in found.description]
    return pl.DataFrame(found.fetchall(), schema={name: columns(contract)[name] for name in names}, orient="row")


# Every query


@pytest.mark.parametrize("contract", MARTS, ids=table_name)
def test_a_mart_has_the_columns_of_its_contract_in_order(contract):
    assert mart(contract).columns == list(columns(contract))
    assert stage(contract) == "marts"


@pytest.mark.parametrize("contract", MARTS, ids=table_name)
def test_a_mart_opens_with_its_meaning_and_is_one_select(contract):
    sql = mart_sql(contract)
    opening, _, rest = sql.partition("\n")
    assert opening.removeprefix("-- ") == summary(contract).split(". ")[0] + "."
    assert ";" not in re.sub(r"'[^']*'", "", rest)
    assert not re.search(r"\b(create|insert|update|delete|limit|rank|row_number)\b", rest, re.IGNORECASE)


@pytest.mark.parametrize("contract", MARTS, ids=table_name)
def test_a_mart_compares_no_share_with_a_number(contract):
    """Thresholds are policy, used in transforms: SQL may ask for one, none or some, not for how much."""
    compared = re.findall(r"(?:>=?|<=?|between)\s*(\d+(?:\.\d+)?)", re.sub(r"'[^']*'", "", mart_sql(contract)))
    assert set(compared) <= {"0"}


# Reasons


def decision(**given):
    row = {
        "benchmark_window": "winter",
        "measure": "map_growth_math",
        "school_id": "s1",
        "class_id": "a",
        "class_label": "Grade 4, class A",
        "grade": "4",
        "section_type": "regular",
        "enrolled": 25,
        "tested": 24,
        "mobile": 1,
        "coverage": 0.96,
        "in_need": 9,
        "recommended": 10,
        "need_share": 0.375,
        "guidance_band": ">20",
        "interval_low": 0.2043743646,
        "interval_high": 0.5738135853,
        "p_above": 0.9782267092,
        "bound_low": 0.36,
        "bound_high": 0.4,
        "bound_verdict": "above",
        "tau": 0.2,
        "is_norm_adjusted": False,
        "need_cut": "PR<20",
        "recommended_cut": "PR<=20",
        "grade_tested": 72,
        "grade_in_need": 36,
        "p_grade_above": 1.0,
        "grade_coverage": 0.9722,
        "p_above_peers": 0.9998,
        "is_evaluable": True,
        "prior": "two_level",
        "prior_from": "district_grade",
        "is_flagged": True,
        "severity": "suspect",
        "is_district_wide": False,
        "level": "CLASSROOM",
        "reason": "class_above",
    }
    return KEY | row | given


def growth(**given):
    row = {"benchmark_window": "winter", "measure": "map_growth_math", "school_id": "s1", "class_id": "a"}
    counts = {"tested": 24, "with_fall": 23, "matched": 23, "observed": 10, "expected": 5.64, "growth_excess": "more"}
    return KEY | row | counts | given


def reason(*growths, **given):
    """The reason and what stands beside it, as they are read together."""
    row = mart(ClassroomFlag, class_decision=[decision(**given)], class_growth=list(growths)).row(0, named=True)
    return f"{row['reason']} {row['context']}".strip()


def test_a_reason_says_the_numbers_the_interval_and_both_counts():
    assert reason() == (
        "9 of 24 tested students (37.5 %, interval 20.4-57.4 %) are below the 20th percentile; 24 of 25 enrolled were"
        " tested (96.0 %). The probability that the rate is above 20 % is 0.978; in the whole grade 36 of 72 are:"
        " look at whole-class instruction in this class. In need (PR<20): 9; recommended Tier 2-3 (PR<=20): 10."
    )


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        ("PR<20", "below the 20th percentile"),
        ("PR<11", "below the 11th percentile"),
        ("PR<1", "below the 1st percentile"),
        ("PR<12", "below the 12th percentile"),
        ("PR<2", "below the 2nd percentile"),
        ("PR<13", "below the 13th percentile"),
        ("PR<3", "below the 3rd percentile"),
        ("PR<15.5", "below percentile 15.5"),
        ("score<188.5", "below a score of 188.5"),
        ("vendor label", "in need by the vendor's own label"),
        (None, "in need by the cut rule"),
    ],
)
def test_a_cut_is_said_in_words(cut, words):
    assert f"are {words};" in reason(need_cut=cut)


def test_one_student_is_singular_and_certainty_is_never_printed():
    assert "1 of 24 tested students (37.5 %, interval 20.4-57.4 %) is below" in reason(in_need=1)
    assert "is 0.999;" in reason(p_above=1.0)
    assert "is above 12.5 %" not in reason()
    assert "above 12.5 %" in reason(tau=0.125)


def test_a_threshold_that_is_the_cuts_own_base_rate_is_labelled():
    label = "24 % is the share of an average class below this cut (norm_adjusted)."
    assert reason(tau=0.24, is_norm_adjusted=True).endswith(label)
    assert "norm_adjusted" not in reason(tau=0.24)


def test_fall_says_who_arrived():
    arrived = "Fall results describe who arrived, not this year's instruction."
    assert reason(benchmark_window="fall").endswith(arrived)
    assert arrived not in reason(benchmark_window="fall", tested=0)


def test_a_small_class_is_told_what_its_school_says():
    small = {"reason": "few_tested", "level": "TOO_SMALL"}
    assert "is probably above 20 %." in reason(**small, pooled_level="WATCH")
    assert "is probably not above 20 %." in reason(**small, pooled_level="STUDENT")
    assert "Nobody in its grade" in reason(**small, pooled_level="NONE")
    assert "Its grade" not in reason(**small, pooled_level=None)


def test_severity_and_the_district_are_said_only_of_what_is_about_classes():
    told = {"severity": "classwide_severe", "is_district_wide": True}
    assert "support for the whole class comes first" in reason(**told)
    assert "first check the cut and the curriculum" in reason(**told)
    for level in ("STUDENT", "WATCH", "SYSTEM_DATA"):
        assert "curriculum" not in reason(**told, level=level) and "comes first" not in reason(**told, level=level)


def test_what_came_with_the_students_is_said_with_its_numbers():
    words = "From their fall levels 5.6 of 23 students were to be expected in need, and 10 are: "
    assert f"{words}more than chance explains." in reason(growth())
    assert f"{words}fewer than chance explains." in reason(growth(growth_excess="fewer"), level="STUDENT")
    assert f"{words}no clear difference." in reason(growth(growth_excess="as_expected"))
    assert "fall levels" not in reason(growth(growth_excess="as_expected"), level="STUDENT")
    assert "fall levels" not in reason(growth(class_id="b"))
    nothing = {"observed": None, "expected": None, "growth_excess": None}
    assert "cannot be told: too few can be compared" in reason(growth(**nothing))


@pytest.mark.parametrize("rule", ["class_above", "only_class_of_grade", "grade_above", "grade_and_class_above"])
def test_only_attention_to_act_recommends_an_action(rule):
    given = {"reason": rule, "level": LEVEL_OF[rule]}
    single = reason(**given, attention="look")
    assert ": look at whole-class instruction" in single and "a reason to look, not yet to act" in single
    assert "Recommended action" not in single
    stands = reason(**given, attention="act", is_persistent=True)
    assert ". Recommended action: strengthen whole-class instruction" in stands
    assert "It was so in the window before as well." in stands
    assert "look at whole-class" not in stands and "not yet to act" not in stands
    severe = reason(**given, attention="act", is_persistent=False, severity="classwide_severe")
    assert "Recommended action" in severe and "window before" not in severe


def test_topics_measures_and_years_are_said_of_flags_alone():
    told = {"topic_breadth": "one", "topics": "Geometry", "is_concordant": True, "is_grade_persistent": True}
    said = reason(**told)
    assert "One topic stands out (Geometry): look at how this topic was taught." in said
    assert "Another measure says the same." in said and "The grade was so in two of three years." in said
    assert "Most topics stand out (A; B): look at the core." in reason(topic_breadth="most", topics="A; B")
    assert "Several topics stand out (A; B)." in reason(topic_breadth="several", topics="A; B")
    assert "No topic stands out." in reason(topic_breadth="none")
    assert "topic" not in reason(topic_breadth="unknown")
    assert "Another measure does not say so." in reason(is_concordant=False)
    quiet = reason(**told, level="STUDENT", reason="not_above")
    assert "topic" not in quiet and "measure" not in quiet and "years" not in quiet


def every_decision():
    """Every rule with every window, cut and size of class that changes the words, and the nulls that come with it."""
    sizes = (
        {},
        {"enrolled": 0, "tested": 0, "in_need": 0, "coverage": None, "bound_low": None, "bound_high": None},
        {"tested": 0, "in_need": 0, "coverage": 0.0},
        {"p_above_peers": None},
        {"severity": "classwide_severe", "is_district_wide": True, "pooled_level": "WATCH"},
        {"severity": None, "is_district_wide": None, "pooled_level": "NONE"},
        {"attention": "act", "is_persistent": True, "is_concordant": True, "topic_breadth": "one", "topics": "A"},
        {"attention": "act", "severity": "classwide_severe", "topic_breadth": "most", "topics": "A; B"},
        {"attention": "look", "is_concordant": False, "is_grade_persistent": True, "topic_breadth": "none"},
        {"attention": "look", "topic_breadth": "several", "topics": "A; B"},
        {"pooled_level": "STUDENT"},
        {"p_grade_above": None, "grade_tested": 0, "grade_in_need": 0, "p_above_peers": None},
    )
    nothing = dict.fromkeys(("need_share", "interval_low", "interval_high", "p_above", "p_above_peers"))
    needs = {"grade_and_class_above": ("p_above_peers", "p_grade_above"), "grade_above": ("p_grade_above",)}
    data_rules = {rule for rule, level in LEVEL_OF.items() if level in ("SYSTEM_DATA", "LOW_COVERAGE", "TOO_SMALL")}
    cuts = ("PR<20", "PR<15.5", "score<188", "vendor label", None)
    made = itertools.product((*LEVEL_OF, NOT_REGULAR), SEASONS, cuts, sizes)
    for number, (rule, window, cut, size) in enumerate(made):
        if (size.get("tested") == 0 and rule not in data_rules) or (
            size.get("enrolled") == 0 and rule == "class_coverage_low"
        ):
            continue
        if any(name in size and size[name] is None for name in needs.get(rule, ())):
            continue
        row = size | (nothing if size.get("tested") == 0 else {})
        section = ("remedial", "advanced")[number % 2] if rule == NOT_REGULAR else "regular"
        level = LEVEL_OF.get(rule, "WATCH")
        named = {"class_id": f"c{number}", "reason": rule, "level": level, "section_type": section}
        recommended = cut and cut.replace("<", "<=")
        adjusted = {"need_cut": cut, "recommended_cut": recommended, "is_norm_adjusted": number % 2 == 0}
        yield decision(**named, benchmark_window=window, **adjusted, **row)


def test_no_sentence_a_mart_can_print_blames_ranks_or_breaks():
    decisions = list(every_decision())
    excesses = itertools.cycle([*GROWTHS, None])
    growths = [
        growth(class_id=row["class_id"], benchmark_window=row["benchmark_window"], growth_excess=excess)
        for row, excess in zip(decisions, excesses, strict=False)
        if row["benchmark_window"] != "fall"
    ]
    printed = require(mart(ClassroomFlag, class_decision=decisions, class_growth=growths), ClassroomFlag)
    assert printed["reason_code"].n_unique() == len(LEVEL_OF) + 1
    for sentence in printed["reason"].unique():
        assert not [word for word in FORBIDDEN if re.search(rf"\b{word}\b", sentence, re.IGNORECASE)], sentence
        assert not re.search(r"\b(nan|null|none|inf)\b|\{|\}|  ", sentence.removeprefix("None of ")), sentence
        assert re.fullmatch(r"[A-Z0-9].*\.", sentence), sentence


@pytest.mark.parametrize("contract", MARTS, ids=table_name)
def test_no_mart_nor_its_contract_uses_a_forbidden_word(contract):
    words = f"{mart_sql(contract)} {summary(contract)}".lower()
    assert not [word for word in FORBIDDEN[:3] if word in words]
    assert not [name for name in columns(contract) if "teacher" in name or "title" in name]


def test_decided_classes_become_flags_of_the_contract():
    memberships, needs = school_data(
        [
            {"cls": "b", "y": 12, "n": 22, "roster": 22},
            {"cls": "a", "y": 2, "n": 22, "roster": 22},
            {"cls": "c", "y": 1, "n": 22, "roster": 22},
        ]
    )
    decisions = class_decisions(memberships, needs, quality(), {"d1": POLICY}).with_columns(input_id=pl.lit("i"))
    flags = require(mart(ClassroomFlag, class_decision=decisions.to_dicts()), ClassroomFlag)
    assert flags["class_label"].to_list() == ["Grade 4, class A", "Grade 4, class B", "Grade 4, class C"]
    assert flags["level"].to_list()[1] == "CLASSROOM"
    assert "12 of 22 tested students" in flags["reason"][1]


# Counts


def test_tiers_are_counted_with_the_untested_beside_them():
    def student(name, tier, status="tested", assigned=None):
        return KEY | {
            "benchmark_window": "fall", "subject_key": name, "school_id": "s1", "grade": "4", "status": status,
            "tier": tier, "assigned_tier": assigned,
        }  # fmt: skip

    rows = [student("a", 1), student("b", 1, assigned=2), student("c", 2, assigned=2), student("d", 3)]
    rows += [student("e", None, "absent"), student("f", None, None, assigned=3)]
    rows += [student("g", 2, "absent") | {"is_stale": True}]
    found = require(mart(TierSummary, tier_placement=rows), TierSummary).row(0, named=True)
    counted = ("students", "placed", "untested", "stale", "tier_1", "tier_2", "tier_3", "team_differs")
    assert [found[name] for name in counted] == [7, 5, 3, 1, 2, 2, 1, 1]
    assert [found[f"tier_{tier}_share"] for tier in (1, 2, 3)] == [0.4, 0.4, 0.2]


def test_a_grade_nobody_of_which_was_placed_has_no_shares():
    row = KEY | {"benchmark_window": "fall", "subject_key": "a", "school_id": "s1", "grade": "4", "status": "absent"}
    found = mart(TierSummary, tier_placement=[row]).row(0, named=True)
    assert [found["placed"], found["tier_1_share"], found["tier_3_share"]] == [0, None, None]


def test_what_a_team_decides_otherwise_is_listed_with_who_and_since_when():
    def student(name, tier, assigned, on, decided_by="team"):
        return KEY | {
            "benchmark_window": "fall", "subject_key": name, "tier": tier, "reference_on": date(2025, 9, 30),
            "assigned_tier": assigned, "assigned_on": on, "tier_decided_by": decided_by, "is_stale": False,
        }  # fmt: skip

    rows = [
        student("same", 2, 2, date(2025, 9, 1)),
        student("before", 2, 3, date(2025, 9, 29)),
        student("since", 2, 1, date(2025, 9, 30)),
        student("untested", None, 2, date(2025, 9, 1)),
        student("nobody", 2, None, None, "recommendation"),
    ]
    found = require(mart(TierReconciliation, tier_placement=rows), TierReconciliation)
    told = found.select("subject_key", "recommended_tier", "assigned_tier", "tier_decided_by", "is_decided_since")
    assert told.rows() == [("before", 2, 3, "team", False), ("since", 2, 1, "team", True)]


def test_a_referred_student_is_listed_with_the_latest_placement_or_without_any():
    def placed(window, level, tier):
        return KEY | {
            "benchmark_window": window, "subject_key": "ana", "need_level": level, "tier": tier, "school_id": "s1",
            "is_stale": False, "status": "tested",
        }  # fmt: skip

    def referred(key, name, by):
        return KEY | {"natural_key": key, "subject_key": name, "referred_by": by, "school_id": "s2"}

    referrals = [referred("r1", "ana", "family"), referred("r2", "ana", "teacher"), referred("r3", "ben", "teacher")]
    given = [placed("winter", "none", 1), placed("fall", "tier_2", 2)]
    found = require(mart(ReviewList, tier_placement=given, referral=referrals), ReviewList).sort("natural_key")
    assert found.select("subject_key", "referred_by", "school_id", "benchmark_window", "need_level", "tier").rows() == [
        ("ana", "family", "s1", "winter", "none", 1),
        ("ana", "teacher", "s1", "winter", "none", 1),
        ("ben", "teacher", "s2", None, None, None),
    ]


def test_cycles_are_counted_with_delivery_dose_and_excluded_responses():
    def cycle(name, state, planned, held, **given):
        row = {"cycle_id": name, "school_id": "s1", "intervention": "Bridges", "state": state}
        return KEY | row | {"planned_sessions": planned, "held_sessions": held} | given

    def outcome(cycle_id, name, response, dose, step=None):
        row = {"cycle_id": cycle_id, "subject_key": name, "school_id": "s1", "next_step": step}
        return KEY | row | {"response": response, "dose_share": dose}

    cycles = [
        cycle("c1", "closed", 10, 8, is_group_plan_first=True),
        cycle("c2", "overdue", 10, 10),
        cycle("c3", "open", None, 4),
        cycle("c4", "abandoned", 0, 0, intervention=None),
        cycle("c1", "open", 5, 5, school_id="s2"),
    ]
    outcomes = [
        outcome("c1", "ana", "adequate", 0.9, "exit_or_regroup"),
        outcome("c1", "ben", "poor", 0.9, "change_group_plan"),
        outcome("c2", "ana", "insufficient_dose", 0.3),
        outcome("c2", "cal", "dose_unknown", None),
        outcome("c3", "dee", "insufficient_data", None),
        outcome("c3", "eve", None, None),
    ]
    found = require(mart(CycleSummary, cycle=cycles, cycle_outcome=outcomes), CycleSummary)
    rows = {(row["school_id"], row["intervention"]): row for row in found.to_dicts()}
    bridges = rows["s1", "Bridges"]
    assert [bridges[f"{state}cycles"] for state in ("", "open_", "overdue_", "closed_", "abandoned_")] == [
        3,
        1,
        1,
        1,
        0,
    ]
    assert (bridges["planned_sessions"], bridges["held_sessions"], bridges["delivery_share"]) == (20, 18, 0.9)
    assert (bridges["students"], bridges["outcomes"], bridges["dose_known"]) == (5, 6, 3)
    assert bridges["dose_share"] == pytest.approx(0.7)
    assert (bridges["concluded"], bridges["adequate"], bridges["poor"], bridges["excluded"]) == (2, 1, 1, 4)
    assert (bridges["group_plan_first_cycles"], bridges["exit_or_regroup"], bridges["change_group_plan"]) == (1, 1, 1)
    unnamed = rows["s1", None]
    assert (unnamed["delivery_share"], unnamed["dose_share"], unnamed["outcomes"]) == (None, None, 0)
    assert (rows["s2", "Bridges"]["cycles"], rows["s2", "Bridges"]["outcomes"]) == (1, 0)


def test_a_rate_is_shown_where_enough_is_concluded():
    counts = dict.fromkeys(("dose_unknown", "insufficient_dose", "insufficient_data", "abandoned_cycles"), 0)
    row = KEY | counts | {"kind": "intervention", "tier": 2, "cycles": 3, "students": 12, "outcomes": 14}
    row |= {"open_outcomes": 1, "overdue_outcomes": 2, "responder_share": 0.5, "interval_low": 0.2}
    row |= {"interval_high": 0.8, "ended_share": 0.4, "is_comparable": False, "concluded": 11}
    rows = [row | {"name": "a"}, row | {"name": "b", "concluded": 9, "withheld_reason": "fewer_than_10_concluded"}]
    shown, withheld = require(mart(ResponderSummary, responder_rate=rows), ResponderSummary).to_dicts()
    shares = ("responder_share", "interval_low", "interval_high", "ended_share")
    assert [shown[name] for name in shares] == [0.5, 0.2, 0.8, 0.4]
    assert {withheld[name] for name in shares} == {None}
    assert (withheld["concluded"], withheld["withheld_reason"], withheld["still_open"]) == (
        9,
        "fewer_than_10_concluded",
        3,
    )


def test_quality_stands_beside_the_counts_of_its_layouts_files():
    def rule(about, name="volume"):
        row = {"stage": "exports", "tool": "rule", "about": about, "rule": name, "is_blocking": False}
        return KEY | row | {"is_passed": True, "rows": 0}

    def file(batch, attempt, status="loaded", years="2026", **counts):
        row = {"batch_id": batch, "attempt": attempt, "district_id": "d1", "file": "f.csv", "layout": "map_combo"}
        recorded = {"recorded_at": datetime(2026, 1, 1, tzinfo=UTC), "home_fingerprint": "f"}
        return row | recorded | {"status": status, "school_years": years, "data_rows": 0} | counts

    ledger = [
        file("b1", 1, data_rows=100, parsed=90, rejected=4, parked=6),
        file("b1", 2, data_rows=6, parsed=5, parked=1),
        file("b2", 1, "held", data_rows=50),
        file("b3", 1, "held", data_rows=40),
        file("b3", 2, data_rows=40, parsed=40, years="2025;2026"),
        file("b4", 1, data_rows=999, parsed=999, years="2025"),
    ]
    found = mart(DataQuality, quality_result=[rule("map_combo"), rule("need_level")], ingest_ledger=ledger)
    rows = {row["about"]: row for row in require(found, DataQuality).to_dicts()}
    names = ("files", "held_files", "data_rows", "parsed", "rejected", "parked")
    assert [rows["map_combo"][name] for name in names] == [3, 1, 190, 135, 4, 1]
    assert [rows["need_level"][name] for name in names] == [None] * 6
