"""A policy file to a policy, or to words that say which setting is wrong and what to do about it."""

import json
import tomllib
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schemas.exports import measures
from schemas.policy.cuts import ANY_MEASURE, CUT_NAMES, DEFAULT_CUTS, CutRule
from schemas.policy.district import DistrictPolicy
from schemas.policy.home import HomePolicy
from schemas.policy.model import GRADES, ON_RECORD
from schemas.policy.state import PROFILES, StatePolicy, StateProfile
from schemas.projections import SEASONS

Model = TypeVar("Model", bound=BaseModel)


class UnreadablePolicy(Exception):
    """A policy file cannot be used; says which file, which setting and what is wrong with it."""


def read_policy(path: Path) -> DistrictPolicy:
    """Read one district's policy.

    Raises:
        UnreadablePolicy: the file is not TOML, lacks `time_zone`, or a setting contradicts another.
    """
    policy = _read(path, DistrictPolicy)
    faults = [*_unknown_measures(policy), *_gaps(policy), *_idle_pins(policy)]
    if faults:
        raise UnreadablePolicy(f"{path.name}: {' '.join(faults)}")
    return policy


def policy_on_record(document: str) -> tuple[DistrictPolicy, list[str]]:
    """A policy that was recorded, by whatever release, and the settings that this one reads otherwise.

    What was decided is not refused afterwards. Settings that contradict one another by today's rules stand as they
    were decided. One that today's rules do not know, or whose value they refuse, takes its default, and so does a
    rule of a list: it is left out. Each is named, for people to decide it anew.

    Raises:
        UnreadablePolicy: it is no policy at all.
    """
    try:
        return DistrictPolicy.model_validate_json(document), []
    except ValidationError as error:
        faults = [".".join(map(str, each["loc"])) or "policy" for each in error.errors(include_input=False)]
    said = json.loads(document)
    while True:
        try:
            return DistrictPolicy.model_validate_json(json.dumps(said), context=ON_RECORD), faults
        except ValidationError as error:
            refused = error.errors(include_input=False)[0]
        if not _left_out(said, refused):
            raise UnreadablePolicy("a policy on record is none that this release can read; use the release before")


def _left_out(said: Any, refused: ErrorDetails) -> bool:
    """Take the setting that was refused out of the document; False where nothing is left to take."""
    place = list(refused["loc"])
    if refused["type"] == "missing":
        place = place[:-1]
    whole = next((number for number, part in enumerate(place) if isinstance(part, int)), len(place) - 1)
    if not place:
        return False
    for part in place[:whole]:
        said = said[part]
    try:
        del said[place[whole]]
    except (KeyError, IndexError, TypeError):
        return False
    return True


def read_state_policy(path: Path, profile: StateProfile) -> StatePolicy:
    """What the state publishes: the profile, with what the file says otherwise; the profile alone without a file.

    Raises:
        UnreadablePolicy: the file cannot be used, or is for another profile.
    """
    if not path.exists():
        return PROFILES[profile]
    said = _read(path, StatePolicy)
    if said.profile != profile:
        raise UnreadablePolicy(f"{path.name}: it is for profile {said.profile}. Publish with --profile {said.profile}.")
    own = {name: getattr(said, name) for name in said.model_fields_set}
    return PROFILES[profile].model_copy(update=own)


def read_home_policy(path: Path) -> HomePolicy:
    """What the agency decided for its home; the defaults without a file.

    Raises:
        UnreadablePolicy: the file cannot be used, or links districts without naming the agreement.
    """
    return _read(path, HomePolicy) if path.exists() else HomePolicy()


def _read(path: Path, model: type[Model]) -> Model:
    try:
        return model.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UnreadablePolicy(f"{path.name}: not readable as TOML: {error}. Mend the line it names.") from None
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'policy'}: {_fault(each, model)}"
            for each in error.errors(include_input=False, include_url=False)
        )
        raise UnreadablePolicy(f"{path.name}: {told}.") from None


_MEANT = {
    "tuple_type": "a list is needed here, or tables under a name in double brackets",
    "model_type": "a table is needed here, under its name in brackets",
    "dict_type": "a table is needed here, under its name in brackets",
}


def _fault(error: ErrorDetails, model: type[BaseModel]) -> str:
    """What is wrong with a setting, in words that say what to do."""
    *place, name = error["loc"] or ("",)
    if error["type"] != "extra_forbidden":
        return _MEANT.get(error["type"], error["msg"].removeprefix("Value error, "))
    settings = _settings(place, model)
    homes = [each for each in settings if not place and name in _settings([each], model)]
    like = get_close_matches(str(name), settings, 1)
    if homes:
        return f"there is no such setting here; it stands under [{homes[0]}]"
    return f"there is no such setting; {f'perhaps {like[0]} is meant' if like else 'docs/policy.md lists them'}"


def _settings(place: Sequence[int | str], model: type[BaseModel]) -> list[str]:
    """Names of the settings of the table at this place of a policy; none where there is no table."""
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
