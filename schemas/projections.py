"""State of students, cycles and classes, derived from the log: what each projection table means."""

import polars as pl

from schemas.contract import Contract, field
from schemas.events import STRANDS, UTC

SEASONS = ("fall", "winter", "spring")
NEED_LEVELS = ("none", "watch", "tier_2", "tier_3")
SCALES = ("score", "rasch")
CUT_SOURCES = ("derived", "pinned", "unknown")
PROBABILITY_BASES = ("sem", "sem_default", "kelley", "label", "none")
PROBABILITY_FLAGS = ("sem_missing", "cut_unknown")
STATUSES = ("tested", "absent", "refused", "exempt_alternate", "invalid", "untested")
MEMBERSHIP_RULES = ("reference_date", "test_date", "majority", "census")
LEVELS = (
    "NONE",
    "STUDENT",
    "WATCH",
    "CLASSROOM",
    "CLASSROOM_OR_SYSTEM",
    "SYSTEM",
    "SYSTEM+CLASSROOM",
    "LOW_COVERAGE",
    "TOO_SMALL",
    "SYSTEM_DATA",
)
PRIORS = ("two_level", "one_level", "moments", "full_bayes", "pooled", "fixed", "jeffreys")
SEVERITIES = ("none", "watch", "suspect", "classwide_severe")
TOPIC_BREADTHS = ("none", "one", "several", "most", "unknown")
ATTENTIONS = ("none", "look", "act")
GROWTHS = ("more", "as_expected", "fewer")
CYCLE_STATES = ("open", "overdue", "closed", "abandoned")
NEXT_STEPS = (
    "exit_or_regroup",
    "continue",
    "intensify_one_element",
    "change_intervention",
    "change_group_plan",
    "fix_delivery",
    "record_delivery",
    "collect_data",
    "set_goal",
)
POINT_RULES = ("change_instruction", "raise_goal", "continue")
CONCLUSIONS = ("adequate", "questionable", "poor")
"""Responses that say something about the child."""
RESPONSES = (
    *CONCLUSIONS,
    "dose_unknown",
    "insufficient_dose",
    "insufficient_data",
)


DECIDERS = ("team", "recommendation")
GROUP_STEPS = ("again", "next")
UNGROUPED = (
    "cycles_not_supplied",
    "no_ended_cycle",
    "concept_not_named",
    "next_concept_unknown",
    "school_or_grade_unknown",
)
"""Why a student in need is in no proposed group."""


class Projection(Contract):
    """Columns of every projection row."""

    district_id: pl.String = field("District.", nullable=False)
    school_year: pl.String = field("Ending year of the school year.", nullable=False)
    input_id: pl.String = field("Hash of everything this partition was computed from.", nullable=False)


class WindowRule(Projection):
    """Benchmark windows in force. One row per district, school year and window."""

    benchmark_window: pl.String = field("fall, winter or spring.", isin=SEASONS, nullable=False)
    begins_on: pl.Date = field("First day, where the district configures ranges.")
    ends_on: pl.Date = field("Last day, where the district configures ranges.")
    reference_on: pl.Date = field("Day that decides who is in which class.")
    reference_source: pl.String = field("`configured`, or `median_test_day` of valid math tests.")
    policy_version: pl.String = field("Version of the policy that decided.")

    class Config:
        unique = ["district_id", "school_year", "benchmark_window"]


class PolicySetting(Projection):
    """The policy in force, setting by setting. One row per district, school year, setting and first day of the policy.

    A window is judged by the policy of its reference date, a cycle by that of the day it opened.
    """

    place: pl.Int64 = field("Place of the setting in the policy.", nullable=False)
    setting: pl.String = field("Name as a policy file has it, such as `classes.tau`.", nullable=False)
    value: pl.String = field("Value as JSON; of rules in a list, the district's before the defaults.", nullable=False)
    is_default: pl.Boolean = field("The value is the documented default.", nullable=False)
    from_on: pl.Date = field("First day of the policy; null where it rules the school year from its start.")
    until_on: pl.Date = field("First day of the policy after it; null where it is the year's last.")
    source: pl.String = field("Document or decision behind the policy.")

    class Config:
        unique = ["district_id", "school_year", "setting", "from_on"]


class ScreeningResult(Projection):
    """Every math test. One row per test of a student; exports of one test by several layouts are one row."""

    subject_key: pl.String = field("Student.", nullable=False)
    measure: pl.String = field("Screening measure.", nullable=False)
    benchmark_window: pl.String = field("fall, winter or spring; null outside every window.", isin=SEASONS)
    window_source: pl.String = field("range, label, date or outside: what placed the test in its window.")
    natural_key: pl.String = field("Key of the test in the log; the smallest where several layouts show it.")
    occurred_on: pl.Date = field("Local day of the test.")
    started_at: pl.String = field("Local start time, where exported.")
    school_id: pl.String = field("School as the export names it.")
    grade: pl.String = field("Grade at the test, as exported.")
    test_name: pl.String = field("Name of the test.")
    score: pl.Float64 = field("Score, in the unit of the measure.")
    standard_error: pl.Float64 = field("Standard error of the score, in the unit of `standard_error_unit`.")
    standard_error_unit: pl.String = field("`score` or `rasch`.")
    rasch_score: pl.Float64 = field("Score on the Rasch scale.")
    percentile: pl.Float64 = field("National percentile rank as exported.", ge=0, le=100)
    norm_version: pl.String = field("Norms behind the percentile.")
    placement: pl.String = field("Vendor's own label.")
    strands: STRANDS = field("Strand scores.")
    is_growth_measure: pl.Boolean = field("Whether the vendor counts this test for growth.")
    is_valid: pl.Boolean = field("False for a test that is withdrawn, invalid or has no score.", nullable=False)
    invalid_reason: pl.String = field("Why a test is not valid.")
    is_chosen: pl.Boolean = field("Whether this test stands for the student in its window.", nullable=False)
    chosen_reason: pl.String = field("Rule that chose the test, or why it was not chosen.")
    layout: pl.String = field("Layout of the latest export that shows the test.")
    exports: pl.Int64 = field("Layouts that show the test.")
    first_export_at: UTC = field("Earliest export that shows the test as it stands; frozen rules go by it.")

    class Config:
        unique = ["district_id", "natural_key"]


class ClassMembership(Projection):
    """Math class of each enrolled student on a window's reference date. One row per student, school year and window."""

    subject_key: pl.String = field("Student.", nullable=False)
    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    reference_on: pl.Date = field("Reference date of the window.", nullable=False)
    school_id: pl.String = field("School of the class, else of any enrolment.")
    grade: pl.String = field("Grade of the student at the reference date, else of the class.")
    class_id: pl.String = field("Math class; null where there is no math section.")
    class_basis: pl.String = field(
        "subject_code, title, homeroom or no_math_section: the rule that found the class.", nullable=False
    )
    section_type: pl.String = field("regular, remedial or advanced; unknown counts as regular.")
    is_section_type_known: pl.Boolean = field("False where no pattern matched and regular was assumed.")
    membership_rule: pl.String = field(
        "reference_date, test_date, majority or census: the day, or days, that decided the class.",
        isin=MEMBERSHIP_RULES,
        nullable=False,
    )
    is_mobile: pl.Boolean = field(
        "Began in the school after the class did and less than 20 school days before, or was in no class on the census."
    )
    in_two_classes: pl.Boolean = field("Enrolled in two math classes on the reference date.")
    is_alternate_assessment: pl.Boolean = field("Takes an alternate assessment and leaves the roster count.")

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "subject_key"]


class CutScore(Projection):
    """Score at each percentile cut that a rule uses. One row per window, measure, grade, norms and percentile cut."""

    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    measure: pl.String = field("Screening measure.", nullable=False)
    grade: pl.String = field("Grade at the test, else at the reference date.")
    norm_version: pl.String = field("Norms behind the percentile.")
    percentile_cut: pl.Float64 = field("Percentile that the rule cuts at; on it is not below.", nullable=False)
    scale: pl.String = field("Scale of the cut, that of the standard error: `score` or `rasch`.", isin=SCALES)
    cut_score: pl.Float64 = field("Score at the cut; null where unknown.")
    source: pl.String = field(
        "pinned by policy, derived from exported tests, or unknown.", isin=CUT_SOURCES, nullable=False
    )
    pairs: pl.Int64 = field("Tests with a score and a percentile within 10 of the cut.", nullable=False)
    score_below: pl.Float64 = field("Highest score that is below the cut, of the tests it is derived from.")
    score_at_or_above: pl.Float64 = field("Lowest score that is on the cut or above it.")
    pinned_source: pl.String = field("Who pinned the cut.")

    class Config:
        unique = [
            "district_id",
            "school_year",
            "benchmark_window",
            "measure",
            "grade",
            "norm_version",
            "percentile_cut",
        ]


class NeedLevel(Projection):
    """What each measure says of each student. One row per student, school year, window and measure."""

    subject_key: pl.String = field("Student.", nullable=False)
    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    measure: pl.String = field("Screening measure.", nullable=False)
    status: pl.String = field("tested, or why there is no valid test.", isin=STATUSES)
    score: pl.Float64 = field("Score of the chosen test.")
    standard_error: pl.Float64 = field("Standard error of the chosen test.")
    standard_error_unit: pl.String = field("`score` or `rasch`.")
    percentile: pl.Float64 = field("National percentile of the chosen test.")
    placement: pl.String = field("Vendor's label of the chosen test.")
    grade: pl.String = field("Grade at the test, else at the reference date.")
    need_level: pl.String = field("none, watch, tier_2 or tier_3; null where the rule cannot say.", isin=NEED_LEVELS)
    is_in_need: pl.Boolean = field("Below the class-need cut; null where the rule cannot say.")
    p_tier_2: pl.Float64 = field(
        "Probability that the true score is below the tier 2 cut; null where the rule cannot say.", ge=0, le=1
    )
    p_tier_3: pl.Float64 = field("The same for the tier 3 cut; 0 where the rule has none.", ge=0, le=1)
    p_class_need: pl.Float64 = field("The same for the class-need cut.", ge=0, le=1)
    probability_basis: pl.String = field(
        "What the probabilities rest on: sem of the test, sem_default of the measure, kelley; label or none: 0 and 1.",
        isin=PROBABILITY_BASES,
    )
    probability_flag: pl.String = field(
        "sem_missing: 0 and 1 for want of a standard error. cut_unknown: 0 and 1 at a cut without a score.",
        isin=PROBABILITY_FLAGS,
    )
    rule: pl.String = field("Cut rule that decided.")
    rule_version: pl.String = field("Date from which that rule is valid, and the policy version.")
    natural_key: pl.String = field("Chosen test.")

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "measure", "subject_key"]


class TierPlacement(Projection):
    """The support tier recommended for each student. One row per student, school year and window."""

    subject_key: pl.String = field("Student.", nullable=False)
    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    reference_on: pl.Date = field("Reference date of the window: the day of the recommendation.")
    school_id: pl.String = field("School on the reference date; as the export names it without a roster.")
    grade: pl.String = field("Grade on the reference date.")
    class_id: pl.String = field("Math class on the reference date.")
    measure: pl.String = field("Primary measure that decided; null where the student has no valid test.")
    secondary_measure: pl.String = field("Measure that corroborates; null where none was tested or none is asked.")
    status: pl.String = field("tested, or why there is no valid test.", isin=STATUSES)
    need_level: pl.String = field("none, watch, tier_2 or tier_3, by the primary measure.", isin=NEED_LEVELS)
    p_tier_2: pl.Float64 = field("Probability of being below the tier 2 cut, measures combined.", ge=0, le=1)
    p_tier_3: pl.Float64 = field("Probability of being below the tier 3 cut, measures combined.", ge=0, le=1)
    confidence: pl.String = field(
        "low where the primary measure is close to the cut and no second measure helps; null where untested.",
        isin=["high", "low"],
    )
    is_tier_3_corroborated: pl.Boolean = field(
        "The secondary measure is below its tier 3 cut or the last closed tier 2 cycle was poor, where policy asks it."
    )
    response: pl.String = field("Response of the last cycle closed by the reference date, same year.", isin=RESPONSES)
    tier_before: pl.Int8 = field("Tier the window started from; null for a student not seen before.", isin=[1, 2, 3])
    tier_before_by: pl.String = field("team or recommendation: who decided that tier.", isin=DECIDERS)
    tier: pl.Int8 = field(
        "Recommended tier: 1 core, 2 small group, 3 intensive; null where unknown or untested for too long.",
        isin=[1, 2, 3],
    )
    is_stale: pl.Boolean = field("The tier is carried forward because no test says anything new.", nullable=False)
    windows_without_test: pl.Int64 = field("Windows since the last one that could say, this one included.")
    streak_2: pl.Int64 = field("Windows in a row with p_tier_2 below the entry probability, since the last move.")
    streak_3: pl.Int64 = field("The same of p_tier_3.")
    reason: pl.String = field("Code of the rule that decided.")
    assigned_tier: pl.Int8 = field("Latest tier a team decided before the next window.", isin=[1, 2, 3])
    assigned_on: pl.Date = field("Day of that decision.")
    tier_decided_by: pl.String = field(
        "Whose tier stands: the team's where it decided one, else the recommendation.", isin=DECIDERS
    )
    evidence_kinds: pl.String = field(
        "Profile colorado: kinds of evidence by the reference date of a student in tier 2 or 3, of screener, referral"
        " and cycle, separated by `;`; course grades are not read. Blank where there is none."
    )
    evidence_sources: pl.Int64 = field("How many sources these are; every measure is one. 1: one source only.")
    rule: pl.String = field("Cut rule that decided.")
    rule_version: pl.String = field("Version of that rule.")
    measures: pl.Int64 = field("Measures with a valid test in the window.")

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "subject_key"]


class Referral(Projection):
    """Who was referred, by whom and when; never part of a tier. One row per referral."""

    natural_key: pl.String = field("Key of the referral in the log.", nullable=False)
    subject_key: pl.String = field("Student.", nullable=False)
    school_id: pl.String = field("School as the source names it.")
    referred_on: pl.Date = field("Day of the referral.")
    referred_by: pl.String = field("teacher, family, counselor, self or other.")
    concern: pl.String = field("Code of the concern.")

    class Config:
        unique = ["district_id", "school_year", "natural_key"]


class School(Projection):
    """Schools of the roster, under the names people know. One row per school and school year that has enrolments."""

    school_id: pl.String = field("School as the source names it.", nullable=False)
    school_name: pl.String = field("Name of the school.")

    class Config:
        unique = ["district_id", "school_year", "school_id"]


class ClassContext(Projection):
    """Curriculum and engagement as schools reported them; never part of a decision. One row per report on a class."""

    natural_key: pl.String = field("Key of the report in the log.", nullable=False)
    school_id: pl.String = field("School as the source names it.")
    class_id: pl.String = field("Class.")
    kind: pl.String = field("curriculum or engagement.", isin=["curriculum", "engagement"], nullable=False)
    reported_on: pl.Date = field("Day of the report.")
    material: pl.String = field("Curriculum material in use.")
    is_aligned: pl.Boolean = field("The material is aligned to standards; null where not reported.")
    engagement: pl.String = field("Engagement code.")
    newest_in: pl.String = field(
        "Windows by whose end no later report on the class and material was known, separated by `;`."
    )

    class Config:
        unique = ["district_id", "school_year", "natural_key"]


class TierStability(Projection):
    """Need levels that change between adjacent windows, and what measurement error alone would change.

    One row per district, school year, measure, grade and pair of windows.
    """

    measure: pl.String = field("Screening measure.", nullable=False)
    grade: pl.String = field("Grade in the later window.")
    from_window: pl.String = field("Earlier window.", isin=SEASONS, nullable=False)
    to_window: pl.String = field("The measure's next window of the year.", isin=SEASONS, nullable=False)
    students: pl.Int64 = field("Students with a need level in both: the n of the shares.", nullable=False)
    level_changed: pl.Int64 = field("Of these, with another need level.", nullable=False)
    level_changed_share: pl.Float64 = field("Of students.")
    level_changed_low: pl.Float64 = field("Lower end of its 95 % Wilson interval.")
    level_changed_high: pl.Float64 = field("Upper end of its 95 % Wilson interval.")
    crossed: pl.Int64 = field("Students who crossed the tier 2 cut, either way.", nullable=False)
    crossed_share: pl.Float64 = field("Of students.")
    crossed_low: pl.Float64 = field("Lower end of its 95 % Wilson interval.")
    crossed_high: pl.Float64 = field("Upper end of its 95 % Wilson interval.")
    error_known: pl.Int64 = field("Students with a measurement error in both: the n of the next.", nullable=False)
    expected_crossed_share: pl.Float64 = field("Share that measurement error alone would carry over the tier 2 cut.")

    class Config:
        unique = ["district_id", "school_year", "measure", "grade", "from_window"]


class ScreeningAccuracy(Projection):
    """How well a screening measure told who failed a later test. One row per measure, grade and window."""

    benchmark_window: pl.String = field("Window of the screening.", isin=SEASONS, nullable=False)
    measure: pl.String = field("Screening measure.", nullable=False)
    grade: pl.String = field("Grade at the screening.")
    outcome_measure: pl.String = field("Later test of the same school year.", nullable=False)
    students: pl.Int64 = field("Students with both.", nullable=False)
    true_positives: pl.Int64 = field("Below the tier 2 cut, and failed.", nullable=False)
    false_positives: pl.Int64 = field("Below the cut, and passed.", nullable=False)
    false_negatives: pl.Int64 = field("Not below the cut, and failed.", nullable=False)
    true_negatives: pl.Int64 = field("Not below the cut, and passed.", nullable=False)
    sensitivity: pl.Float64 = field("Below the cut, of those who failed.")
    sensitivity_low: pl.Float64 = field("Lower end of its 95 % Wilson interval.")
    sensitivity_high: pl.Float64 = field("Upper end of its 95 % Wilson interval.")
    specificity: pl.Float64 = field("Not below the cut, of those who passed.")
    specificity_low: pl.Float64 = field("Lower end of its 95 % Wilson interval.")
    specificity_high: pl.Float64 = field("Upper end of its 95 % Wilson interval.")
    ppv: pl.Float64 = field("Failed, of those below the cut.")
    ppv_low: pl.Float64 = field("Lower end of its 95 % Wilson interval.")
    ppv_high: pl.Float64 = field("Upper end of its 95 % Wilson interval.")
    npv: pl.Float64 = field("Passed, of those not below the cut.")
    npv_low: pl.Float64 = field("Lower end of its 95 % Wilson interval.")
    npv_high: pl.Float64 = field("Upper end of its 95 % Wilson interval.")
    base_rate: pl.Float64 = field("Failed, of all.")
    base_rate_low: pl.Float64 = field("Lower end of its 95 % Wilson interval.")
    base_rate_high: pl.Float64 = field("Upper end of its 95 % Wilson interval.")
    auc: pl.Float64 = field(
        "Probability that one who failed had the lower screening score, ties half; null where all failed or none did."
    )
    auc_standard_error: pl.Float64 = field("Standard error of the AUC.")
    auc_low: pl.Float64 = field("Lower end of its 95 % interval.")
    auc_high: pl.Float64 = field("Upper end of its 95 % interval.")
    rating: pl.String = field("full, half or none by the rubric of the policy.", isin=["full", "half", "none"])
    healthy_base_rate: pl.Float64 = field("Failure rate of a class that is well, by policy.")
    healthy_flagged_share: pl.Float64 = field("Share of such a class that this screening would put below the cut.")
    healthy_ppv: pl.Float64 = field("Of those, who would really fail.")

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "measure", "grade"]


class Cycle(Projection):
    """Intervention cycles. One row per group cycle."""

    cycle_id: pl.String = field("Cycle as the source names it.", nullable=False)
    school_id: pl.String = field("School.")
    group_id: pl.String = field("Group.")
    tier: pl.Int8 = field("Tier of the support.")
    concept: pl.String = field("Concept on a learning progression.")
    intervention: pl.String = field("Intervention or programme.")
    measure: pl.String = field("Progress-monitoring measure.")
    parent_goal: pl.String = field("Longer goal the cycle belongs to.")
    opened_on: pl.Date = field("First day.")
    planned_end_on: pl.Date = field("Last planned day.")
    closed_on: pl.Date = field("Day it was closed; null while open.")
    close_reason: pl.String = field("completed, abandoned or other.")
    state: pl.String = field("open, overdue, closed or abandoned.")
    planned_days: pl.Int64 = field("Days from opening to planned end.")
    is_length_out_of_range: pl.Boolean = field("Planned outside 21 to 42 days; null where no end was planned.")
    members: pl.Int64 = field("Students who were ever in the cycle.")
    planned_sessions: pl.Int64 = field("Sessions planned when it opened, else scheduled.")
    scheduled_sessions: pl.Int64 = field("Sessions scheduled.")
    held_sessions: pl.Int64 = field("Sessions held.")
    cancelled_sessions: pl.Int64 = field("Sessions cancelled.")
    planned_minutes: pl.Float64 = field("Minutes planned; null where not recorded.")
    held_minutes: pl.Float64 = field("Minutes held; null where any held session lacks them.")
    delivery_share: pl.Float64 = field("Sessions held of those planned; null where none was planned.")
    fidelity_share: pl.Float64 = field("Mean fidelity of held sessions; null where never observed.")
    adequate: pl.Int64 = field("Members whose response is adequate.", nullable=False)
    questionable: pl.Int64 = field("Members whose response is questionable.", nullable=False)
    poor: pl.Int64 = field("Members whose response is poor.", nullable=False)
    concluded: pl.Int64 = field("Members with one of these three: the n of the group rule.", nullable=False)
    excluded: pl.Int64 = field("Members about whom nothing is concluded.", nullable=False)
    is_group_plan_first: pl.Boolean = field(
        "At least half of the concluded members respond poorly: change the group's plan before a student's; "
        "null where too few are concluded."
    )

    class Config:
        unique = ["district_id", "school_year", "school_id", "cycle_id"]


class CycleOutcome(Projection):
    """What a cycle did for one student. One row per cycle of a school and student."""

    cycle_id: pl.String = field("Cycle.", nullable=False)
    subject_key: pl.String = field("Student.", nullable=False)
    school_id: pl.String = field("School.")
    measure: pl.String = field("Progress-monitoring measure.")
    joined_on: pl.Date = field("Day the student joined.")
    left_on: pl.Date = field("Day the student left; null while in the cycle or at its close.")
    leave_reason: pl.String = field("regrouped, moved, exited or other.")
    baseline: pl.Float64 = field("Starting score: recorded, else median of the first probes of week 1.")
    goal_score: pl.Float64 = field("Goal score.")
    planned_sessions: pl.Int64 = field("Sessions planned while the student was a member; null where not known.")
    held_sessions: pl.Int64 = field("Of these, held.")
    attended_sessions: pl.Int64 = field("Of these, attended; null where attendance was not recorded.")
    planned_minutes: pl.Float64 = field("Minutes planned while a member; null where not known.")
    attended_minutes: pl.Float64 = field("Minutes attended; null where any attended session lacks them.")
    assumed_sessions: pl.Int64 = field("Attended sessions whose minutes policy assumed.", nullable=False)
    delivery_share: pl.Float64 = field("Held of planned.")
    attendance_share: pl.Float64 = field("Attended of held.")
    dose_share: pl.Float64 = field("Minutes attended of minutes planned; null where either is not known.")
    fidelity_share: pl.Float64 = field("Mean fidelity of held sessions; null where never observed.")
    probes: pl.Int64 = field("Days with a probe in the cycle's measure.")
    weeks_with_evidence: pl.Int64 = field("Weeks of the cycle with at least one evidence note.")
    level_end: pl.Float64 = field("Median of the last three probe days.")
    aim_at_level_end: pl.Float64 = field("Aim line at the median time of those three.")
    is_goal_met_recorded: pl.Boolean = field("A GoalMet was recorded.")
    is_goal_met_measured: pl.Boolean = field(
        "The last two probe days reach the goal; null below two probes or no goal."
    )
    goal_slope: pl.Float64 = field("Slope from baseline to goal, per week.")
    slope: pl.Float64 = field("Slope of the probes per week: OLS, or Theil-Sen where policy says so.")
    p_slope_at_least_goal: pl.Float64 = field("Probability that the slope is at least the goal slope.")
    peer_slope: pl.Float64 = field(
        "Median slope of the student's grade in other closed cycles of the measure; null below 10 such cycles."
    )
    classmates: pl.Int64 = field("Classmates probed alike; null unless policy compares with the class.")
    class_level_gap: pl.Float64 = field(
        "Level less the classmates' mean, in their standard deviations; null below 10 of them."
    )
    class_slope_gap: pl.Float64 = field("The same of the slope.")
    response: pl.String = field("Response class.", isin=RESPONSES)
    reason: pl.String = field("Rule that decided the response class.")
    next_step: pl.String = field("What the response asks for (METHOD 2.4).", isin=NEXT_STEPS)

    class Config:
        unique = ["district_id", "school_year", "school_id", "cycle_id", "subject_key"]


class Progress(Projection):
    """Slope of the probes and its error. One row per cycle of a school, student and measure."""

    cycle_id: pl.String = field("Cycle.", nullable=False)
    subject_key: pl.String = field("Student.", nullable=False)
    school_id: pl.String = field("School.")
    measure: pl.String = field("Progress-monitoring measure.", nullable=False)
    form_family: pl.String = field("Family of forms of the series; null where policy names none.")
    probes: pl.Int64 = field("Days with a probe; several of one day count by their median.")
    first_on: pl.Date = field("First probe day.")
    last_on: pl.Date = field("Last probe day.")
    intercept: pl.Float64 = field("OLS score at the start of the cycle; null below 2 probe days.")
    slope: pl.Float64 = field("OLS slope per week; null below 2 probe days.")
    slope_standard_error: pl.Float64 = field("Standard error of the slope; null below 3 probe days.")
    slope_low: pl.Float64 = field("Lower end of the 95 % t interval.")
    slope_high: pl.Float64 = field("Upper end of the 95 % t interval.")
    theil_sen_slope: pl.Float64 = field("Median slope of all pairs of probe days, per week; null below 2.")
    theil_sen_intercept: pl.Float64 = field("Theil-Sen score at the start of the cycle.")
    theil_sen_low: pl.Float64 = field("Lower end of Sen's 95 % interval.")
    theil_sen_high: pl.Float64 = field("Upper end of Sen's 95 % interval.")
    is_outlier_sensitive: pl.Boolean = field(
        "The two slopes differ by more than one standard error; null below 3 probe days."
    )
    goal_slope: pl.Float64 = field("Slope from baseline to goal, per week.")
    p_slope_at_least_goal: pl.Float64 = field("Probability that the slope is at least the goal slope.")
    slope_status: pl.String = field("none, descriptive, provisional or decision, by number of probe days.")
    point_rule: pl.String = field(
        "What the last four points against the aim line say; reported, never decisive. Null without an aim line.",
        isin=POINT_RULES,
    )

    class Config:
        unique = ["district_id", "school_year", "school_id", "cycle_id", "subject_key", "measure"]


class ProbeDay(Projection):
    """Probes beside the aim line. One row per cycle of a school, student and day with a probe."""

    cycle_id: pl.String = field("Cycle.", nullable=False)
    subject_key: pl.String = field("Student.", nullable=False)
    school_id: pl.String = field("School.")
    measure: pl.String = field("Progress-monitoring measure.")
    probed_on: pl.Date = field("Day of the probe.", nullable=False)
    score: pl.Float64 = field("Score; the median of several on one day.", nullable=False)
    aim_score: pl.Float64 = field("Aim line on that day; null without a goal, a baseline or a planned end.")

    class Config:
        unique = ["district_id", "school_year", "school_id", "cycle_id", "subject_key", "probed_on"]


class RegroupingProposal(Projection):
    """Students in need who are in no open cycle, and whom they could be taught with. One row per student and window."""

    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    subject_key: pl.String = field("Student.", nullable=False)
    school_id: pl.String = field("School on the reference date.")
    grade: pl.String = field("Grade on the reference date.")
    tier: pl.Int8 = field("Tier that stands, 2 or 3.", isin=[2, 3], nullable=False)
    tier_decided_by: pl.String = field("team or recommendation: whose tier stands.", isin=DECIDERS)
    until_on: pl.Date = field(
        "Day by which cycles count: the day before the next reference date; null in the last window: all that is known."
    )
    last_cycle_id: pl.String = field("Cycle that ended last for the student by then, in the school year.")
    last_ended_on: pl.Date = field("Day it was closed or the student left it.")
    last_next_step: pl.String = field("What its response asked for.", isin=NEXT_STEPS)
    concept: pl.String = field("Concept to work on next; null where it cannot be told.")
    progression_place: pl.Int64 = field("Place of the concept on the district's progression; null where it names none.")
    step: pl.String = field("again: the last cycle's concept; next: the one after it, its goal met.", isin=GROUP_STEPS)
    group_number: pl.Int64 = field(
        "Proposed group within school, grade, concept and step, from 1; null where none can be proposed."
    )
    group_students: pl.Int64 = field("Students in it.")
    is_leftover: pl.Boolean = field("Alone: nobody else of the grade is at this concept and step.")
    reason: pl.String = field("Why no group can be proposed; null where one is.", isin=UNGROUPED)

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "subject_key"]


class ResponderRate(Projection):
    """Students who responded. One row per school year, tier of support, and intervention or concept."""

    kind: pl.String = field(
        "What the row counts: intervention or concept.", isin=["intervention", "concept"], nullable=False
    )
    name: pl.String = field("The intervention or concept; null where the cycle names none.")
    tier: pl.Int8 = field("Tier of the support.")
    progression_place: pl.Int64 = field("Place of the concept on the district's progression; null where it names none.")
    cycles: pl.Int64 = field("Cycles.", nullable=False)
    abandoned_cycles: pl.Int64 = field("Of these, abandoned.", nullable=False)
    students: pl.Int64 = field("Students in them, each once.", nullable=False)
    outcomes: pl.Int64 = field("Student outcomes, one per cycle and student.", nullable=False)
    abandoned_outcomes: pl.Int64 = field("Of these, in abandoned cycles: counted below as all others.", nullable=False)
    open_outcomes: pl.Int64 = field("Of these, excluded because the cycle is open.", nullable=False)
    overdue_outcomes: pl.Int64 = field("Of these, excluded because the cycle is overdue.", nullable=False)
    ended: pl.Int64 = field("Of these, in cycles that are closed or abandoned.", nullable=False)
    dose_unknown: pl.Int64 = field("Of the ended, excluded because the dose is not known.", nullable=False)
    insufficient_dose: pl.Int64 = field("Of the ended, excluded because too little was delivered.", nullable=False)
    insufficient_data: pl.Int64 = field("Of the ended, excluded because there are too few probes.", nullable=False)
    concluded: pl.Int64 = field("Of the ended, with a conclusion: the n of the rate.", nullable=False)
    adequate: pl.Int64 = field("Of these, adequate: the responders.", nullable=False)
    questionable: pl.Int64 = field("Of these, questionable.", nullable=False)
    poor: pl.Int64 = field("Of these, poor.", nullable=False)
    responder_share: pl.Float64 = field("Adequate of concluded; null where nothing is concluded.")
    interval_low: pl.Float64 = field("Lower end of its 95 % Jeffreys interval.")
    interval_high: pl.Float64 = field("Upper end of its 95 % Jeffreys interval.")
    shrunk_share: pl.Float64 = field(
        "The rate drawn to those beside it, the more the fewer are concluded; null where it stands alone."
    )
    shrunk_by: pl.String = field(
        "one_level: a prior fitted to them; pooled: their rate with the weight of 10 students."
    )
    ended_share: pl.Float64 = field(
        "Adequate of all ended outcomes, with a conclusion or without: the least it can be."
    )
    is_comparable: pl.Boolean = field("Enough is concluded to compare the rate with others.", nullable=False)
    withheld_reason: pl.String = field(
        "Why the rate is not shown, such as `fewer_than_10_concluded`; null where it is."
    )

    class Config:
        unique = ["district_id", "school_year", "kind", "name", "tier"]


class InterventionEffect(Projection):
    """What an intervention is associated with. One row per intervention, tier, measure and pair of windows."""

    intervention: pl.String = field("Intervention or programme; null where not named.")
    tier: pl.Int8 = field("Tier of the support.")
    measure: pl.String = field("Screening measure.", nullable=False)
    before_window: pl.String = field("Window of the test before.", isin=SEASONS, nullable=False)
    after_window: pl.String = field("Window of the test after.", isin=SEASONS, nullable=False)
    students: pl.Int64 = field("Students served between the two tests, each once.", nullable=False)
    mean_before: pl.Float64 = field("Their mean score before, in the unit of the measure.")
    mean_after: pl.Float64 = field("Their mean score after.")
    gain: pl.Float64 = field("Mean of their gains.")
    gain_label: pl.String = field("`descriptive`: a gain compares with nobody.", isin=["descriptive"], nullable=False)
    regression_students: pl.Int64 = field("Of them, in grades with 30 students tested twice.", nullable=False)
    expected_regression: pl.Float64 = field("Mean gain of these by regression to the mean alone; null where unknown.")
    gain_less_regression: pl.Float64 = field("Mean gain of these less that.")
    norm_students: pl.Int64 = field("Of these, with a growth norm in the policy.", nullable=False)
    norm_growth: pl.Float64 = field("Mean growth norm; null where the policy has none.")
    gain_less_regression_and_norm: pl.Float64 = field("Mean gain less regression to the mean and the norm.")
    method: pl.String = field(
        "regression_discontinuity, matched, matched_and_adjusted or none: how others were compared.",
        isin=["regression_discontinuity", "matched", "matched_and_adjusted", "none"],
        nullable=False,
    )
    effect: pl.Float64 = field("Difference to comparable students, in standard deviations; null without a comparison.")
    effect_standard_error: pl.Float64 = field("Its standard error.")
    effect_low: pl.Float64 = field("Lower end of its 95 % interval.")
    effect_high: pl.Float64 = field("Upper end of its 95 % interval.")
    follows_cut_share: pl.Float64 = field("Served of those below the cut, or unserved of those above: the smaller.")
    cut_students: pl.Int64 = field("Students near the cut.")
    cut_refusal: pl.String = field(
        "cut_unknown, cut_not_followed, too_few_at_the_cut or no_spread: why the cut makes no comparison."
    )
    pairs: pl.Int64 = field(
        "Matched pairs: same measure, grade and windows, nearly the same score before.", nullable=False
    )
    baseline_g: pl.Float64 = field("Difference of the pairs before, in standard deviations (Hedges g).")
    match_refusal: pl.String = field("too_few_pairs, no_spread or baseline_differs: why matching makes no comparison.")
    statement: pl.String = field("The effect in words.", nullable=False)

    class Config:
        unique = [
            *("district_id", "school_year", "intervention", "tier"),
            *("measure", "before_window", "after_window"),
        ]


class ClassDecision(Projection):
    """Is it the student, the classroom, the system, or too little data? One row per class, measure and window."""

    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    measure: pl.String = field("Screening measure.", nullable=False)
    school_id: pl.String = field("School.", nullable=False)
    class_id: pl.String = field("Math class.", nullable=False)
    class_label: pl.String = field("Name shown outside the vault, such as `Grade 4, class B`.")
    grade: pl.String = field("Grade of most members.")
    section_type: pl.String = field("regular, remedial or advanced.")
    enrolled: pl.Int64 = field("Members on the reference date less mobile and alternate-assessment students.")
    tested: pl.Int64 = field("Of these, with a valid test that the rule can judge.")
    mobile: pl.Int64 = field("Mobile members, listed for help and not counted.")
    coverage: pl.Float64 = field("Tested of enrolled; null where nobody is enrolled.")
    in_need: pl.Int64 = field("Tested students below the class-need cut.")
    recommended: pl.Int64 = field("Tested students whose need level is tier 2 or 3.")
    need_share: pl.Float64 = field("In need of tested; null where nobody is tested.")
    guidance_band: pl.String = field(
        "Colorado guidance by the raw share: <10, 10-20 or >20.", isin=["<10", "10-20", ">20"]
    )
    interval_low: pl.Float64 = field("Lower end of the 95 % Jeffreys interval of the need share.")
    interval_high: pl.Float64 = field("Upper end of the 95 % Jeffreys interval of the need share.")
    is_evaluable: pl.Boolean = field("Enough tested, and enough of the enrolled, for a rule about a class.")
    prior: pl.String = field(
        "What the class is taken to share with others: two_level, one_level, moments, full_bayes, pooled, fixed;"
        " jeffreys: nothing, for a section that is not regular. Null with all that follows where not evaluable.",
        isin=PRIORS,
    )
    prior_from: pl.String = field(
        "Whose classes set the prior: district_grade, district (all grades), home (all districts), policy or none."
    )
    prior_mean: pl.Float64 = field("Mean of the prior.")
    prior_strength: pl.Float64 = field("How alike classes are, in students; with two levels, within a school-grade.")
    school_strength: pl.Float64 = field("How alike school-grades are, in students; two levels only.")
    at_bound: pl.Boolean = field("A strength stands at its greatest, 200: there nothing can be told apart.")
    overdispersion_z: pl.Float64 = field(
        "Tarone's z: how much more the district's classes of a grade differ than chance."
    )
    reliability: pl.Float64 = field("Weight of the class's own share in its estimate: tested / (tested + strength).")
    posterior_mean: pl.Float64 = field("Estimated need rate of the class.")
    p_above: pl.Float64 = field("Probability that the underlying need rate is above tau.")
    p_tail: pl.Float64 = field("Probability of at least as many in need if the rate were tau, without any prior.")
    p_above_if_all_tested: pl.Float64 = field(
        "Probability that all enrolled together are above tau if the untested are missing at random."
    )
    expected_in_need: pl.Float64 = field(
        "Students in need expected from the tests' own errors; null where no test has one."
    )
    p_above_with_error: pl.Float64 = field(
        "Probability, from the tests' own errors alone, that the tested share is above tau; no part of the decision."
    )
    is_flagged: pl.Boolean = field("Believed under the bound on false flags, probable enough and above tau itself.")
    is_participation_low: pl.Boolean = field("Fewer tested than accountability expects, by default 95 %.")
    class_median_below: pl.Boolean = field("The median student is below the class-need cut; null for vendor labels.")
    severity: pl.String = field(
        "By the raw share of an evaluable regular class: none, watch from tau_low on, suspect above tau,"
        " classwide_severe above half or with its median below the cut.",
        isin=SEVERITIES,
    )
    pooled_level: pl.String = field(
        "For a class too small: NONE, STUDENT or WATCH by its school-grade, else its school; null under 10 there too.",
        isin=LEVELS,
    )
    bound_low: pl.Float64 = field("Need share if no untested student were in need.")
    bound_high: pl.Float64 = field("Need share if every untested student were in need.")
    bound_verdict: pl.String = field("above, not_above or ambiguous, whatever the untested are.")
    tau: pl.Float64 = field("Need rate above which whole-class instruction is looked at.")
    is_norm_adjusted: pl.Boolean = field("Tau is the share of an average class below the cut (`norm_adjust`).")
    need_cut: pl.String = field("Class-need cut, such as `PR<20`.")
    recommended_cut: pl.String = field("Cut below which tier 2 is recommended, such as `PR<=20`.")
    p_grade_above: pl.Float64 = field("Probability that the need rate of the school's grade is above tau.")
    grade_tested: pl.Int64 = field("Tested in the pooled grade of the school.")
    grade_in_need: pl.Int64 = field("In need in the pooled grade of the school.")
    grade_coverage: pl.Float64 = field("Coverage of the school's grade over all its classes.")
    p_above_peers: pl.Float64 = field(
        "Probability that this class is above its school-grade; with one level, above its rest, else the district's."
    )
    p_excess: pl.Float64 = field("Probability that it is more than 10 points above its school-grade; two levels only.")
    p_district_above: pl.Float64 = field("Probability that the district's rate in the grade is above tau.")
    is_district_wide: pl.Boolean = field(
        "So is the district, and more than half of its schools: first check the cut and the curriculum."
    )
    level: pl.String = field("Level of the answer.", isin=LEVELS, nullable=False)
    reason: pl.String = field("Code of the rule that decided.", nullable=False)
    topic_breadth: pl.String = field(
        "Strands with a need rate above tau at the probability of a flag: none, one, several, most (more than half);"
        " unknown where no strand can be judged.",
        isin=TOPIC_BREADTHS,
    )
    topics: pl.String = field("Names of these strands, separated by `; `; null where there is none.")
    is_entering_need: pl.Boolean = field(
        "Found in fall: it describes who arrived, not this year's instruction. Null where the class cannot be judged."
    )
    is_persistent: pl.Boolean = field("Flagged in this window and the one before; null where one of them cannot say.")
    is_grade_persistent: pl.Boolean = field(
        "The school's grade is a system matter in two of three years, same window; null where not known."
    )
    is_concordant: pl.Boolean = field("Another measure flags the class as well; null where no other can say.")
    attention: pl.String = field(
        "act: recommended action, for a class flagged persistently or severe; look: a single flag; none.",
        isin=ATTENTIONS,
    )

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "measure", "class_id"]


class ClassGrowth(Projection):
    """Need now against need expected from fall levels. One row per class, measure and window after fall."""

    benchmark_window: pl.String = field("winter or spring.", isin=SEASONS, nullable=False)
    measure: pl.String = field("Screening measure.", nullable=False)
    school_id: pl.String = field("School.")
    class_id: pl.String = field("Math class in this window.", nullable=False)
    tested: pl.Int64 = field("Counted members with a test that the rule can judge.", nullable=False)
    with_fall: pl.Int64 = field("Of these, with a need level of the same measure in fall.", nullable=False)
    matched: pl.Int64 = field("Of these, at a fall level that enough students of other classes share.", nullable=False)
    observed: pl.Int64 = field("Of the matched, in need now; null with too few matched.")
    expected: pl.Float64 = field("As many as their fall levels led to in other classes of the district and grade.")
    ratio: pl.Float64 = field("Observed of expected.")
    p_at_least: pl.Float64 = field("Exact probability of at least so many, if the class went as the others did.")
    growth_excess: pl.String = field(
        "more, as_expected or fewer: P at most .05, or at least .95, among few false findings of the district.",
        isin=GROWTHS,
    )
    reason: pl.String = field(
        "Why nothing can be said: few_with_fall, or few_with_rate where their fall levels are too rare."
    )

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "measure", "class_id"]


class ClassTopic(Projection):
    """Students in need in each strand of a test. One row per class, measure, window and strand."""

    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    measure: pl.String = field("Screening measure.", nullable=False)
    school_id: pl.String = field("School.", nullable=False)
    class_id: pl.String = field("Math class.", nullable=False)
    grade: pl.String = field("Grade of most members.")
    strand: pl.String = field("Strand (goal, domain), as the vendor names it.", nullable=False)
    tested: pl.Int64 = field("Counted members whose need in the strand is known.", nullable=False)
    in_need: pl.Int64 = field("Of these, at the vendor's lowest band or below the strand's cut.", nullable=False)
    need_share: pl.Float64 = field("In need of tested.")
    interval_low: pl.Float64 = field("Lower end of the 95 % Jeffreys interval of the need share.")
    interval_high: pl.Float64 = field("Upper end of the 95 % Jeffreys interval of the need share.")
    p_above: pl.Float64 = field("Probability that the rate is above tau (Jeffreys); null where it cannot be judged.")
    is_topic: pl.Boolean = field("That probability reaches that of a flag.")

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "measure", "class_id", "strand"]


class SchoolSignal(Projection):
    """System signals of a school, each with its n; null where nothing was supplied. One row per school and window."""

    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    school_id: pl.String = field("School.", nullable=False)
    enrolled: pl.Int64 = field("Students enrolled on the reference date less alternate-assessment students.")
    tested: pl.Int64 = field("Of these, with a valid test of the primary measure.")
    coverage: pl.Float64 = field("Tested of enrolled.")
    no_math_section: pl.Int64 = field("Students without a math class.")
    in_two_classes: pl.Int64 = field("Students in two math classes.")
    recommended: pl.Int64 = field("Students recommended tier 2 or 3.")
    served: pl.Int64 = field("Of these, in an open cycle during the window; null where no cycles are supplied.")
    unserved_need_share: pl.Float64 = field("Recommended students without a cycle.")
    planned_sessions: pl.Int64 = field("Sessions planned in cycles open in the window.")
    held_sessions: pl.Int64 = field("Of these, held.")
    delivery_share: pl.Float64 = field("Held of planned.")
    cycles: pl.Int64 = field("Cycles open in the window; null where no cycles are supplied.")
    overdue_cycle_share: pl.Float64 = field("Of these, overdue.")
    conclusive_cycle_share: pl.Float64 = field("Of their student outcomes, those with a conclusion.")
    families_contacted: pl.Int64 = field("Recommended students with a family contact; null where none are supplied.")
    family_contact_share: pl.Float64 = field("Of recommended students.")
    referrals: pl.Int64 = field("Teacher referrals; null where none are supplied.")
    referral_agreement: pl.Float64 = field("Of those the screener tested, placed below the cut by it.")
    failed_checks: pl.Int64 = field("Quality rules that failed for the school.")
    is_system_data: pl.Boolean = field("Data of the school are too thin or failed a blocking rule.")

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "school_id"]


class QualityResult(Projection):
    """Outcome of every quality rule. One row per district, school year, school, subject and rule."""

    stage: pl.String = field("exports, events, projections or marts.", nullable=False)
    tool: pl.String = field("pandera, great_expectations, reconciliation or rule.", nullable=False)
    about: pl.String = field("Table, layout or measure the rule is about.", nullable=False)
    school_id: pl.String = field("School, where the rule is about one.")
    rule: pl.String = field("Name of the rule.", nullable=False)
    is_blocking: pl.Boolean = field("Whether a failure holds the file or district-year.", nullable=False)
    is_passed: pl.Boolean = field("Whether the rule holds.", nullable=False)
    rows: pl.Int64 = field("Rows that break it.", nullable=False)
    observed: pl.Float64 = field("Rate or count the rule looked at, where it has one.")


PROJECTIONS: tuple[type[Projection], ...] = (
    PolicySetting,
    WindowRule,
    ScreeningResult,
    ClassMembership,
    CutScore,
    NeedLevel,
    Cycle,
    CycleOutcome,
    Progress,
    ProbeDay,
    ResponderRate,
    InterventionEffect,
    TierPlacement,
    RegroupingProposal,
    Referral,
    School,
    ClassContext,
    TierStability,
    ScreeningAccuracy,
    ClassDecision,
    ClassGrowth,
    ClassTopic,
    SchoolSignal,
    QualityResult,
)
"""Every projection, in the order in which they are computed."""


class IngestLedger(Contract):
    """What became of every file. One row per batch and attempt, written last; a batch without one does not exist."""

    batch_id: pl.String = field("Hash of the file's bytes, district, layout and alias version.", nullable=False)
    attempt: pl.Int64 = field(
        "1 for the first reading; parked rows are read again as the next attempt.", nullable=False
    )
    district_id: pl.String = field("District.", nullable=False)
    file: pl.String = field("Path below the landing folder, with `!member` for archives.", nullable=False)
    file_bytes: pl.Int64 = field("Size of the file.")
    layout: pl.String = field("Layout that read it; null where none was recognised.")
    status: pl.String = field("loaded or held.", isin=["loaded", "held"], nullable=False)
    held_rule: pl.String = field("Rule that held the file.")
    held_against: pl.String = field("Hash of the layouts, aliases, roster and policy it was held under.")
    message: pl.String = field("What was wrong or noteworthy, where, and what to do.")
    export_at: UTC = field("When the source exported it.")
    received_on: pl.Date = field("Day it was received, where a backfill declares one.")
    recorded_at: UTC = field("When this row was written: strictly increasing within a home.", nullable=False)
    school_years: pl.String = field("School years it touched, separated by `;`.")
    data_rows: pl.Int64 = field("Data rows of the file.", nullable=False)
    parsed: pl.Int64 = field("Rows read as facts.")
    rejected: pl.Int64 = field("Rows that could not be read.")
    out_of_scope: pl.Int64 = field("Rows of other subjects or tests.")
    parked: pl.Int64 = field("Rows waiting for a roster match.")
    erased: pl.Int64 = field("Rows of erased students.")
    duplicate_in_file: pl.Int64 = field("Rows that repeat another row of the file.")
    slots: pl.Int64 = field("Fact slots of a row.")
    facts_appended: pl.Int64 = field("Facts not known before.")
    facts_corrected: pl.Int64 = field("Facts known with other content.")
    facts_unchanged: pl.Int64 = field("Facts known with the same content.")
    facts_empty: pl.Int64 = field("Slots without a fact.")
    facts_rejected: pl.Int64 = field("Slots that could not be read.")
    tests_vanished: pl.Int64 = field(
        "Tests that stood in the scopes of a declared full extract and are not in it; null where it is none."
    )
    tests_withdrawn: pl.Int64 = field("Tests that stood before the full extract was loaded and do not after.")
    match_column: pl.String = field("Header of the id column that matched the roster best.")
    match_id_type: pl.String = field("Known id type it matched.")
    match_rate: pl.Float64 = field("Share of the file's students found in the roster by it.")
    renamed_columns: pl.String = field("Known renames, as `today's name = name in the file`, separated by `;`.")
    new_columns: pl.String = field("Headers no layout knows, separated by `;`.")
    home_fingerprint: pl.String = field("Fingerprint of the secret that keyed the hashes.", nullable=False)
    redacted_hash: pl.String = field(
        "SHA-256 of the archived file since the lines of erased students are not in it; null where it is as it landed."
    )

    class Config:
        unique = ["batch_id", "attempt"]


class RejectedRow(Contract):
    """Rows and slots that could not be read. One row per broken column of a row."""

    batch_id: pl.String = field("The file.", nullable=False)
    attempt: pl.Int64 = field("Attempt.", nullable=False)
    district_id: pl.String = field("District.", nullable=False)
    source_line: pl.Int64 = field("Physical line where the record starts.")
    slot: pl.Int32 = field("Fact slot; null where the whole row is rejected.")
    column: pl.String = field("Header of the column; null where the line itself is broken.")
    rule: pl.String = field("Rule that it breaks.", nullable=False)
