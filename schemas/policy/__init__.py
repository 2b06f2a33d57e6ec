"""The numbers educators own, dated and sourced: windows, cuts, thresholds, and the words that mark math classes.

Everything public is imported from here. `model` is what all parts share, `cuts` who is below what, `rules` the
thresholds, `district` all of it together as one district's policy, `home` what the agency decided for all of
them, `state` what a state publishes, `reading` a policy file and what is wrong with it.
"""

from schemas.policy.cuts import (
    ANY_MEASURE,
    CUT_NAMES,
    DEFAULT_CUTS,
    DEFAULT_STANDARD_ERRORS,
    DEFAULT_STRANDS,
    CutRule,
    PinnedCut,
    StandardError,
    StrandRule,
)
from schemas.policy.district import (
    DEFAULT_WINDOW_ENDS,
    FROZEN_AFTER_DAYS,
    RAPID_GUESSING_PERCENT,
    SECTION_VOCABULARY,
    DistrictPolicy,
    Window,
)
from schemas.policy.home import NO_LINKS, HomePolicy
from schemas.policy.model import GRADES
from schemas.policy.reading import (
    UnreadablePolicy,
    policy_on_record,
    read_home_policy,
    read_policy,
    read_state_policy,
)
from schemas.policy.rules import (
    ACCURACY_RUBRICS,
    AccuracyRule,
    ClassRule,
    CycleRule,
    Expectation,
    FormFamily,
    GrowthNorm,
    QualityRule,
    ResponseRule,
    TierRule,
)
from schemas.policy.state import PROFILES, StatePolicy, StateProfile

__all__ = [
    "ACCURACY_RUBRICS",
    "ANY_MEASURE",
    "CUT_NAMES",
    "DEFAULT_CUTS",
    "DEFAULT_STANDARD_ERRORS",
    "DEFAULT_STRANDS",
    "DEFAULT_WINDOW_ENDS",
    "FROZEN_AFTER_DAYS",
    "GRADES",
    "NO_LINKS",
    "PROFILES",
    "RAPID_GUESSING_PERCENT",
    "SECTION_VOCABULARY",
    "AccuracyRule",
    "ClassRule",
    "CutRule",
    "CycleRule",
    "DistrictPolicy",
    "Expectation",
    "FormFamily",
    "GrowthNorm",
    "HomePolicy",
    "PinnedCut",
    "QualityRule",
    "ResponseRule",
    "StandardError",
    "StatePolicy",
    "StateProfile",
    "StrandRule",
    "TierRule",
    "UnreadablePolicy",
    "Window",
    "policy_on_record",
    "read_home_policy",
    "read_policy",
    "read_state_policy",
]
