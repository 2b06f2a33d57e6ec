"""The reference part of docs/policy.md, written from the policy's models and the default rules."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from schemas.policy import DEFAULT_CUTS, DEFAULT_STANDARD_ERRORS, DEFAULT_STRANDS, GRADES, DistrictPolicy

PATH = Path(__file__).parent.parent / "docs" / "policy.md"
SETTINGS = "## All settings"
"""People write what stands before this heading."""
_SOURCE = re.compile(r" \(((?:METHOD|SEMANTICS|decision) [^()]*)\)")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
Model = type[BaseModel]


def policy_page(written: str) -> str:
    """The page as it should be: what people wrote, then every setting and the default rules."""
    opening, _, _ = written.partition(SETTINGS)
    return "\n".join(
        [
            f"{opening}{SETTINGS}\n",
            "Written by `make docs` from `schemas/policy/` and `schemas/cuts.toml`; a test fails when it is out of",
            "date. METHOD, SEMANTICS: chapters of the method that this program follows.\n",
            *(_settings(place, model) for place, model in tables()),
            "## Default rules\n",
            "A district's own `[[cuts]]` of a measure replace all default ones of it; its strands and standard errors",
            "come before the default ones.\n",
            _rules("cuts", DEFAULT_CUTS),
            _rules("strands", DEFAULT_STRANDS),
            _rules("standard_errors", DEFAULT_STANDARD_ERRORS),
        ]
    )


def tables(model: Model = DistrictPolicy, below: str = "") -> Iterator[tuple[str, Model]]:
    """Every table of a policy file, with the header it stands under."""
    if not below:
        yield "Top of the file", model
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        inner = next((each for each in kinds if isinstance(each, type) and issubclass(each, BaseModel)), None)
        if inner is not None:
            header = f"{below}{name}"
            yield f"`[{header}]`" if inner is field.annotation else f"`[[{header}]]`", inner
            yield from tables(inner, f"{header}.")


def meanings(model: Model) -> dict[str, str]:
    """The text below each setting. Read from the source here alone: pydantic would read it at every start."""
    module = ast.parse(Path(inspect.getfile(model)).read_text("utf-8"))
    (found,) = (each for each in module.body if isinstance(each, ast.ClassDef) and each.name == model.__name__)
    told = {}
    for line, following in zip(found.body, [*found.body[1:], found.body[0]], strict=True):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            text = following.value if isinstance(following, ast.Expr) else None
            told[line.target.id] = " ".join(str(text.value).split()) if isinstance(text, ast.Constant) else ""
    return told


class Explained(NamedTuple):
    """A table of a policy in words."""

    about: str
    settings: dict[str, tuple[str, str]]
    """Meaning and source by name of the setting; the source is blank where none is named."""


def explained(model: Model) -> Explained:
    """What a table of a policy and each of its settings mean, their sources apart."""
    about = " ".join((model.__doc__ or "").split())
    general = _SOURCE.search(about)
    settings = {}
    for name, meaning in meanings(model).items():
        own = _SOURCE.search(meaning) or general
        settings[name] = _SOURCE.sub("", meaning), own[1] if own else ""
    return Explained(_SOURCE.sub("", about), settings)


def _settings(place: str, model: Model) -> str:
    about, settings = explained(model)
    rows = []
    for name, (meaning, source) in settings.items():
        told = " ".join(filter(None, [meaning, _choices(model, name)]))
        rows.append(f"| {' | '.join((f'`{name}`', _default(model, name), told, source))} |")
    head = ["| setting | default | meaning | source |", "| --- | --- | --- | --- |"]
    return "\n".join([f"### {place}\n", about, "", *head, *rows, ""])


def _choices(model: Model, name: str) -> str:
    annotation = model.model_fields[name].annotation
    if get_origin(annotation) is not Literal or get_args(annotation) == get_args(Literal[GRADES]):
        return ""
    return f"One of {', '.join(f'`{each}`' for each in get_args(annotation))}."


def _default(model: Model, name: str) -> str:
    field = model.model_fields[name]
    if field.is_required():
        return "required"
    if isinstance(field.default, BaseModel):
        return "see below"
    value = to_jsonable_python(field.default)
    return "none" if value in (None, [], {}) else f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    """A value as a policy file has it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    return f'"{value}"' if isinstance(value, str) and not _DAY.fullmatch(value) else str(value)


def _rules(name: str, rules: tuple[BaseModel, ...]) -> str:
    """Default rules as a table with the settings that any of them has, the source last."""
    given = [to_jsonable_python(rule.model_dump(exclude_unset=True)) for rule in rules]
    named = sorted({each for rule in given for each in rule}, key=list(type(rules[0]).model_fields).index)
    order = sorted(named, key="source".__eq__)
    rows = [f"| {' | '.join(_cell(rule.get(each)) for each in order)} |" for rule in given]
    return "\n".join([f"### Default {name}\n", f"| {' | '.join(order)} |", f"|{' --- |' * len(order)}", *rows, ""])


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
