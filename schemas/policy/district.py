"""Everything one district decides: its calendar, its words, and the rules it sets."""

import json
from collections.abc import Iterator
from datetime import date
from functools import cache, cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationInfo, model_validator
from pydantic_core import to_jsonable_python

from schemas.exports import layouts
from schemas.policy.cuts import (
    DEFAULT_CUTS,
    DEFAULT_STANDARD_ERRORS,
    DEFAULT_STRANDS,
    CutRule,
    PinnedCut,
    StandardError,
    StrandRule,
)
from schemas.policy.model import ON_RECORD, Grade, Policy, Season, season_order
from schemas.policy.rules import AccuracyRule, ClassRule, CycleRule, QualityRule, ResponseRule, TierRule

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


def _school_year(value: str) -> str:
    if len(value) != 4 or not value.isdecimal():
        raise ValueError(f"{value} is no school year; name the year in which it ends, such as 2026 for 2025-2026")
    return value


class Window(Policy):
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


class DistrictPolicy(Policy):
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
    invalid_rush_flags: tuple[str, ...] = ()
    """Rushing flags of a vendor, such as `Red Rush Flag`, that make a test not valid (METHOD 1.2)."""
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
    def _coherent(self, info: ValidationInfo) -> "DistrictPolicy":
        if info.context == ON_RECORD:
            return self
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
