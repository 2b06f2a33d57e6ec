"""Tables for people who query: what each mart table means."""

import polars as pl

from schemas import projections
from schemas.contract import Contract, field
from schemas.projections import ATTENTIONS, GROWTHS, LEVELS, SEASONS, TOPIC_BREADTHS


class Mart(Contract):
    """Columns of every mart row."""

    district_id: pl.String = field("District.", nullable=False)
    school_year: pl.String = field("Ending year of the school year.", nullable=False)


class ClassroomFlag(Mart):
    """Student, classroom or system, in words, with the numbers. One row per class, measure and window."""

    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    measure: pl.String = field("Screening measure.", nullable=False)
    school_id: pl.String = field("School.", nullable=False)
    class_id: pl.String = field("Math class.", nullable=False)
    class_label: pl.String = field("Name shown outside the vault, such as `Grade 4, class B`.")
    grade: pl.String = field("Grade of most members.")
    section_type: pl.String = field("regular, remedial or advanced.")
    level: pl.String = field("Level of the answer.", isin=LEVELS, nullable=False)
    reason: pl.String = field("Why, in a sentence or two with the numbers.", nullable=False)
    context: pl.String = field(
        "What stands beside it: both counts, what came with the students, what persists, topics.", nullable=False
    )
    reason_code: pl.String = field("Code of the rule that decided.", nullable=False)
    enrolled: pl.Int64 = field("Members on the reference date less mobile and alternate-assessment students.")
    tested: pl.Int64 = field("Of these, with a valid test that the rule can judge.")
    mobile: pl.Int64 = field("Mobile members, listed for help and not counted.")
    coverage: pl.Float64 = field("Tested of enrolled; null where nobody is enrolled.")
    in_need: pl.Int64 = field("Tested students below the class-need cut.")
    recommended: pl.Int64 = field("Tested students whose need level is tier 2 or 3.")
    need_share: pl.Float64 = field("In need of tested; null where nobody is tested.")
    need_cut: pl.String = field("Class-need cut, such as `PR<20`.")
    recommended_cut: pl.String = field("Cut below which tier 2 is recommended, such as `PR<=20`.")
    guidance_band: pl.String = field("Colorado guidance by the raw share: <10, 10-20 or >20.")
    interval_low: pl.Float64 = field("Lower end of the 95 % interval of the need share.")
    interval_high: pl.Float64 = field("Upper end of the 95 % interval of the need share.")
    is_evaluable: pl.Boolean = field("Enough tested, and enough of the enrolled, for a rule about a class.")
    prior: pl.String = field(
        "What the class is taken to share with others: two_level, one_level, moments, full_bayes, pooled, fixed;"
        " jeffreys: nothing, for a section that is not regular. Null with all that follows where not evaluable.",
        isin=projections.PRIORS,
    )
    prior_from: pl.String = field(
        "Whose classes set the prior: district_grade, district (all grades), home (all districts), policy or none."
    )
    prior_mean: pl.Float64 = field("Mean of the prior.")
    prior_strength: pl.Float64 = field("How alike classes are, in students; with two levels, within a school-grade.")
    school_strength: pl.Float64 = field("How alike school-grades are, in students; two levels only.")
    reliability: pl.Float64 = field("Weight of the class's own share in its estimate: tested / (tested + strength).")
    posterior_mean: pl.Float64 = field("Estimated need rate of the class.")
    p_above: pl.Float64 = field("Probability that the underlying need rate is above tau.")
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
        isin=projections.SEVERITIES,
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
    grade_tested: pl.Int64 = field("Tested in the pooled grade of the school.")
    grade_in_need: pl.Int64 = field("In need in the pooled grade of the school.")
    p_grade_above: pl.Float64 = field("Probability that the need rate of the school's grade is above tau.")
    grade_coverage: pl.Float64 = field("Coverage of the school's grade over all its classes.")
    p_above_peers: pl.Float64 = field(
        "Probability that this class is above its school-grade; with one level, above its rest, else the district's."
    )
    p_excess: pl.Float64 = field("Probability that it is more than 10 points above its school-grade; two levels only.")
    p_district_above: pl.Float64 = field("Probability that the district's rate in the grade is above tau.")
    is_district_wide: pl.Boolean = field(
        "So is the district, and more than half of its schools: first check the cut and the curriculum."
    )
    is_entering_need: pl.Boolean = field("Found in fall: it describes who arrived, not this year's instruction.")
    matched: pl.Int64 = field("Tested students with a fall level that enough students of other classes share.")
    observed: pl.Int64 = field("Of the matched, in need now; null with too few matched, or in fall.")
    expected: pl.Float64 = field("As many as their fall levels led to in other classes of the district and grade.")
    ratio: pl.Float64 = field("Observed of expected.")
    p_at_least: pl.Float64 = field("Exact probability of at least so many, if the class went as the others did.")
    growth_excess: pl.String = field("more, as_expected or fewer than expected from fall.", isin=GROWTHS)
    is_persistent: pl.Boolean = field("Flagged in this window and the one before; null where one of them cannot say.")
    is_grade_persistent: pl.Boolean = field("The grade is a system matter in two of three years; null where not known.")
    is_concordant: pl.Boolean = field("Another measure flags the class as well; null where no other can say.")
    attention: pl.String = field("act: recommended action; look: a single flag; none.", isin=ATTENTIONS)
    topic_breadth: pl.String = field(
        "Strands that stand out: none, one, several, most or unknown.", isin=TOPIC_BREADTHS
    )
    topics: pl.String = field("Names of these strands, separated by `; `.")

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "measure", "class_id"]


class TierSummary(Mart):
    """Students by recommended tier. One row per school, grade and window."""

    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    school_id: pl.String = field("School; null where no export or roster names one.")
    grade: pl.String = field("Grade on the reference date.")
    students: pl.Int64 = field("Students with a row of placement.", nullable=False)
    placed: pl.Int64 = field("Of these, with a recommended tier: the n of the shares.", nullable=False)
    untested: pl.Int64 = field("Students without a valid test of the measure that decides.", nullable=False)
    stale: pl.Int64 = field("Of placed, with a tier carried forward from the last window.", nullable=False)
    tier_1: pl.Int64 = field("Students recommended the core.", nullable=False)
    tier_2: pl.Int64 = field("Students recommended small groups.", nullable=False)
    tier_3: pl.Int64 = field("Students recommended intensive support.", nullable=False)
    tier_1_share: pl.Float64 = field("Tier 1 of placed; null where nobody is placed.")
    tier_2_share: pl.Float64 = field("Tier 2 of placed.")
    tier_3_share: pl.Float64 = field("Tier 3 of placed.")
    team_differs: pl.Int64 = field("Students whose team decided another tier than is recommended.", nullable=False)

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "school_id", "grade"]


class TierReconciliation(Mart):
    """Students whose team decided another tier than is recommended. One row per student and window."""

    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    school_id: pl.String = field("School on the reference date.")
    grade: pl.String = field("Grade on the reference date.")
    subject_key: pl.String = field("Student.", nullable=False)
    recommended_tier: pl.Int8 = field("Tier recommended.", isin=[1, 2, 3], nullable=False)
    recommended_on: pl.Date = field("Reference date of the window.")
    recommended_reason: pl.String = field("Code of the rule that recommended it.")
    confidence: pl.String = field("low where one measure alone decided close to its cut.")
    is_stale: pl.Boolean = field("The recommendation is carried forward without a new test.")
    assigned_tier: pl.Int8 = field("Tier the team decided, before the next window.", isin=[1, 2, 3], nullable=False)
    tier_decided_by: pl.String = field("Whose tier stands, as a role: the team's.", nullable=False)
    assigned_on: pl.Date = field("Day since when it stands.", nullable=False)
    is_decided_since: pl.Boolean = field(
        "Decided on or after the reference date, knowing the recommendation; else before, and to be looked at again."
    )

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "subject_key"]


class ReviewList(Mart):
    """Referred students, whatever the screener says, with what it says beside. One row per referral."""

    school_id: pl.String = field("School on the reference date, else as the referral names it.")
    grade: pl.String = field("Grade on the reference date.")
    subject_key: pl.String = field("Student.", nullable=False)
    natural_key: pl.String = field("The referral.", nullable=False)
    referred_on: pl.Date = field("Day of the referral.")
    referred_by: pl.String = field("teacher, family, counselor, self or other.")
    concern: pl.String = field("Code of the concern.")
    benchmark_window: pl.String = field("Latest window of the year in which the student has a row; null without one.")
    status: pl.String = field("tested there, or why there is no valid test.")
    measure: pl.String = field("Measure that decided there.")
    need_level: pl.String = field("none, watch, tier_2 or tier_3 by that measure.")
    tier: pl.Int8 = field("Tier recommended there, which no referral moves.", isin=[1, 2, 3])
    is_stale: pl.Boolean = field("That tier is carried forward without a new test.")
    assigned_tier: pl.Int8 = field("Tier a team decided.", isin=[1, 2, 3])

    class Config:
        unique = ["district_id", "school_year", "natural_key"]


class CycleSummary(Mart):
    """Intervention cycles, their delivery and what is known of their effect. One row per school and intervention."""

    school_id: pl.String = field("School.")
    intervention: pl.String = field("Intervention or programme; null where not named.")
    cycles: pl.Int64 = field("Cycles.", nullable=False)
    open_cycles: pl.Int64 = field("Of these, open and not past their end.", nullable=False)
    overdue_cycles: pl.Int64 = field("Of these, past their end without a decision.", nullable=False)
    closed_cycles: pl.Int64 = field("Of these, closed.", nullable=False)
    abandoned_cycles: pl.Int64 = field("Of these, abandoned.", nullable=False)
    planned_sessions: pl.Int64 = field("Sessions planned, over cycles that say so.")
    held_sessions: pl.Int64 = field("Sessions held in those cycles.")
    delivery_share: pl.Float64 = field("Held of planned.")
    students: pl.Int64 = field("Students with an outcome row, each once.", nullable=False)
    outcomes: pl.Int64 = field("Student outcomes, one per cycle and student.", nullable=False)
    dose_known: pl.Int64 = field("Of these, with a known dose.", nullable=False)
    dose_share: pl.Float64 = field("Mean dose of those; null where none is known.")
    concluded: pl.Int64 = field("Outcomes with a conclusion: the n of the three responses.", nullable=False)
    adequate: pl.Int64 = field("Of these, adequate.", nullable=False)
    questionable: pl.Int64 = field("Of these, questionable.", nullable=False)
    poor: pl.Int64 = field("Of these, poor.", nullable=False)
    group_plan_first_cycles: pl.Int64 = field(
        "Cycles at least half of whose concluded members respond poorly: change the group's plan first.",
        nullable=False,
    )
    exit_or_regroup: pl.Int64 = field("Outcomes whose next step is to exit or regroup.", nullable=False)
    continue_plan: pl.Int64 = field("Outcomes whose next step is to go on.", nullable=False)
    intensify_one_element: pl.Int64 = field("Outcomes whose next step is one more cycle, intensified.", nullable=False)
    change_intervention: pl.Int64 = field(
        "Outcomes whose next step is another intervention, or a Tier 3 review.", nullable=False
    )
    change_group_plan: pl.Int64 = field("Outcomes whose next step is another plan of the group.", nullable=False)
    fix_delivery: pl.Int64 = field("Outcomes whose next step is to deliver what was planned.", nullable=False)
    excluded: pl.Int64 = field("Outcomes without a conclusion.", nullable=False)
    dose_unknown: pl.Int64 = field("Of these, because the dose is not known.", nullable=False)
    insufficient_dose: pl.Int64 = field("Of these, because too little was delivered.", nullable=False)
    insufficient_data: pl.Int64 = field("Of these, because there are too few probes.", nullable=False)

    class Config:
        unique = ["district_id", "school_year", "school_id", "intervention"]


class ResponderSummary(Mart):
    """Share of students who responded, where enough is concluded to show one. One row per intervention or concept."""

    kind: pl.String = field("What the row counts: intervention or concept.", nullable=False)
    name: pl.String = field("The intervention or concept; null where the cycle names none.")
    tier: pl.Int8 = field("Tier of the support.")
    progression_place: pl.Int64 = field("Place of the concept on the district's progression; null where it names none.")
    cycles: pl.Int64 = field("Cycles.", nullable=False)
    abandoned_cycles: pl.Int64 = field("Of these, abandoned; their students stay in every count.", nullable=False)
    students: pl.Int64 = field("Students in them, each once.", nullable=False)
    outcomes: pl.Int64 = field("Student outcomes, one per cycle and student.", nullable=False)
    concluded: pl.Int64 = field("Of these, with a conclusion: the n of the rate.", nullable=False)
    still_open: pl.Int64 = field("Of these, not counted because the cycle is open or overdue.", nullable=False)
    dose_unknown: pl.Int64 = field("Of these, not counted because the dose is not known.", nullable=False)
    insufficient_dose: pl.Int64 = field("Of these, not counted because too little was delivered.", nullable=False)
    insufficient_data: pl.Int64 = field("Of these, not counted because there are too few probes.", nullable=False)
    responder_share: pl.Float64 = field("Adequate of concluded; null where withheld.")
    interval_low: pl.Float64 = field("Lower end of its 95 % Jeffreys interval.")
    interval_high: pl.Float64 = field("Upper end of its 95 % Jeffreys interval.")
    shrunk_share: pl.Float64 = field(
        "The rate drawn to those beside it, the more the fewer are concluded; null where withheld or alone."
    )
    ended_share: pl.Float64 = field(
        "Adequate of all ended outcomes, with a conclusion or without: the least it can be."
    )
    is_comparable: pl.Boolean = field("Enough is concluded to compare the rate with others.", nullable=False)
    withheld_reason: pl.String = field("Why there is no rate, such as `fewer_than_10_concluded`; null where there is.")

    class Config:
        unique = ["district_id", "school_year", "kind", "name", "tier"]


class SchoolSignal(projections.SchoolSignal):
    """System signals of a school, each with its n; null where nothing was supplied. One row per school and window."""

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "school_id"]


class DataQuality(projections.QualityResult):
    """Every quality rule beside the files it is about. One row per district, school year, school, subject and rule."""

    files: pl.Int64 = field("Files of the layout the rule is about; null where it is about no layout.")
    held_files: pl.Int64 = field("Of these, held at their latest attempt.")
    data_rows: pl.Int64 = field("Data rows of the files that loaded; of a file never loaded, its rows.")
    parsed: pl.Int64 = field("Rows read as facts.")
    rejected: pl.Int64 = field("Rows that could not be read.")
    out_of_scope: pl.Int64 = field("Rows of other subjects or tests.")
    parked: pl.Int64 = field("Rows still waiting for a roster match.")
    erased: pl.Int64 = field("Rows of erased students.")
    duplicate_in_file: pl.Int64 = field("Rows that repeat another row of their file.")


class StudentNeed(Mart):
    """Students recommended tier 2 or 3, and whether a cycle served them. One row per student and window.

    Served is who was in a cycle at any time from the window's reference date to the day before the next one's.
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
    is_served: pl.Boolean = field("In an open cycle during the window; null where no cycles are supplied.")

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "subject_key"]


class TierMovement(Mart):
    """Students by the tiers of two windows in a row. One row per school, grade, pair of windows and pair of tiers.

    Of students with a row of placement in both, at the school and in the grade of the later one.
    """

    from_window: pl.String = field("Earlier window.", isin=SEASONS, nullable=False)
    to_window: pl.String = field("The district's next window of the year.", isin=SEASONS, nullable=False)
    school_id: pl.String = field("School in the later window.")
    grade: pl.String = field("Grade in the later window.")
    from_tier: pl.Int8 = field("Tier recommended in the earlier window; null where unknown.", isin=[1, 2, 3])
    to_tier: pl.Int8 = field("Tier recommended in the later window; null where unknown.", isin=[1, 2, 3])
    students: pl.Int64 = field("Students who went from the one to the other.", nullable=False)

    class Config:
        unique = ["district_id", "school_year", "from_window", "school_id", "grade", "from_tier", "to_tier"]


class ClassMovement(Mart):
    """What became of a school's students from one window to the next. One row per school and pair of windows."""

    from_window: pl.String = field("Earlier window.", isin=SEASONS, nullable=False)
    to_window: pl.String = field("The district's next window of the year.", isin=SEASONS, nullable=False)
    school_id: pl.String = field("School of the earlier window.", nullable=False)
    students: pl.Int64 = field("Students with a math class there in the earlier window.", nullable=False)
    same_class: pl.Int64 = field("Of these, in the same class in the later one.", nullable=False)
    other_class: pl.Int64 = field("In another class of the school.", nullable=False)
    other_school: pl.Int64 = field("In another school of the district.", nullable=False)
    no_class: pl.Int64 = field("Still in the school, without a math class.", nullable=False)
    left_roster: pl.Int64 = field("Not on the district's roster any more.", nullable=False)

    class Config:
        unique = ["district_id", "school_year", "from_window", "school_id"]


class MeasureSummary(Mart):
    """Tests by measure and window, and how exact they are. One row per measure and window."""

    benchmark_window: pl.String = field("Benchmark window; null for tests outside every window.", isin=SEASONS)
    measure: pl.String = field("Screening measure.", nullable=False)
    tests: pl.Int64 = field("Tests.", nullable=False)
    valid: pl.Int64 = field("Of these, valid.", nullable=False)
    chosen: pl.Int64 = field("Of these, chosen to stand for the student in the window.", nullable=False)
    with_percentile: pl.Int64 = field("Of the chosen, with a national percentile.", nullable=False)
    mean_score: pl.Float64 = field("Mean score of the chosen tests, in the unit of the measure.")
    score_deviation: pl.Float64 = field("Standard deviation of these scores; null below two.")
    score_errors: pl.Int64 = field("Of the chosen, with a standard error in the unit of the score.", nullable=False)
    mean_standard_error: pl.Float64 = field("Mean standard error of these (SEM), in the unit of the score.")
    rasch_errors: pl.Int64 = field("Of the chosen, with a standard error on the Rasch scale.", nullable=False)
    mean_rasch_standard_error: pl.Float64 = field("Mean standard error of these, on the Rasch scale.")

    class Config:
        unique = ["district_id", "school_year", "benchmark_window", "measure"]


MARTS: tuple[type[Contract], ...] = (
    ClassroomFlag,
    TierSummary,
    TierReconciliation,
    ReviewList,
    CycleSummary,
    ResponderSummary,
    SchoolSignal,
    DataQuality,
    StudentNeed,
    TierMovement,
    ClassMovement,
    MeasureSummary,
)
"""Every mart, in the order in which they are made."""
