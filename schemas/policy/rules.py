"""Thresholds of classes, tiers, screening, cycles, responses and deliveries, each with the chapter it comes from."""

from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from schemas.policy.model import Count, Days, Grade, Policy, Season, Share, as_read

ProbabilityModel = Literal["rudner", "kelley", "none"]


def _day_of_year(value: str) -> str:
    try:
        date.fromisoformat(f"2025-{value}")
    except ValueError:
        raise ValueError(f"{value} is no day of every year; write month and day, such as 10-01") from None
    return value


class ClassRule(Policy):
    """When a class is looked at (METHOD 3, knobs of METHOD 6)."""

    membership: Literal["reference_date", "test_date", "majority", "census"] = "reference_date"
    """Which class is that of a student enrolled on the reference date: the one of that day, of the student's first
    counted test of the window, of most days of the year until then, or of the census (METHOD 5.4)."""
    census_on: Annotated[str, AfterValidator(_day_of_year)] = "10-01"
    """Month and day of the census in every school year, for `membership = "census"`; who was enrolled nowhere on it is
    listed and not counted (METHOD 5.4)."""
    tau_low: Share = 0.10
    """Share of a class in need from which it is to watch (METHOD 3.1)."""
    tau: Share = 0.20
    """Share above which a class is suspect (METHOD 3.1)."""
    norm_adjust: bool = False
    """Where a class-need cut has a base rate above tau, the base rate is tau and the decision says so (METHOD 0.1)."""
    severe: Share = 0.50
    """Share above which a class is severe (METHOD 3.1)."""
    class_minimum: Count = 10
    """Students tested below which a class is too small to judge (SEMANTICS 7.4)."""
    coverage_minimum: Share = 0.80
    """Share of a class tested below which its coverage is low (METHOD 3.5)."""
    school_coverage_minimum: Share = 0.80
    """Share of a school's grade tested below which it is a data matter (METHOD 3.5)."""
    participation_expected: Share = 0.95
    """A class with a smaller share tested is marked; it decides nothing (METHOD 3.5)."""
    prior: Literal["two_level", "one_level", "moments", "full_bayes", "fixed"] = "two_level"
    """What the classes of a grade are taken to have in common; `moments` is one level without likelihood (METHOD 3.3,
    3.9)."""
    fixed_mean: float = Field(default=0.20, gt=0, lt=1)
    """Mean of the prior `fixed` (METHOD 3.3)."""
    fixed_strength: float = Field(default=12.0, gt=0)
    """Strength, in students, of the prior `fixed` (METHOD 3.3)."""
    fdr: Literal["bayes", "bh"] = "bayes"
    """How few flags may be wrong: by posterior, or Benjamini-Hochberg on exact tails (METHOD 3.4)."""
    false_discovery: Share = 0.10
    """Largest mean probability that the flags of a district, measure and window are wrong (METHOD 3.4)."""
    flag_probability: Share = 0.80
    """Least probability of a true share above tau that flags a class (METHOD 3.4)."""
    watch_probability: Share = 0.50
    """Least such probability that makes a class one to watch (METHOD 3.6)."""
    high_share: Share = 0.50
    """A grade is a system matter when more than this share of its classes is probably above tau (METHOD 3.6)."""
    low_coverage_share: Share = 1 / 3
    """More than this share of classes with low coverage makes a school's grade a data matter (SEMANTICS 7.4)."""
    system_probability: Share = 0.90
    """Least probability that a grade's share is above tau for a system matter (METHOD 3.6)."""
    outlier_probability: Share = 0.90
    """Least probability that a class is above its peers for a matter of its own beside the system's (METHOD 3.6)."""
    excess: Share = 0.10
    """How far above its school's grade such a class must be (SEMANTICS 7.5)."""
    excess_probability: Share = 0.50
    """Least probability that it is so far above (SEMANTICS 7.5)."""
    matched_minimum: Count = 10
    """Students with a fall level that a class needs to be compared with what their levels led to (METHOD 3.7)."""
    band_minimum: Count = 30
    """Students of other classes at a fall level that its rate needs (METHOD 3.7)."""
    growth_tail: Share = 0.05
    """A class has more in need than expected, or fewer, when so many or so few are this improbable (METHOD 3.7)."""
    scope_share: Share = 0.20
    """A school has results in a grade from this share of its roster on (SEMANTICS 7.3)."""
    scope_peers: Share = 0.80
    """Share of a district's other schools with results that brings a school into scope (SEMANTICS 7.3)."""
    mobile_after_days: Days = 10
    """A student who began more school days than this after the class may be mobile (SEMANTICS 7.2)."""
    mobile_before_days: Days = 20
    """And is, when that was fewer school days than this before the reference date (SEMANTICS 7.2)."""

    @model_validator(mode="after")
    def _ordered(self) -> "ClassRule":
        if not self.tau_low <= self.tau <= self.severe:
            raise ValueError("tau_low, tau and severe must rise: a class is to watch, then suspect, then severe")
        if self.watch_probability > self.flag_probability:
            raise ValueError("watch_probability must not be above flag_probability: what is flagged is watched")
        return self


class TierRule(Policy):
    """How a test becomes a tier (METHOD 1.3 to 1.5)."""

    probability: ProbabilityModel = "rudner"
    """The true score given the test: around it (`rudner`), drawn to the grade's mean (`kelley`), or the test itself
    (METHOD 1.3)."""
    enter: float = Field(default=0.5, gt=0, lt=1)
    """Probability of being below the cut from which a student enters a tier (METHOD 1.5)."""
    exit: float = Field(default=0.2, gt=0, lt=1)
    """Probability down to which a student leaves a tier at once (METHOD 1.5)."""
    streak: int = Field(default=2, ge=1)
    """Windows in a row below `enter` after which a student leaves a tier without falling to `exit` (METHOD 1.5)."""
    allow_skip: bool = True
    """Whether tier 3 may follow tier 1 (METHOD 1.5)."""
    carry_windows: int = Field(default=1, ge=0)
    """Windows without a test through which the last tier is still shown, marked stale (METHOD 1.2)."""
    combine: Literal["primary_with_corroboration", "primary_only", "any", "all"] = "primary_with_corroboration"
    """How several measures of a window become one (METHOD 1.4, SEMANTICS 6.5)."""
    sure_above: Share = 0.75
    """Probability from which the primary measure decides tier 2 alone (METHOD 1.4)."""
    sure_below: Share = 0.25
    """Probability down to which it decides alone; between the two the secondary measure decides (METHOD 1.4)."""
    secondary_measures: tuple[str, ...] = ()
    """Measures that may corroborate, the first tested one decides; empty: any other, most tested first."""
    fallback_measures: tuple[str, ...] = ()
    """Measures that stand in, in this order, for a student without a valid test of the primary one."""

    @model_validator(mode="after")
    def _ordered(self) -> "TierRule":
        if self.exit >= self.enter:
            raise ValueError("exit must be below enter, or a student on the cut goes back and forth")
        if self.sure_below > self.sure_above:
            raise ValueError("sure_below must not be above sure_above")
        return self


class AccuracyRule(Policy):
    """How well a screening measure tells who fails a later test (METHOD 1.6)."""

    outcome_measure: str | None = None
    """The later test; its own rule in `cuts` says by `class_need` who fails it. It never places anyone."""
    auc_interval: Literal["hanley_mcneil", "delong"] = "hanley_mcneil"
    """Interval of the area under the curve (METHOD 1.6)."""
    rubric: Literal["behavior", "academic"] = "behavior"
    """NCII's rubric that rates the measure (METHOD 1.6)."""


ACCURACY_RUBRICS: dict[str, dict[str, tuple[float, float, float]]] = {
    "behavior": {"full": (0.75, 0.70, 0.70), "half": (0.70, 0.60, 0.60)},
    "academic": {"full": (0.85, 0.70, 0.80)},
}
"""Least lower bound of the AUC, sensitivity and specificity of each rating: NCII's rubrics (METHOD 1.6)."""


class FormFamily(Policy):
    """Forms of a progress measure that are one series; another family, such as another grade's, starts a new one."""

    measure: str
    """Progress measure."""
    family: str = Field(min_length=1)
    """Name of the family, such as `grade 3`."""
    forms: tuple[str, ...]
    """Its forms, as the export names them; forms named nowhere are one family (METHOD 2.1)."""

    @property
    def read_forms(self) -> list[str]:
        """The forms as they are compared."""
        return [as_read(form) for form in self.forms]


ADAPTIVE_MEASURES = ("map_growth_math", "map_screening_math", "star_math", "iready_math", "fastbridge_amath")
"""Computer-adaptive tests, whose outliers pull a straight line (Bulut & Cormier; METHOD 2.1)."""


class CycleRule(Policy):
    """When a cycle is judged, and how (METHOD 2.1-2.4)."""

    shortest_days: Days = 21
    """Days below which a cycle is out of range, and before which no response is poor (METHOD 2.3)."""
    longest_days: Days = 42
    """Days after which a cycle is out of range, and overdue without a decision (METHOD 2.3)."""
    dose_minimum: Share = 0.80
    """Share of planned minutes below which nothing is concluded about the student (METHOD 2.4)."""
    fidelity_minimum: Share = 0.80
    """Fidelity, where known, below which nothing is concluded (METHOD 2.4)."""
    probes_minimum: Count = 4
    """Probes below which there are too few data (METHOD 2.4)."""
    level_probes: Count = 3
    """Last probes whose median is compared with the aim line (METHOD 2.4)."""
    goal_probes: Count = 2
    """Last probes in a row at or above the goal that meet it (METHOD 2.3)."""
    poor_below: Share = 0.20
    """Probability of the goal slope below which a response may be poor (METHOD 2.4)."""
    assumed_minutes: float | None = Field(default=None, ge=0)
    """Minutes taken for an attended session that has none; absent: not assumed (METHOD 2.3)."""
    slope_by: Literal["ols", "theil_sen"] = "ols"
    """Slope that is compared with peers; both are reported (METHOD 2.1)."""
    theil_sen_measures: tuple[str, ...] = ADAPTIVE_MEASURES
    """Measures of which Theil-Sen's is compared whatever `slope_by` says: adaptive tests (METHOD 2.1)."""
    form_families: tuple[FormFamily, ...] = ()
    """Forms of probes that make one series (METHOD 2.1)."""
    rule_points: int = Field(default=4, ge=3, le=4)
    """Points in a row on one side of the aim line that speak for a change (METHOD 2.2)."""
    rule_minimum: Count = 4
    """Probe days below which the point rule says nothing but `continue` (METHOD 2.2)."""
    peer_cycles: Count = 10
    """Other closed cycles of a measure and grade that a grade's median slope needs (SEMANTICS 6.6)."""
    dual_discrepancy: bool = False
    """Poor is whose level and slope are both more than a standard deviation below the class, instead of by goal slope
    and grade; it needs a class that is monitored (METHOD 2.4)."""
    classmates_minimum: Count = 10
    """Classmates with probes enough that `dual_discrepancy` needs (METHOD 2.4)."""
    group_poor_share: Share = 0.50
    """From this share of poor responses on, the group's plan is changed before any student's (METHOD 2.4)."""
    group_minimum: Count = 2
    """Members with a conclusion that make a group of which such a share can be said (METHOD 2.4)."""
    group_size: Count = 4
    """Most students in a group that is proposed; by default the 4:1 of the National Student Support Accelerator."""

    @model_validator(mode="after")
    def _ordered(self) -> "CycleRule":
        if self.shortest_days > self.longest_days:
            raise ValueError("shortest_days must not be above longest_days")
        named = [(each.measure, form) for each in self.form_families for form in each.read_forms]
        twice = sorted({form for measure, form in named if named.count((measure, form)) > 1})
        if twice:
            raise ValueError(f"form_families: the form {', '.join(twice)} of a measure stands there more than once")
        return self


class GrowthNorm(Policy):
    """Growth of an average student between two windows, in the unit of the measure."""

    measure: str
    """Measure of the norm."""
    grades: tuple[Grade, ...]
    """Grades it is for."""
    before: Season
    """Window of the first test."""
    after: Season
    """Window of the second."""
    points: float
    """Growth between them."""
    source: str = Field(min_length=1)
    """Document that gives the norm."""


class ResponseRule(Policy):
    """What is said of responder rates and of what interventions are associated with (METHOD 2.5)."""

    progression: tuple[str, ...] = ()
    """Concepts in the order in which they are taught; those not named follow by code."""
    display_minimum: Count = 10
    """Outcomes with a conclusion below which a rate is not shown (METHOD 2.5)."""
    compare_minimum: Count = 20
    """Outcomes below which it is not compared with others (METHOD 2.5)."""
    norm_pairs: Count = 30
    """Students with both tests that a measure, grade and pair of windows need to tell a correlation."""
    growth_norms: tuple[GrowthNorm, ...] = ()
    """Growth that is expected without an intervention (METHOD 2.5)."""
    caliper: float = Field(default=0.20, gt=0)
    """Farthest that two matched students may lie apart before, in standard deviations of their grade."""
    pairs_minimum: Count = 20
    """Matched pairs, or students on each side of a cut, below which nothing is compared."""
    baseline_alike: float = Field(default=0.05, ge=0)
    """Difference at baseline (Hedges g) up to which no adjustment is needed (METHOD 2.5)."""
    baseline_refused: float = Field(default=0.25, ge=0)
    """Difference at baseline beyond which nothing is compared (METHOD 2.5)."""
    follows_cut: Share = 0.90
    """Share of students served as the cut says from which the cut itself makes the comparison."""
    cut_bandwidth: float = Field(default=0.50, gt=0)
    """Standard deviations on each side of the cut that such a comparison looks at."""

    @model_validator(mode="after")
    def _ordered(self) -> "ResponseRule":
        if self.baseline_alike > self.baseline_refused:
            raise ValueError("baseline_alike must not be above baseline_refused")
        return self


Expectation = Literal["volume_per_school", "tested_share", "score_range", "percentile_drift", "match_rate"]


class QualityRule(Policy):
    """What is plausible in a delivery, and what holds a file."""

    match_rate_minimum: Share = 0.5
    """Share of a file's students that the roster must know, or the file is held (SEMANTICS 2.3)."""
    year_disagreement_maximum: Share = 0.05
    """Share of rows in another school year than the file says, above which it is held (SEMANTICS 2.4)."""
    score_drift_maximum: float = Field(default=15.0, ge=0)
    """Change of a measure's mean percentile from the previous window that is reported."""
    tested_share_minimum: Share = 0.5
    """A school with a smaller share of its students tested is reported."""
    volume_drop_maximum: Share = 0.5
    """A school's tests of a measure may fall by this share from one window to the next before it is reported."""
    match_rate_expected: Share = 0.95
    """A file with a smaller match rate is loaded and reported."""
    blocking: tuple[Expectation, ...] = ()
    """Expectations that hold a district-year instead of warning."""
