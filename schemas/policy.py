"""The numbers educators own, dated and sourced: windows, cuts, thresholds, and the words that mark math classes."""

import json
import tomllib
from collections.abc import Iterator, Sequence
from datetime import date
from difflib import get_close_matches
from functools import cache, cached_property
from importlib.resources import files
from itertools import combinations, pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, to_jsonable_python

from schemas.exports import layouts, measures
from schemas.projections import SEASONS

Season = Literal["fall", "winter", "spring"]
Scale = Literal["score", "rasch"]
MATH_WORDS = ("math", "mathematics", "algebra", "geometry", "calculus", "statistics", "precalculus", "trigonometry")
"""Words of a subject or course title that mark a math class (SEMANTICS 7.1)."""
MATH_CODES = ("02",)
"""Starts of subject or course codes that mark a math class: SCED subject area 02."""
REMEDIAL_WORDS = ("intervention", "remedial", "support", "resource", "essentials", "recovery", "lab", "rti", "mtss")
ADVANCED_WORDS = ("honors", "advanced", "accelerated", "gifted", "ap", "ib", "enriched")
SECTION_VOCABULARY = (*MATH_WORDS, *REMEDIAL_WORDS, *ADVANCED_WORDS)
"""The only words of a class title or code that leave the vault."""

DEFAULT_WINDOW_ENDS = {"fall": (11, 15), "winter": (3, 1)}
"""Month and day on which a window ends where neither a range nor a label says so (SEMANTICS 6.1); spring ends with the
school year."""
FROZEN_AFTER_DAYS = 28
"""Exports up to this many days after a window settle its reference date and primary measures (SEMANTICS 6.1b)."""
RAPID_GUESSING_PERCENT = 30.0
"""From this share of rapid guesses on, a test is not valid (METHOD 1.2)."""


ANY_MEASURE = "*"
GRADES = ("PK", "K", *map(str, range(1, 13)))


class UnreadablePolicy(Exception):
    """A policy file cannot be used; says which file, which setting and what is wrong with it."""


class _Policy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _grade(value: str) -> str:
    if value not in GRADES:
        raise ValueError(f"{value} is no grade; grades are PK, K and 1 to 12")
    return value


def _school_year(value: str) -> str:
    if len(value) != 4 or not value.isdecimal():
        raise ValueError(f"{value} is no school year; name the year in which it ends, such as 2026 for 2025-2026")
    return value


Share = Annotated[float, Field(ge=0, le=1)]
Days = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Grade = Annotated[str, AfterValidator(_grade)]


CUT_NAMES = ("tier_3_below", "tier_2_below", "watch_below", "class_need_below")
LABEL_LEVELS = ("tier_3", "tier_2", "watch", "none")


def _as_read(label: str) -> str:
    return label.strip().lower()


class CutRule(_Policy):
    """Need levels of one measure. ``need`` always means below the cut; a score on the cut is not in need."""

    measure: str
    """Measure the rule is for; `*`: every measure without a rule of its own."""
    by: Literal["percentile", "placement", "score"]
    """What is compared: the national percentile, the vendor's label, or the score."""
    valid_from: date = date(1980, 1, 1)
    """First reference date the rule is for."""
    source: str = Field(min_length=1)
    """Document or decision that sets the rule."""
    grades: tuple[str, ...] = ()
    """Grades the rule is for; empty: all."""
    seasons: tuple[Season, ...] = ()
    """Windows the rule is for; empty: all."""
    tier_3_below: float | None = None
    """Percentile or score below which a student is at tier 3 (METHOD 1.1)."""
    tier_2_below: float | None = None
    """Percentile or score below which a student is at tier 2 (METHOD 1.1)."""
    watch_below: float | None = None
    """Percentile or score below which a student is to watch; never need (METHOD 0.1)."""
    tier_3: tuple[str, ...] = ()
    """Vendor labels of tier 3; a label named in no level leaves the level unknown (METHOD 1.1)."""
    tier_2: tuple[str, ...] = ()
    """Vendor labels of tier 2."""
    watch: tuple[str, ...] = ()
    """Vendor labels to watch."""
    none: tuple[str, ...] = ()
    """Vendor labels of no need."""
    class_need_below: float | None = None
    """Percentile or score below which a student counts in the class rule (METHOD 1.1, SEMANTICS 6.4)."""
    class_need: tuple[str, ...] = ()
    """Vendor labels that count in the class rule."""

    @model_validator(mode="after")
    def _complete(self) -> "CutRule":
        unknown = sorted(set(self.grades) - set(GRADES))
        if unknown:
            raise ValueError(f"{self.measure}: grades {', '.join(unknown)} are none of PK, K and 1 to 12")
        if self.by == "placement":
            self._check_labels()
            return self
        if self.tier_2_below is None or self.class_need_below is None:
            raise ValueError(f"{self.measure}: a rule by {self.by} needs tier_2_below and class_need_below")
        cuts = [c for c in (self.tier_3_below, self.tier_2_below, self.watch_below) if c is not None]
        if cuts != sorted(cuts):
            raise ValueError(f"{self.measure}: cuts must rise from tier 3 over tier 2 to watch")
        if self.by == "percentile" and not all(1 <= cut <= 100 for cut in (*cuts, self.class_need_below)):
            raise ValueError(f"{self.measure}: cuts by percentile lie from 1 to 100")
        return self

    def _check_labels(self) -> None:
        if not (self.tier_3 or self.tier_2) or not self.class_need:
            raise ValueError(f"{self.measure}: a rule by placement names the labels of tier_2 or tier_3 and class_need")
        levels = {level: {_as_read(label) for label in getattr(self, level)} for level in LABEL_LEVELS}
        for (level, labels), (other, others) in combinations(levels.items(), 2):
            if labels & others:
                twice = ", ".join(sorted(labels & others))
                raise ValueError(f"{self.measure}: the label {twice} stands in {level} and in {other}")
        alone = {_as_read(label) for label in self.class_need} - set().union(*levels.values())
        if alone:
            raise ValueError(f"{self.measure}: class_need names {', '.join(sorted(alone))}, which has no level")

    @property
    def class_base_rate(self) -> float | None:
        """Share of an average class below the class-need cut: PR < c is (c - 1) / 100 (SEMANTICS 6.4)."""
        return None if self.by != "percentile" or self.class_need_below is None else (self.class_need_below - 1) / 100

    @property
    def levels(self) -> dict[str, str]:
        """Vendor label, as it is compared, to the level it means."""
        return {_as_read(label): level for level in LABEL_LEVELS for label in getattr(self, level)}

    @property
    def needs(self) -> frozenset[str]:
        """Vendor labels, as they are compared, that the class rule counts."""
        return frozenset(map(_as_read, self.class_need))

    @property
    def class_need_name(self) -> str:
        """The class-need cut in words."""
        if self.by == "placement":
            return "vendor label"
        return f"{'PR' if self.by == 'percentile' else 'score'}<{self.class_need_below:g}"

    @property
    def recommended_name(self) -> str:
        """The tier 2 cut in words; percentiles are whole, so below 21 is 20 and lower."""
        if self.tier_2_below is None:
            return "vendor label"
        if self.by == "percentile" and self.tier_2_below.is_integer():
            return f"PR<={self.tier_2_below - 1:g}"
        return f"{'PR' if self.by == 'percentile' else 'score'}<{self.tier_2_below:g}"


class StrandRule(_Policy):
    """Who is in need in a strand of a measure, by the vendor's label of the strand or below a score (METHOD 3.10)."""

    measure: str
    """Measure the rule is for."""
    valid_from: date = date(1980, 1, 1)
    """First reference date the rule is for."""
    source: str = Field(min_length=1)
    """Document or decision that sets the rule."""
    grades: tuple[Grade, ...] = ()
    """Grades the rule is for; empty: all."""
    strands: tuple[str, ...] = ()
    """Strands the rule is for, as the vendor names them; empty: all."""
    need: tuple[str, ...] = ()
    """Vendor labels in need; labels named nowhere leave it unknown."""
    none: tuple[str, ...] = ()
    """Vendor labels not in need."""
    below: float | None = None
    """Strand score below which a student is in need, in the unit of the strand."""

    @model_validator(mode="after")
    def _complete(self) -> "StrandRule":
        if bool(self.need) == (self.below is not None):
            raise ValueError(f"{self.measure}: a strand rule names either labels in need or a score (below)")
        twice = {_as_read(label) for label in self.need} & {_as_read(label) for label in self.none}
        if twice:
            raise ValueError(f"{self.measure}: the label {', '.join(sorted(twice))} stands in need and in none")
        return self

    @property
    def labels(self) -> dict[str, bool]:
        """Vendor label, as it is compared, to whether it is in need."""
        return {_as_read(label): True for label in self.need} | {_as_read(label): False for label in self.none}

    @property
    def named(self) -> list[str]:
        """Strands, as they are compared."""
        return [_as_read(strand) for strand in self.strands]


class PinnedCut(_Policy):
    """The score at a percentile cut, as a person states it: it comes before the one derived from exported tests."""

    measure: str
    """Measure of the cut."""
    grade: Literal[GRADES]  # type: ignore[valid-type]
    """Grade of the cut."""
    season: Season
    """Window of the cut."""
    norm_version: str | None = None
    """Norms the pin is for; absent: all."""
    percentile_below: float
    """The cut of the rule: its `tier_2_below`, say."""
    score: float
    """Score at the percentile cut (SEMANTICS 6.3)."""
    scale: Scale = "score"
    """Scale of ``score``: a standard error in another scale is not used with it."""
    valid_from: date = date(1980, 1, 1)
    """First reference date the pin is for."""
    source: str = Field(min_length=1)
    """Document or decision that sets the score."""


class StandardError(_Policy):
    """Standard error of a measure's scores, for exports that have none."""

    measure: str
    """Measure of the error."""
    standard_error: float = Field(gt=0)
    """Standard error of a test without one (METHOD 1.3)."""
    scale: Scale = "score"
    """Scale of the error."""
    valid_from: date = date(1980, 1, 1)
    """First reference date the error is for."""
    source: str = Field(min_length=1)
    """Document that gives the error."""


_CUTS = tomllib.loads(files("schemas").joinpath("cuts.toml").read_text("utf-8"))
DEFAULT_CUTS = tuple(CutRule.model_validate(rule) for rule in _CUTS["cuts"])
"""Rules of `cuts.toml`; the last is for any measure with national percentiles that has no rule of its own."""
DEFAULT_STRANDS = tuple(StrandRule.model_validate(rule) for rule in _CUTS["strands"])
DEFAULT_STANDARD_ERRORS = tuple(StandardError.model_validate(each) for each in _CUTS["standard_errors"])


class Window(_Policy):
    """One benchmark window of one school year."""

    school_year: Annotated[str, AfterValidator(_school_year)]
    """Ending year: `2026` is 2025-2026 (SEMANTICS 2.4)."""
    season: Season
    """The window."""
    begins_on: date | None = None
    """First day; where a year has ranges only they decide, and a day in none is outside (SEMANTICS 6.1)."""
    ends_on: date | None = None
    """Last day."""
    reference_on: date | None = None
    """Day that decides class membership; absent: the lower median test day (SEMANTICS 6.1)."""

    @model_validator(mode="after")
    def _range(self) -> "Window":
        if (self.begins_on is None) != (self.ends_on is None):
            raise ValueError(f"window {self.season} of {self.school_year} needs both begins_on and ends_on, or neither")
        if self.begins_on and self.ends_on and self.ends_on < self.begins_on:
            raise ValueError(f"window {self.season} of {self.school_year} ends before it begins")
        days = self.begins_on, self.reference_on, self.ends_on
        if all(days) and sorted(days) != list(days):  # type: ignore[type-var]
            raise ValueError(
                f"window {self.season} of {self.school_year}: reference_on is not one of its days;"
                " name a day from begins_on to ends_on"
            )
        return self


ProbabilityModel = Literal["rudner", "kelley", "none"]


class ClassRule(_Policy):
    """When a class is looked at (METHOD 3, knobs of METHOD 6)."""

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


class TierRule(_Policy):
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


class AccuracyRule(_Policy):
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


class FormFamily(_Policy):
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
        return [_as_read(form) for form in self.forms]


ADAPTIVE_MEASURES = ("map_growth_math", "map_screening_math", "star_math", "iready_math", "fastbridge_amath")
"""Computer-adaptive tests, whose outliers pull a straight line (Bulut & Cormier; METHOD 2.1)."""


class CycleRule(_Policy):
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


class GrowthNorm(_Policy):
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


class ResponseRule(_Policy):
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


class QualityRule(_Policy):
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


SelectRule = Literal["growth_measure", "lowest_sem", "latest", "first", "median3"]


def _years(value: Any) -> Any:
    return tuple(str(each) for each in value) if isinstance(value, list) else value


_KEEPING = frozenset({"landing", "archive_days_after_year", "own_warehouse"})
_TAKING = frozenset({"full_extracts", "confirmed_extracts"})
_NOT_DATED = _KEEPING | _TAKING | {"windows", "no_school_days", "valid_from", "retroactive", "reason"}
"""Settings that are no part of a dated policy: calendars go by school year, the rest says how files are taken
and kept."""


def _json(document: Any) -> str:
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


class DistrictPolicy(_Policy):
    """Everything a district decides; what it leaves out takes the documented default."""

    time_zone: str
    """IANA name; the days of tests are the days of the school (SEMANTICS 2.5)."""
    valid_from: date = date(1980, 1, 1)
    """First reference date that this policy is for (SEMANTICS 5.3)."""
    source: str = "Defaults of the method."
    """Document or decision behind the policy; kept with it."""
    retroactive: bool = False
    """Meant for windows that are closed already; needs a reason of its own each time (SEMANTICS 5.3)."""
    reason: str | None = None
    """Why closed windows are judged anew this time; kept with the notes, as people typed it."""
    profile: Literal["default", "colorado"] = "default"
    """`colorado` also lists which kinds of evidence each recommended student has (SEMANTICS 6.8)."""
    landing: Literal["move", "keep"] = "move"
    """`move`: loaded files go to the archive; `keep`: they are copied and stay where they landed (SEMANTICS 2.6)."""
    full_extracts: tuple[str, ...] = ()
    """Layouts of which every file is a full extract: what two in a row lack is withdrawn (SEMANTICS 1.6)."""
    confirmed_extracts: tuple[Annotated[str, Field(pattern="^[0-9a-f]{12,64}$")], ...] = ()
    """Full extracts that may lack as much as they do, by the beginning of their batch id: withdrawn at once."""
    archive_days_after_year: int | None = Field(default=None, ge=0)
    """Days after the end of its school year for which a loaded file stays in the archive; absent: until somebody
    deletes it, because no file is destroyed that nobody asked to destroy (decision 7)."""
    own_warehouse: bool = False
    """Whether a run also publishes `warehouse/<district>.duckdb`, with this district's rows alone."""
    year_starts_month: int = Field(default=7, ge=1, le=12)
    """Month in which the school year begins (SEMANTICS 2.4)."""
    windows: tuple[Window, ...] = ()
    """Benchmark windows by school year."""
    no_school_days: tuple[date, ...] = ()
    """Weekdays without school (SEMANTICS 7.2)."""
    cuts: tuple[CutRule, ...] = ()
    """Need levels; a measure named here has none of the default rules."""
    pinned_cuts: tuple[PinnedCut, ...] = ()
    """Scores at percentile cuts that people decided."""
    standard_errors: tuple[StandardError, ...] = ()
    """Standard errors for exports without them; they come before the defaults."""
    strands: tuple[StrandRule, ...] = ()
    """Who is in need in a strand; they come before the defaults."""
    local_measures: tuple[str, ...] = ()
    """Measures of the district's own files, which no layout names."""
    select: dict[str, SelectRule] = {}
    """Measure to which of several tests in a window counts; absent: `growth_measure` for MAP, else `latest` (METHOD
    1.2)."""
    primary_measures: dict[Grade, str] = {}
    """Grade to measure; absent: the one with most valid tests in the district and grade (SEMANTICS 6.5)."""
    season_names: dict[str, Season] = {}
    """A district's own names of seasons, such as `Feb-Mar`."""
    math_codes: Annotated[tuple[str, ...], BeforeValidator(_years)] = MATH_CODES
    """Starts of subject or course codes that mark a math class (SEMANTICS 7.1)."""
    math_words: tuple[str, ...] = MATH_WORDS
    """Words of a subject or course title that mark a math class (SEMANTICS 7.1)."""
    remedial_words: tuple[str, ...] = REMEDIAL_WORDS
    """Words of a title that mark a remedial section (SEMANTICS 7.1)."""
    advanced_words: tuple[str, ...] = ADVANCED_WORDS
    """Words of a title that mark an advanced section (SEMANTICS 7.1)."""
    homeroom_grades: tuple[Grade, ...] = ("K", "1", "2", "3", "4", "5")
    """Grades whose homeroom is the math class where there is no other (SEMANTICS 7.1)."""
    tiers: TierRule = TierRule()
    """How a test becomes a tier."""
    accuracy: AccuracyRule = AccuracyRule()
    """How screening is compared with a later test."""
    classes: ClassRule = ClassRule()
    """When a class is looked at."""
    cycles: CycleRule = CycleRule()
    """When a cycle is judged."""
    responses: ResponseRule = ResponseRule()
    """What is said of responder rates."""
    quality: QualityRule = QualityRule()
    """What is plausible in a delivery."""

    @model_validator(mode="after")
    def _coherent(self) -> "DistrictPolicy":
        if self.time_zone not in _time_zones():
            raise ValueError(f"time_zone {self.time_zone!r} is not an IANA time zone such as America/Denver")
        for name in self.full_extracts:
            if name not in layouts():
                raise ValueError(f"full_extracts: no layout is called {name}; `tierline layouts` lists them")
            if not layouts()[name].extract_within:
                raise ValueError(f"full_extracts: files of {name} cannot be full extracts of tests")
        for rule in self.all_cuts:
            base = rule.class_base_rate
            if base is not None and base >= self.classes.tau and not self.classes.norm_adjust:
                raise ValueError(
                    f"cuts of {rule.measure}: class_need_below = {rule.class_need_below:g} puts {100 * base:g} % of an"
                    f" average class in need by construction, which is not below classes.tau = {self.classes.tau:g}:"
                    " the 10-20 % rule is incoherent with such a cut, whatever the teaching. Lower class_need_below, or"
                    " set classes.norm_adjust = true, which judges the class against that share and says so"
                )
        outcome = self.accuracy.outcome_measure
        if outcome is not None and outcome not in {rule.measure for rule in self.all_cuts}:
            raise ValueError(f"accuracy.outcome_measure: {outcome} has no rule of its own in cuts")
        if self.retroactive and not (self.reason or "").strip():
            raise ValueError("retroactive = true needs a reason: who decided, and why closed windows are read anew")
        self._check_windows()
        return self

    def _check_windows(self) -> None:
        named = [(window.school_year, window.season) for window in self.windows]
        for year, season in named:
            if named.count((year, season)) > 1:
                raise ValueError(f"windows: {season} of {year} is there more than once; keep one")
        for window in self.windows:
            for name in ("begins_on", "ends_on", "reference_on"):
                day = getattr(window, name)
                if day and self._year(day) != window.school_year:
                    raise ValueError(
                        f"window {window.season} of {window.school_year}: {name} lies in the school year"
                        f" {self._year(day)}; mend the day or school_year"
                    )
        ranges = sorted(
            (w.begins_on, w.ends_on, w.season, w.school_year) for w in self.windows if w.begins_on and w.ends_on
        )
        for (_, ends, season, year), (begins, _, other, next_year) in pairwise(ranges):
            if begins <= ends:
                raise ValueError(
                    f"windows {season} of {year} and {other} of {next_year} overlap on {begins.isoformat()};"
                    " a day belongs to one window"
                )
            if year == next_year and season_order(season) > season_order(other):
                raise ValueError(f"windows: {season} of {year} comes before {other}; they go fall, winter, spring")

    @property
    def document(self) -> str:
        """What the district says that a window can depend on, as JSON; no calendar, nothing of how files are kept."""
        return _json(self.model_dump(mode="json", exclude_unset=True, exclude=set(_NOT_DATED)))

    def settings(self) -> Iterator[tuple[str, str, bool]]:
        """Every setting that a number or a decision can rest on: name, value as JSON, whether it is the default.

        Nothing of how files are kept, and no text that people typed but the sources of their rules.
        """
        everything = {"cuts": self.all_cuts, "strands": self.all_strands, "standard_errors": self.all_standard_errors}
        for name, field in type(self).model_fields.items():
            if name in _KEEPING | _TAKING | {"retroactive", "reason"}:
                continue
            value = getattr(self, name)
            if not isinstance(value, BaseModel):
                rules = everything.get(name, value)
                yield name, _json(to_jsonable_python(rules, exclude_none=True)), value == field.get_default()
                continue
            for inner, detail in type(value).model_fields.items():
                own = getattr(value, inner)
                yield f"{name}.{inner}", _json(to_jsonable_python(own)), own == detail.get_default()

    @property
    def ruling(self) -> str:
        """The part of the document that closed windows rest on: what is plausible in a delivery may change any day."""
        return _json(self.model_dump(mode="json", exclude_unset=True, exclude={*_NOT_DATED, "quality", "source"}))

    @property
    def calendars(self) -> dict[str, str]:
        """Windows and free days of each school year that the district names, as JSON."""
        years = {window.school_year for window in self.windows} | {self._year(day) for day in self.no_school_days}
        return {
            year: _json(
                {
                    "windows": [
                        window.model_dump(mode="json", exclude_none=True)
                        for window in self.windows
                        if window.school_year == year
                    ],
                    "no_school_days": sorted(day.isoformat() for day in self.no_school_days if self._year(day) == year),
                }
            )
            for year in sorted(years)
        }

    def _year(self, day: date) -> str:
        return str(day.year + (self.year_starts_month > 1 and day.month >= self.year_starts_month))

    @property
    def zone(self) -> ZoneInfo:
        """The district's time zone."""
        return ZoneInfo(self.time_zone)

    @cached_property
    def all_cuts(self) -> tuple[CutRule, ...]:
        """The district's rules before the defaults: the first that fits a test decides."""
        own = sorted(self.cuts, key=lambda rule: rule.valid_from, reverse=True)
        named = {rule.measure for rule in own}
        return (*own, *(rule for rule in DEFAULT_CUTS if rule.measure not in named))

    @cached_property
    def all_strands(self) -> tuple[StrandRule, ...]:
        """The district's before the defaults, the latest first: the first that fits a strand decides."""
        return (*sorted(self.strands, key=lambda rule: rule.valid_from, reverse=True), *DEFAULT_STRANDS)

    @cached_property
    def all_standard_errors(self) -> tuple[StandardError, ...]:
        """The district's before the defaults, the latest first."""
        own = sorted(self.standard_errors, key=lambda each: each.valid_from, reverse=True)
        return (*own, *DEFAULT_STANDARD_ERRORS)

    def select_rule(self, measure: str) -> SelectRule:
        """Which of several tests in a window counts (METHOD 1.2)."""
        return self.select.get(measure, "growth_measure" if measure.startswith("map_") else "latest")


@cache
def _time_zones() -> frozenset[str]:
    """Their names are looked up in some hundreds of files, and a run reads a policy for every district."""
    return frozenset(available_timezones())


def read_policy(path: Path) -> DistrictPolicy:
    """Read one district's policy.

    Raises:
        UnreadablePolicy: the file is not TOML, lacks `time_zone`, or a setting contradicts another.
    """
    try:
        policy = DistrictPolicy.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UnreadablePolicy(f"{path.name}: not readable as TOML: {error}. Mend the line it names.") from None
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'policy'}: {_fault(each)}"
            for each in error.errors(include_input=False, include_url=False)
        )
        raise UnreadablePolicy(f"{path.name}: {told}.") from None
    faults = [*_unknown_measures(policy), *_gaps(policy), *_idle_pins(policy)]
    if faults:
        raise UnreadablePolicy(f"{path.name}: {' '.join(faults)}")
    return policy


_MEANT = {
    "tuple_type": "a list is needed here, or tables under a name in double brackets",
    "model_type": "a table is needed here, under its name in brackets",
    "dict_type": "a table is needed here, under its name in brackets",
}


def _fault(error: ErrorDetails) -> str:
    """What is wrong with a setting, in words that say what to do."""
    *place, name = error["loc"] or ("",)
    if error["type"] != "extra_forbidden":
        return _MEANT.get(error["type"], error["msg"].removeprefix("Value error, "))
    settings = _settings(place)
    homes = [each for each in settings if not place and name in _settings([each])]
    like = get_close_matches(str(name), settings, 1)
    if homes:
        return f"there is no such setting here; it stands under [{homes[0]}]"
    return f"there is no such setting; {f'perhaps {like[0]} is meant' if like else 'docs/policy.md lists them'}"


def _settings(place: Sequence[int | str]) -> list[str]:
    """Names of the settings of the table at this place of a policy; none where there is no table."""
    model: type[BaseModel] = DistrictPolicy
    for name in (part for part in place if isinstance(part, str)):
        annotation = model.model_fields[name].annotation
        tables = [each for each in (annotation, *get_args(annotation)) if isinstance(each, type)]
        if not tables or not issubclass(tables[0], BaseModel):
            return []
        model = tables[0]
    return list(model.model_fields)


def _unknown_measures(policy: DistrictPolicy) -> Iterator[str]:
    """Settings that name a measure no layout has: a name mistyped would rule nothing, and nobody would notice."""
    named = [
        *((f"cuts.{n}.measure", cut.measure) for n, cut in enumerate(policy.cuts) if cut.measure != ANY_MEASURE),
        *((f"pinned_cuts.{n}.measure", pin.measure) for n, pin in enumerate(policy.pinned_cuts)),
        *((f"standard_errors.{n}.measure", each.measure) for n, each in enumerate(policy.standard_errors)),
        *((f"strands.{n}.measure", each.measure) for n, each in enumerate(policy.strands)),
        *(("select", measure) for measure in policy.select),
        *((f"primary_measures.{grade}", measure) for grade, measure in policy.primary_measures.items()),
        *(("tiers.secondary_measures", measure) for measure in policy.tiers.secondary_measures),
        *(("tiers.fallback_measures", measure) for measure in policy.tiers.fallback_measures),
    ]
    if not named:
        return
    known = measures() | {cut.measure for cut in DEFAULT_CUTS} | set(policy.local_measures)
    for setting, measure in named:
        if measure not in known:
            like = get_close_matches(measure, sorted(known - {ANY_MEASURE}), 1)
            meant = f" Is {like[0]} meant?" if like else ""
            yield (
                f"{setting}: no layout has a measure {measure}.{meant}"
                " Measures of the district's own files are listed under local_measures."
            )


def _gaps(policy: DistrictPolicy) -> Iterator[str]:
    """Measures with rules that leave out a window, or a grade between two that have one."""
    own: dict[str, list[CutRule]] = {}
    for cut in policy.cuts:
        own.setdefault(cut.measure, []).append(cut)
    for measure, rules in own.items():
        places = [GRADES.index(grade) for rule in rules for grade in rule.grades or GRADES]
        grades = GRADES[min(places) : max(places) + 1]
        for season in SEASONS:
            fitting = [rule for rule in rules if not rule.seasons or season in rule.seasons]
            left = [grade for grade in grades if not any(not r.grades or grade in r.grades for r in fitting)]
            if left:
                of = "" if len(left) == len(grades) else f" in grades {', '.join(left)}"
                yield f"cuts of {measure}: no rule for {season}{of}. Name them in grades and seasons of a rule."


def _idle_pins(policy: DistrictPolicy) -> Iterator[str]:
    """Pins that no rule asks for, and pins that contradict each other."""
    seen: set[tuple[object, ...]] = set()
    for number, pin in enumerate(policy.pinned_cuts):
        asking = [rule for rule in policy.all_cuts if rule.by == "percentile" and rule.measure == pin.measure] or [
            rule for rule in policy.all_cuts if rule.by == "percentile" and rule.measure == ANY_MEASURE
        ]
        used = {getattr(rule, name) for rule in asking for name in CUT_NAMES}
        if pin.percentile_below not in used:
            yield f"pinned_cuts.{number}.percentile_below: no rule of {pin.measure} cuts at {pin.percentile_below:g}."
        key = (pin.measure, pin.grade, pin.season, pin.norm_version, pin.percentile_below, pin.valid_from)
        if key in seen:
            yield f"pinned_cuts.{number}: a second pin of the same cut from the same day on."
        seen.add(key)


def season_order(season: str) -> int:
    """0 fall, 1 winter, 2 spring."""
    return SEASONS.index(season)
