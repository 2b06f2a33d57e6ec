"""The numbers educators own, dated and sourced: windows, cuts, thresholds, and the words that mark math classes."""

import json
import tomllib
from datetime import date
from functools import cached_property
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from schemas.projections import SEASONS

Season = Literal["fall", "winter", "spring"]
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


class UnreadablePolicy(Exception):
    """A policy file cannot be used; says which file, which setting and what is wrong with it."""


class _Policy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CutRule(_Policy):
    """Need levels of one measure. ``need`` always means below the cut; a score on the cut is not in need."""

    measure: str
    by: Literal["percentile", "placement", "score"]
    valid_from: date = date(1980, 1, 1)
    source: str = Field(min_length=1)
    grades: tuple[str, ...] = ()
    """Grades the rule is for; empty: all."""
    seasons: tuple[Season, ...] = ()
    """Windows the rule is for; empty: all."""
    tier_3_below: float | None = None
    tier_2_below: float | None = None
    watch_below: float | None = None
    tier_3: tuple[str, ...] = ()
    tier_2: tuple[str, ...] = ()
    watch: tuple[str, ...] = ()
    none: tuple[str, ...] = ()
    """Vendor labels of each level, where the rule goes by placement; other labels leave the level unknown."""
    class_need_below: float | None = None
    class_need: tuple[str, ...] = ()
    """What the class rule counts: percentile or score below this, or these labels."""

    @model_validator(mode="after")
    def _complete(self) -> "CutRule":
        if self.by == "placement":
            if not (self.tier_3 or self.tier_2) or not self.class_need:
                raise ValueError(
                    f"{self.measure}: a rule by placement names the labels of tier_2 or tier_3 and class_need"
                )
            return self
        if self.tier_2_below is None or self.class_need_below is None:
            raise ValueError(f"{self.measure}: a rule by {self.by} needs tier_2_below and class_need_below")
        cuts = [c for c in (self.tier_3_below, self.tier_2_below, self.watch_below) if c is not None]
        if cuts != sorted(cuts):
            raise ValueError(f"{self.measure}: cuts must rise from tier 3 over tier 2 to watch")
        return self

    @property
    def class_base_rate(self) -> float | None:
        """Share of an average class below the class-need cut: PR < c is (c - 1) / 100 (SEMANTICS 6.4)."""
        return None if self.by != "percentile" or self.class_need_below is None else (self.class_need_below - 1) / 100

    @property
    def class_need_name(self) -> str:
        """The class-need cut in words."""
        if self.by == "placement":
            return "vendor label"
        return f"{'PR' if self.by == 'percentile' else 'score'}<{self.class_need_below:g}"


def _default_cuts() -> tuple[CutRule, ...]:
    document = tomllib.loads(files("schemas").joinpath("cuts.toml").read_text("utf-8"))
    return tuple(CutRule.model_validate(rule) for rule in document["cuts"])


DEFAULT_CUTS = _default_cuts()
"""Rules of `cuts.toml`; the last is for any measure with national percentiles that has no rule of its own."""
ANY_MEASURE = "*"


class Window(_Policy):
    """One benchmark window of one school year."""

    school_year: str
    season: Season
    begins_on: date | None = None
    ends_on: date | None = None
    reference_on: date | None = None
    """Day that decides class membership; absent: the lower median test day."""

    @model_validator(mode="after")
    def _range(self) -> "Window":
        if (self.begins_on is None) != (self.ends_on is None):
            raise ValueError(f"window {self.season} of {self.school_year} needs both begins_on and ends_on, or neither")
        if self.begins_on and self.ends_on and self.ends_on < self.begins_on:
            raise ValueError(f"window {self.season} of {self.school_year} ends before it begins")
        return self


class ClassRule(_Policy):
    """When a class is looked at (METHOD 3, knobs of METHOD 6)."""

    tau_low: float = 0.10
    tau: float = 0.20
    severe: float = 0.50
    class_minimum: int = 10
    coverage_minimum: float = 0.80
    school_coverage_minimum: float = 0.80
    false_discovery: float = 0.10
    """Largest mean probability that the flags of a district, measure and window are wrong (METHOD 3.4)."""
    flag_probability: float = 0.80
    watch_probability: float = 0.50
    high_share: float = 0.50
    """A grade is a system matter when more than this share of its classes is probably above tau."""
    low_coverage_share: float = 1 / 3
    """More than this share of classes with low coverage makes a school-grade a data matter."""
    system_probability: float = 0.90
    outlier_probability: float = 0.90
    scope_share: float = 0.20
    """A school has results in a grade from this share of its roster on (SEMANTICS 7.3)."""
    scope_peers: float = 0.80
    mobile_after_days: int = 10
    mobile_before_days: int = 20
    """School days of SEMANTICS 7.2."""


class CycleRule(_Policy):
    """When a cycle is judged, and how (METHOD 2.3, 2.4)."""

    shortest_days: int = 21
    longest_days: int = 42
    dose_minimum: float = 0.80
    fidelity_minimum: float = 0.80
    probes_minimum: int = 4
    level_probes: int = 3
    goal_probes: int = 2
    poor_below: float = 0.20
    assumed_minutes: float | None = None
    """Minutes taken for an attended session that has none; absent: not assumed."""


class QualityRule(_Policy):
    """What is plausible in a delivery, and what holds a file."""

    match_rate_minimum: float = 0.5
    year_disagreement_maximum: float = 0.05
    score_drift_maximum: float = 15.0
    """Change of a measure's mean percentile from the previous window that is reported."""
    tested_share_minimum: float = 0.5
    """A school with a smaller share of its students tested is reported."""
    volume_drop_maximum: float = 0.5
    """A school's tests of a measure may fall by this share from one window to the next before it is reported."""
    match_rate_expected: float = 0.95
    """A file with a smaller match rate is loaded and reported."""
    blocking: tuple[str, ...] = ()
    """Expectations that hold a district-year instead of warning."""


SelectRule = Literal["growth_measure", "lowest_sem", "latest", "first", "median3"]


def _years(value: Any) -> Any:
    return tuple(str(each) for each in value) if isinstance(value, list) else value


_KEEPING = frozenset({"landing", "archive_days_after_year", "own_warehouse"})
_NOT_DATED = _KEEPING | {"windows", "no_school_days", "valid_from", "retroactive", "reason"}
"""Settings that are no part of a dated policy: calendars go by school year, the rest says how files are kept."""


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


class DistrictPolicy(_Policy):
    """Everything a district decides; what it leaves out takes the documented default."""

    time_zone: str
    valid_from: date = date(1980, 1, 1)
    source: str = "Defaults of the method."
    retroactive: bool = False
    """Meant for windows that are closed already; needs a reason (SEMANTICS 5.3)."""
    reason: str | None = None
    profile: Literal["default", "colorado"] = "default"
    landing: Literal["move", "keep"] = "move"
    archive_days_after_year: int | None = Field(default=None, ge=0)
    """Days after the end of its school year for which a loaded file stays in the archive; absent: until somebody
    deletes it, because no file is destroyed that nobody asked to destroy (decision 7)."""
    own_warehouse: bool = False
    """Whether a run also publishes `warehouse/<district>.duckdb`, with this district's rows alone."""
    year_starts_month: int = Field(default=7, ge=1, le=12)
    windows: tuple[Window, ...] = ()
    no_school_days: tuple[date, ...] = ()
    cuts: tuple[CutRule, ...] = ()
    select: dict[str, SelectRule] = {}
    primary_measures: dict[str, str] = {}
    """Grade to measure; absent: the measure with most valid tests in the district and grade."""
    season_names: dict[str, Season] = {}
    """A district's own names of seasons, such as `Feb-Mar`."""
    math_codes: Annotated[tuple[str, ...], BeforeValidator(_years)] = MATH_CODES
    math_words: tuple[str, ...] = MATH_WORDS
    remedial_words: tuple[str, ...] = REMEDIAL_WORDS
    advanced_words: tuple[str, ...] = ADVANCED_WORDS
    homeroom_grades: tuple[str, ...] = ("K", "1", "2", "3", "4", "5")
    classes: ClassRule = ClassRule()
    cycles: CycleRule = CycleRule()
    quality: QualityRule = QualityRule()

    @model_validator(mode="after")
    def _coherent(self) -> "DistrictPolicy":
        if self.time_zone not in available_timezones():
            raise ValueError(f"time_zone {self.time_zone!r} is not an IANA time zone such as America/Denver")
        for rule in self.all_cuts:
            base = rule.class_base_rate
            if base is not None and base >= self.classes.tau:
                raise ValueError(
                    f"{rule.measure}: class_need_below = {rule.class_need_below:g} puts {base:.0%} of an average class"
                    f" in need by construction, which is not below tau = {self.classes.tau:g};"
                    " a norm-referenced cut at or above the 20th percentile cannot be used with the 20 % rule"
                )
        if self.retroactive and not (self.reason or "").strip():
            raise ValueError("retroactive = true needs a reason: who decided, and why closed windows are read anew")
        ranges = sorted((w.begins_on, w.ends_on, w.season) for w in self.windows if w.begins_on and w.ends_on)
        for (_, ends, season), (begins, _, other) in pairwise(ranges):
            if begins <= ends:
                raise ValueError(f"windows {season} and {other} overlap on {begins.isoformat()}")
        return self

    @property
    def document(self) -> str:
        """What the district says that a window can depend on, as JSON; no calendar, nothing of how files are kept."""
        return _json(self.model_dump(mode="json", exclude_unset=True, exclude=set(_NOT_DATED)))

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

    def select_rule(self, measure: str) -> SelectRule:
        """Which of several tests in a window counts (METHOD 1.2)."""
        return self.select.get(measure, "growth_measure" if measure.startswith("map_") else "latest")


def read_policy(path: Path) -> DistrictPolicy:
    """Read one district's policy.

    Raises:
        UnreadablePolicy: the file is not TOML, lacks `time_zone`, or a setting contradicts another.
    """
    try:
        return DistrictPolicy.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UnreadablePolicy(f"{path.name}: not readable as TOML: {error}. Mend the line it names.") from None
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(str(part) for part in each['loc']) or 'policy'}: {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors(include_input=False, include_url=False)
        )
        raise UnreadablePolicy(f"{path.name}: {told}.") from None


def season_order(season: str) -> int:
    """0 fall, 1 winter, 2 spring."""
    return SEASONS.index(season)
