"""Who is below what: cut rules, strands, pinned scores and standard errors, with the defaults of `cuts.toml`."""

import tomllib
from datetime import date
from importlib.resources import files
from itertools import combinations
from typing import Literal

from pydantic import Field, model_validator

from schemas.policy.model import GRADES, Grade, Policy, Scale, Season, as_read

ANY_MEASURE = "*"
CUT_NAMES = ("tier_3_below", "tier_2_below", "watch_below", "class_need_below")
LABEL_LEVELS = ("tier_3", "tier_2", "watch", "none")


class CutRule(Policy):
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
        levels = {level: {as_read(label) for label in getattr(self, level)} for level in LABEL_LEVELS}
        for (level, labels), (other, others) in combinations(levels.items(), 2):
            if labels & others:
                twice = ", ".join(sorted(labels & others))
                raise ValueError(f"{self.measure}: the label {twice} stands in {level} and in {other}")
        alone = {as_read(label) for label in self.class_need} - set().union(*levels.values())
        if alone:
            raise ValueError(f"{self.measure}: class_need names {', '.join(sorted(alone))}, which has no level")

    @property
    def class_base_rate(self) -> float | None:
        """Share of an average class below the class-need cut: PR < c is (c - 1) / 100 (SEMANTICS 6.4)."""
        return None if self.by != "percentile" or self.class_need_below is None else (self.class_need_below - 1) / 100

    @property
    def levels(self) -> dict[str, str]:
        """Vendor label, as it is compared, to the level it means."""
        return {as_read(label): level for level in LABEL_LEVELS for label in getattr(self, level)}

    @property
    def needs(self) -> frozenset[str]:
        """Vendor labels, as they are compared, that the class rule counts."""
        return frozenset(map(as_read, self.class_need))

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


class StrandRule(Policy):
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
        twice = {as_read(label) for label in self.need} & {as_read(label) for label in self.none}
        if twice:
            raise ValueError(f"{self.measure}: the label {', '.join(sorted(twice))} stands in need and in none")
        return self

    @property
    def labels(self) -> dict[str, bool]:
        """Vendor label, as it is compared, to whether it is in need."""
        return {as_read(label): True for label in self.need} | {as_read(label): False for label in self.none}

    @property
    def named(self) -> list[str]:
        """Strands, as they are compared."""
        return [as_read(strand) for strand in self.strands]


class PinnedCut(Policy):
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


class StandardError(Policy):
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
