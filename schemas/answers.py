"""Twenty questions analysts ask: what each view and table macro of the warehouse answers, and how to ask it.

A rate stands beside its n and a 95 % interval. Sessions, minutes and rows of a file are counted completely and sampled
from nothing: they have an n and no interval.
"""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from schemas.contract import Contract, field, summary, table_name
from schemas.events import UTC
from schemas.marts import Mart, MeasureSummary, ResponderSummary
from schemas.projections import LEVELS, NEED_LEVELS, SEASONS

DAY = {"day": "The day asked about, a date or text such as '2026-02-01'."}
SHARE_LOW, SHARE_HIGH = "Lower end of its 95 % Wilson interval.", "Upper end of its 95 % Wilson interval."


class WindowOn(Mart):
    """Which benchmark window is in force in each district on a day? One row per district.

    It is the window whose reference date is the latest on or before the day.
    """

    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    reference_on: pl.Date = field("Its reference date.", nullable=False)

    class Config:
        unique = ["district_id"]


class FlaggedClass(Mart):
    """Which classes are flagged as of a day? One row per flagged class and measure."""

    benchmark_window: pl.String = field("Window in force on the day.", isin=SEASONS, nullable=False)
    reference_on: pl.Date = field("Its reference date.", nullable=False)
    measure: pl.String = field("Screening measure.", nullable=False)
    school_id: pl.String = field("School.", nullable=False)
    grade: pl.String = field("Grade of most members.")
    class_id: pl.String = field("Math class.", nullable=False)
    class_label: pl.String = field("Name shown outside the vault.")
    level: pl.String = field("Level of the answer: of the class, of its grade (SYSTEM) or both.", isin=LEVELS)
    attention: pl.String = field("act: recommended action; look: a single flag; none.")
    severity: pl.String = field("How much of the class is in need, by its raw share and its median.")
    enrolled: pl.Int64 = field("Members on the reference date.")
    tested: pl.Int64 = field("Of these, with a valid test: the n of the share.")
    coverage: pl.Float64 = field("Tested of enrolled.")
    in_need: pl.Int64 = field("Tested students below the class-need cut.")
    need_share: pl.Float64 = field("In need of tested.")
    interval_low: pl.Float64 = field("Lower end of the 95 % Jeffreys interval of the need share.")
    interval_high: pl.Float64 = field("Upper end of the 95 % Jeffreys interval of the need share.")
    p_above: pl.Float64 = field("Probability that the underlying need rate is above tau.")
    tau: pl.Float64 = field("Need rate above which whole-class instruction is looked at, by policy.")
    reason: pl.String = field("Why, in a sentence or two with the numbers.")

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "measure", "class_id"]


class TierCount(Mart):
    """How many students are in each tier as of a day? One row per school and grade."""

    benchmark_window: pl.String = field("Window in force on the day.", isin=SEASONS, nullable=False)
    reference_on: pl.Date = field("Its reference date.", nullable=False)
    school_id: pl.String = field("School; null where no export or roster names one.")
    grade: pl.String = field("Grade on the reference date.")
    students: pl.Int64 = field("Students with a row of placement.", nullable=False)
    placed: pl.Int64 = field("Of these, with a recommended tier: the n of the share.", nullable=False)
    untested: pl.Int64 = field("Students without a valid test of the measure that decides.", nullable=False)
    stale: pl.Int64 = field("Of placed, with a tier carried forward from the last window.", nullable=False)
    tier_1: pl.Int64 = field("Students recommended the core.", nullable=False)
    tier_2: pl.Int64 = field("Students recommended small groups.", nullable=False)
    tier_3: pl.Int64 = field("Students recommended intensive support.", nullable=False)
    recommended_share: pl.Float64 = field("Tier 2 and 3 of placed; null where nobody is placed.")
    recommended_low: pl.Float64 = field(SHARE_LOW)
    recommended_high: pl.Float64 = field(SHARE_HIGH)

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "school_id", "grade"]


class StudentWithoutCycle(Mart):
    """Which students recommended tier 2 or 3 were in no cycle? One row per student and window.

    A cycle counts where it was open, and the student in it, at any time from the reference date of the window to the
    day before the next one's. Districts that supply no cycles are not listed: nothing is known of them.
    """

    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    school_id: pl.String = field("School on the reference date.", nullable=False)
    grade: pl.String = field("Grade on the reference date.")
    class_id: pl.String = field("Math class on the reference date.")
    subject_key: pl.String = field("Student.", nullable=False)
    tier: pl.Int8 = field("Tier recommended.", isin=[2, 3], nullable=False)
    assigned_tier: pl.Int8 = field("Tier a team decided; null where none did.", isin=[1, 2, 3])
    measure: pl.String = field("Measure that decided; null where carried forward.")
    is_stale: pl.Boolean = field("The tier is carried forward without a new test.", nullable=False)

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "subject_key"]


class UnservedNeed(Mart):
    """Where is need not served by any cycle? One row per school, grade and window."""

    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    school_id: pl.String = field("School on the reference date.", nullable=False)
    grade: pl.String = field("Grade on the reference date.")
    recommended: pl.Int64 = field("Students recommended tier 2 or 3: the n of the share.", nullable=False)
    served: pl.Int64 = field("Of these, in an open cycle during the window; null where no cycles are supplied.")
    unserved: pl.Int64 = field("Of these, in none; null where no cycles are supplied.")
    unserved_share: pl.Float64 = field("Unserved of recommended; null where no cycles are supplied.")
    unserved_low: pl.Float64 = field(SHARE_LOW)
    unserved_high: pl.Float64 = field(SHARE_HIGH)

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "school_id", "grade"]


class ResponseRate(ResponderSummary):
    """What share of students responded, by intervention and by concept? One row per intervention or concept, and tier.

    Not to be read as an order of merit: students of one differ from those of another before either begins.
    """

    class Config:
        unique = ["district_id", "school_year", "kind", "name", "tier"]


class TierChange(Mart):
    """How did students move between tiers from one window to the next? One row per pair of windows and of tiers.

    Of students with a row in both windows of a year. `marts.tier_movement` has the same by school and grade.
    """

    from_window: pl.String = field("Earlier window.", isin=SEASONS, nullable=False)
    to_window: pl.String = field("The district's next window of the year.", isin=SEASONS, nullable=False)
    from_tier: pl.Int8 = field("Tier recommended in the earlier window; null where unknown.", isin=[1, 2, 3])
    to_tier: pl.Int8 = field("Tier recommended in the later window; null where unknown.", isin=[1, 2, 3])
    students: pl.Int64 = field("Students who went from the one to the other.", nullable=False)
    from_students: pl.Int64 = field("Students of the earlier tier: the n of the share.", nullable=False)
    share: pl.Float64 = field("Students of those of the earlier tier.", nullable=False)
    share_low: pl.Float64 = field(SHARE_LOW, nullable=False)
    share_high: pl.Float64 = field(SHARE_HIGH, nullable=False)

    class Config:
        unique = ["district_id", "school_year", "from_window", "from_tier", "to_tier"]


class Coverage(Mart):
    """What share of each school's students was tested? One row per school and window."""

    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    school_id: pl.String = field("School.", nullable=False)
    enrolled: pl.Int64 = field("Students enrolled on the reference date: the n; null without a roster.")
    tested: pl.Int64 = field("Of these, with a valid test of the primary measure.")
    coverage: pl.Float64 = field("Tested of enrolled.")
    coverage_low: pl.Float64 = field(SHARE_LOW)
    coverage_high: pl.Float64 = field(SHARE_HIGH)
    is_system_data: pl.Boolean = field("Data of the school are too thin, by policy, or failed a blocking rule.")

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "school_id"]


class OverdueCycle(Mart):
    """Which cycles are past their planned end without a decision? One row per cycle."""

    school_id: pl.String = field("School.")
    cycle_id: pl.String = field("Cycle as the source names it.", nullable=False)
    group_id: pl.String = field("Group.")
    tier: pl.Int8 = field("Tier of the support.")
    intervention: pl.String = field("Intervention or programme.")
    concept: pl.String = field("Concept on a learning progression.")
    opened_on: pl.Date = field("First day.")
    planned_end_on: pl.Date = field("Last planned day, which has passed.")
    members: pl.Int64 = field("Students who were ever in the cycle.")
    planned_sessions: pl.Int64 = field("Sessions planned.")
    held_sessions: pl.Int64 = field("Sessions held.")

    class Config:
        unique = ["district_id", "school_year", "school_id", "cycle_id"]


class Delivery(Mart):
    """How much of what was planned was delivered? One row per school and intervention."""

    school_id: pl.String = field("School.")
    intervention: pl.String = field("Intervention or programme; null where not named.")
    cycles: pl.Int64 = field("Cycles.", nullable=False)
    planned_sessions: pl.Int64 = field("Sessions planned, over cycles that say so: the n of the delivery.")
    held_sessions: pl.Int64 = field("Sessions held in those cycles.")
    delivery_share: pl.Float64 = field("Held of planned.")
    outcomes: pl.Int64 = field("Student outcomes, one per cycle and student.", nullable=False)
    dose_known: pl.Int64 = field("Of these, with a known dose: the n of the next.", nullable=False)
    dose_share: pl.Float64 = field("Mean of minutes attended of minutes planned; null where none is known.")
    insufficient_dose: pl.Int64 = field("Outcomes without a conclusion because too little was delivered.")

    class Config:
        unique = ["district_id", "school_year", "school_id", "intervention"]


class MeasureDisagreement(Mart):
    """Of which students do two measures disagree? One row per student, window and pair of measures.

    They disagree where one says tier 2 or 3 and the other does not.
    """

    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    subject_key: pl.String = field("Student.", nullable=False)
    school_id: pl.String = field("School on the reference date.")
    grade: pl.String = field("Grade on the reference date.")
    measure: pl.String = field("One measure, the first by name.", nullable=False)
    need_level: pl.String = field("What it says.", isin=NEED_LEVELS, nullable=False)
    p_tier_2: pl.Float64 = field("Probability of being below its tier 2 cut, from the test's error.")
    other_measure: pl.String = field("The other measure.", nullable=False)
    other_need_level: pl.String = field("What that says.", isin=NEED_LEVELS, nullable=False)
    other_p_tier_2: pl.Float64 = field("Probability of being below its tier 2 cut, from the test's error.")
    tier: pl.Int8 = field("Tier recommended in the end.", isin=[1, 2, 3])

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "subject_key", "measure", "other_measure"]


class FileOutcome(Contract):
    """What became of each file, how late was it, and how many of its students did the roster know? One row per file."""

    district_id: pl.String = field("District.", nullable=False)
    file: pl.String = field("Path below the landing folder.", nullable=False)
    layout: pl.String = field("Layout that read it; null where none was recognised.")
    batch_id: pl.String = field("Hash of the file.", nullable=False)
    status: pl.String = field("loaded, or held for a person to look at.", nullable=False)
    held_rule: pl.String = field("Rule that held it.")
    export_at: UTC = field("When the source exported it.")
    recorded_at: UTC = field("When it was last read.", nullable=False)
    days_to_load: pl.Int64 = field("Days from the export to the reading that loaded it; null where held.")
    attempts: pl.Int64 = field("Times it was read; parked rows are read again.", nullable=False)
    data_rows: pl.Int64 = field("Data rows: the n of the rejected share.", nullable=False)
    parsed: pl.Int64 = field("Rows read as facts.")
    rejected: pl.Int64 = field("Rows that could not be read.")
    out_of_scope: pl.Int64 = field("Rows of other subjects or tests.")
    parked: pl.Int64 = field("Rows still waiting for a roster match.")
    erased: pl.Int64 = field("Rows of erased students.")
    duplicate_in_file: pl.Int64 = field("Rows that repeat another row of the file.")
    rejected_share: pl.Float64 = field("Rejected of data rows.")
    match_rate: pl.Float64 = field("Share of the file's students found in the roster; null where it names none.")

    class Config:
        unique = ["batch_id"]


class Rejection(Contract):
    """Which rows of a file could not be read, and by which rule? One row per file, column and rule."""

    district_id: pl.String = field("District.", nullable=False)
    file: pl.String = field("Path below the landing folder.")
    layout: pl.String = field("Layout that read it.")
    batch_id: pl.String = field("Hash of the file.", nullable=False)
    column: pl.String = field("Header of the column; null where the line itself is broken.")
    rule: pl.String = field("Rule that it breaks.", nullable=False)
    rows: pl.Int64 = field("Rows of the file that break it.", nullable=False)
    first_line: pl.Int64 = field("Physical line of the first of them.")

    class Config:
        unique = ["batch_id", "column", "rule"]


class EnteringNeed(Mart):
    """In which flagged classes did the need come with the students? One row per class, measure and window after fall.

    Flagged, and no more students in need than those of the same fall levels in other classes of the district and grade.
    """

    benchmark_window: pl.String = field("winter or spring.", isin=SEASONS, nullable=False)
    measure: pl.String = field("Screening measure.", nullable=False)
    school_id: pl.String = field("School.", nullable=False)
    grade: pl.String = field("Grade of most members.")
    class_id: pl.String = field("Math class.", nullable=False)
    class_label: pl.String = field("Name shown outside the vault.")
    tested: pl.Int64 = field("Tested members: the n of the share.")
    need_share: pl.Float64 = field("In need of tested.")
    interval_low: pl.Float64 = field("Lower end of the 95 % Jeffreys interval of the need share.")
    interval_high: pl.Float64 = field("Upper end of the 95 % Jeffreys interval of the need share.")
    matched: pl.Int64 = field("Tested students whose fall level enough students of other classes share.")
    observed: pl.Int64 = field("Of the matched, in need now.")
    expected: pl.Float64 = field("As many as their fall levels led to in other classes.")
    p_at_least: pl.Float64 = field("Exact probability of at least so many, if the class went as the others did.")
    growth_excess: pl.String = field("as_expected or fewer.", isin=["as_expected", "fewer"], nullable=False)

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "measure", "class_id"]


class PersistentFlag(Mart):
    """Which classes are flagged in two windows in a row? One row per class, measure and later window."""

    benchmark_window: pl.String = field("The later window.", isin=SEASONS, nullable=False)
    measure: pl.String = field("Screening measure.", nullable=False)
    school_id: pl.String = field("School.", nullable=False)
    grade: pl.String = field("Grade of most members.")
    class_id: pl.String = field("Math class.", nullable=False)
    class_label: pl.String = field("Name shown outside the vault.")
    level: pl.String = field("Level of the answer in the later window.", isin=LEVELS, nullable=False)
    attention: pl.String = field("act: recommended action; look; none.")
    tested: pl.Int64 = field("Tested members: the n of the share.")
    need_share: pl.Float64 = field("In need of tested.")
    interval_low: pl.Float64 = field("Lower end of the 95 % Jeffreys interval of the need share.")
    interval_high: pl.Float64 = field("Upper end of the 95 % Jeffreys interval of the need share.")
    p_above: pl.Float64 = field("Probability that the underlying need rate is above tau.")
    is_concordant: pl.Boolean = field("Another measure flags the class as well; null where no other can say.")

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "measure", "class_id"]


class ClassChange(Mart):
    """How many students changed class within the year? One row per school and pair of windows."""

    from_window: pl.String = field("Earlier window.", isin=SEASONS, nullable=False)
    to_window: pl.String = field("The district's next window of the year.", isin=SEASONS, nullable=False)
    school_id: pl.String = field("School of the earlier window.", nullable=False)
    students: pl.Int64 = field("Students with a math class there in the earlier window: the n.", nullable=False)
    same_class: pl.Int64 = field("Of these, in the same class in the later one.", nullable=False)
    other_class: pl.Int64 = field("In another class of the school.", nullable=False)
    other_school: pl.Int64 = field("In another school of the district.", nullable=False)
    no_class: pl.Int64 = field("Still in the school, without a math class.", nullable=False)
    left_roster: pl.Int64 = field("Not on the district's roster any more.", nullable=False)
    moved_share: pl.Float64 = field("Students of all but the first, of students.", nullable=False)
    moved_low: pl.Float64 = field(SHARE_LOW, nullable=False)
    moved_high: pl.Float64 = field(SHARE_HIGH, nullable=False)

    class Config:
        unique = ["district_id", "school_year", "from_window", "school_id"]


class SystemGrade(Mart):
    """In which grades of which schools is it the system before any one class? One row per grade, measure and window."""

    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    measure: pl.String = field("Screening measure.", nullable=False)
    school_id: pl.String = field("School.", nullable=False)
    grade: pl.String = field("Grade of most members of its classes.")
    classes: pl.Int64 = field("Classes of the grade whose answer is SYSTEM or SYSTEM+CLASSROOM.", nullable=False)
    grade_tested: pl.Int64 = field("Tested in the grade: the n of the share.")
    grade_in_need: pl.Int64 = field("Of these, in need.")
    grade_need_share: pl.Float64 = field("In need of tested.")
    grade_need_low: pl.Float64 = field(SHARE_LOW)
    grade_need_high: pl.Float64 = field(SHARE_HIGH)
    p_grade_above: pl.Float64 = field("Probability that the grade's need rate is above tau.")
    grade_coverage: pl.Float64 = field("Tested of enrolled in the grade.")
    is_district_wide: pl.Boolean = field(
        "So is the district, and most of its schools: first check the cut and the curriculum."
    )
    is_grade_persistent: pl.Boolean = field("So it was in two of three years; null where not known.")

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "measure", "school_id", "grade"]


class CarriedForward(Mart):
    """Which students have a tier without a new test? One row per student and window."""

    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    school_id: pl.String = field("School on the reference date.")
    grade: pl.String = field("Grade on the reference date.")
    class_id: pl.String = field("Math class on the reference date.")
    subject_key: pl.String = field("Student.", nullable=False)
    tier: pl.Int8 = field("Tier carried forward.", isin=[1, 2, 3])
    status: pl.String = field("Why there is no valid test.")
    windows_without_test: pl.Int64 = field("Windows since the last one that could say, this one included.")

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "subject_key"]


class ProbeCount(Mart):
    """How many progress-monitoring probes does each cycle have? One row per cycle."""

    school_id: pl.String = field("School.")
    cycle_id: pl.String = field("Cycle as the source names it.", nullable=False)
    state: pl.String = field("open, overdue, closed or abandoned.")
    measure: pl.String = field("Progress-monitoring measure of the cycle.")
    students: pl.Int64 = field("Students with an outcome row.", nullable=False)
    without_probe: pl.Int64 = field("Of these, without any probe in the measure.", nullable=False)
    fewest_probes: pl.Int64 = field("Probe days of the student with the fewest.")
    median_probes: pl.Float64 = field("Median probe days of its students.")
    most_probes: pl.Int64 = field("Probe days of the student with the most.")
    decision_slopes: pl.Int64 = field("Students with probes enough, by policy, to decide by the slope.", nullable=False)
    decision_share: pl.Float64 = field("These of its students, who are the n.")
    decision_low: pl.Float64 = field(SHARE_LOW)
    decision_high: pl.Float64 = field(SHARE_HIGH)

    class Config:
        unique = ["district_id", "school_year", "school_id", "cycle_id"]


class MeasurePrecision(MeasureSummary):
    """How many tests of each measure are there, and how exact are they? One row per measure and window."""

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "measure"]


class NoMathSection(Mart):
    """Which students have no math class on the roster? One row per student and window."""

    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    school_id: pl.String = field("School of any enrolment.")
    grade: pl.String = field("Grade on the reference date.")
    subject_key: pl.String = field("Student.", nullable=False)
    is_tested: pl.Boolean = field("A valid test placed the student nevertheless.", nullable=False)
    tier: pl.Int8 = field("Tier recommended.", isin=[1, 2, 3])

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "subject_key"]


class Question(Contract):
    """The questions the warehouse answers: begin here. One row per question."""

    number: pl.Int64 = field("Number of the question in docs/questions.md.", nullable=False)
    question: pl.String = field("The question.", nullable=False)
    answer: pl.String = field("View or table macro that answers it.", nullable=False)
    sql: pl.String = field("How to ask it; put your own district, window and day.", nullable=False)

    class Config:
        unique = ["number"]


class Answer(NamedTuple):
    """One question: the contract of its answer, how to ask it, and the parameters of a table macro."""

    contract: type[Contract]
    sql: str
    parameters: Mapping[str, str] = {}

    @property
    def name(self) -> str:
        """View or table macro, with its schema."""
        return f"answers.{table_name(self.contract)}"

    @property
    def question(self) -> str:
        """The first sentence of the contract."""
        return summary(self.contract).partition("? ")[0] + "?"

    @property
    def asked(self) -> list[str]:
        """Columns that the SQL asks for, in order."""
        listed = self.sql.removeprefix("select ").partition("\nfrom ")[0]
        return [name.strip().strip('"') for name in listed.split(",")]


HELPERS = (
    Answer(
        WindowOn,
        """\
select district_id, school_year, benchmark_window, reference_on
from answers.window_on('2026-02-01')
order by all""",
        DAY,
    ),
)
"""Table macros that answers are made with, of use by themselves."""
SCALARS = {
    "wilson_low": (("successes", "n"), "Lower end of the 95 % Wilson interval of successes of n; null where n is 0."),
    "wilson_high": (("successes", "n"), "Upper end of the 95 % Wilson interval of successes of n; null where n is 0."),
}
"""Macros for shares of one's own: parameters and meaning."""

ANSWERS: tuple[Answer, ...] = (
    Answer(
        FlaggedClass,
        """\
select benchmark_window, reference_on, measure, school_id, class_id, class_label, level, attention,
    enrolled, tested, in_need, need_share, interval_low, interval_high, p_above, reason
from answers.flagged_class('2026-02-01')
where district_id = 'd001'
order by school_id, class_id, measure""",
        DAY,
    ),
    Answer(
        TierCount,
        """\
select school_id, grade, students, placed, untested, tier_1, tier_2, tier_3,
    recommended_share, recommended_low, recommended_high
from answers.tier_count('2026-02-01')
where district_id = 'd001'
order by all""",
        DAY,
    ),
    Answer(
        StudentWithoutCycle,
        """\
select school_id, grade, class_id, subject_key, tier, assigned_tier, is_stale
from answers.student_without_cycle
where district_id = 'd001' and school_year = '2026' and benchmark_window = 'winter'
order by all""",
    ),
    Answer(
        UnservedNeed,
        """\
select school_id, grade, recommended, served, unserved, unserved_share, unserved_low, unserved_high
from answers.unserved_need
where district_id = 'd001' and school_year = '2026' and benchmark_window = 'winter'
order by all""",
    ),
    Answer(
        ResponseRate,
        """\
select kind, name, tier, cycles, students, outcomes, concluded,
    responder_share, interval_low, interval_high, withheld_reason
from answers.response_rate
where district_id = 'd001' and school_year = '2026'
order by kind, progression_place nulls last, name, tier""",
    ),
    Answer(
        TierChange,
        """\
select from_window, to_window, from_tier, to_tier, students, from_students, share, share_low, share_high
from answers.tier_change
where district_id = 'd001' and school_year = '2026'
order by all""",
    ),
    Answer(
        Coverage,
        """\
select benchmark_window, school_id, enrolled, tested, coverage, coverage_low, coverage_high, is_system_data
from answers.coverage
where district_id = 'd001' and school_year = '2026'
order by all""",
    ),
    Answer(
        OverdueCycle,
        """\
select school_id, cycle_id, intervention, concept, opened_on, planned_end_on, members, planned_sessions, held_sessions
from answers.overdue_cycle
where district_id = 'd001' and school_year = '2026'
order by all""",
    ),
    Answer(
        Delivery,
        """\
select school_id, intervention, cycles, planned_sessions, held_sessions, delivery_share,
    outcomes, dose_known, dose_share
from answers.delivery
where district_id = 'd001' and school_year = '2026'
order by all""",
    ),
    Answer(
        MeasureDisagreement,
        """\
select school_id, grade, subject_key, measure, need_level, p_tier_2,
    other_measure, other_need_level, other_p_tier_2, tier
from answers.measure_disagreement
where district_id = 'd001' and school_year = '2026' and benchmark_window = 'winter'
order by all""",
    ),
    Answer(
        FileOutcome,
        """\
select file, layout, status, days_to_load, data_rows, parsed, rejected, out_of_scope, parked,
    rejected_share, match_rate
from answers.file_outcome
where district_id = 'd001'
order by all""",
    ),
    Answer(
        Rejection,
        """\
select file, layout, "column", rule, rows, first_line
from answers.rejection
where district_id = 'd001'
order by all""",
    ),
    Answer(
        EnteringNeed,
        """\
select benchmark_window, measure, school_id, class_id, tested, need_share, interval_low, interval_high,
    matched, observed, expected, p_at_least, growth_excess
from answers.entering_need
where district_id = 'd001' and school_year = '2026'
order by all""",
    ),
    Answer(
        PersistentFlag,
        """\
select benchmark_window, measure, school_id, class_id, level, attention, tested, need_share,
    interval_low, interval_high
from answers.persistent_flag
where district_id = 'd001' and school_year = '2026'
order by all""",
    ),
    Answer(
        ClassChange,
        """\
select from_window, to_window, school_id, students, same_class, other_class, other_school, no_class, left_roster,
    moved_share, moved_low, moved_high
from answers.class_change
where district_id = 'd001' and school_year = '2026'
order by all""",
    ),
    Answer(
        SystemGrade,
        """\
select benchmark_window, measure, school_id, grade, classes, grade_tested, grade_in_need,
    grade_need_share, grade_need_low, grade_need_high, p_grade_above, is_district_wide
from answers.system_grade
where district_id = 'd001' and school_year = '2026'
order by all""",
    ),
    Answer(
        CarriedForward,
        """\
select school_id, grade, subject_key, tier, status, windows_without_test
from answers.carried_forward
where district_id = 'd001' and school_year = '2026' and benchmark_window = 'winter'
order by all""",
    ),
    Answer(
        ProbeCount,
        """\
select school_id, cycle_id, state, measure, students, without_probe, fewest_probes, median_probes, most_probes,
    decision_slopes, decision_share, decision_low, decision_high
from answers.probe_count
where district_id = 'd001' and school_year = '2026'
order by all""",
    ),
    Answer(
        MeasurePrecision,
        """\
select benchmark_window, measure, tests, valid, chosen, mean_score, score_errors, mean_standard_error
from answers.measure_precision
where district_id = 'd001' and school_year = '2026'
order by all""",
    ),
    Answer(
        NoMathSection,
        """\
select benchmark_window, school_id, grade, subject_key, is_tested, tier
from answers.no_math_section
where district_id = 'd001' and school_year = '2026'
order by all""",
    ),
)
"""The twenty questions, in the order of docs/questions.md."""


def questions() -> pl.DataFrame:
    """``Question`` rows."""
    return pl.DataFrame(
        [
            {"number": number, "question": each.question, "answer": each.name, "sql": each.sql}
            for number, each in enumerate(ANSWERS, start=1)
        ]
    )
