"""The page about policies is current, its examples can be used, and every setting does something."""

import ast
import re
from pathlib import Path

import pytest

from schemas import policy
from schemas.policy import read_policy
from schemas.policy_page import PATH, meanings, policy_page, tables

ROOT = PATH.parent.parent
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", PATH.read_text("utf-8"), re.MULTILINE | re.DOTALL)
PERMITS = {"ClassRule.norm_adjust", "DistrictPolicy.local_measures"}
"""Settings that only permit what would else be refused when the policy is read."""


def test_the_page_is_what_the_models_say():
    written = PATH.read_text("utf-8")
    assert written == policy_page(written), "run `make docs`"


def test_every_setting_says_what_it_means():
    assert not [
        f"{model.__name__}.{name}" for _, model in tables() for name, text in meanings(model).items() if not text
    ]
    assert {"DistrictPolicy", "Window", "GrowthNorm"} <= {model.__name__ for _, model in tables()}
    assert all(set(meanings(model)) == set(model.model_fields) for _, model in tables())


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_can_be_used(tmp_path: Path, example: str):
    path = tmp_path / "d1.toml"
    path.write_text(example, "utf-8")
    assert read_policy(path).model_fields_set


def test_there_are_three_examples_beside_the_shortest_and_that_of_probes():
    assert len(EXAMPLES) == 5


def named_in(tree: ast.AST) -> set[str]:
    """Attributes, words and argument names that code mentions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def test_every_setting_is_read_where_something_is_decided():
    """Outside the contracts, or by a property of the policy that is read there."""
    modules = [path for part in ("transforms", "pipelines", "warehouse") for path in (ROOT / part).rglob("*.py")]
    used = set().union(*(named_in(ast.parse(path.read_text("utf-8"))) for path in modules))
    own = [ast.parse(path.read_text("utf-8")) for path in Path(str(policy.__file__)).parent.glob("*.py")]
    properties = [
        node
        for each in (part for module in own for part in module.body)
        if isinstance(each, ast.ClassDef)
        for node in each.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]
    for _ in properties:
        used |= set().union(*(named_in(node) for node in properties if node.name in used))
    knobs = {f"{model.__name__}.{name}" for _, model in tables() for name in model.model_fields}
    assert {knob for knob in knobs if knob.split(".")[1] not in used} == PERMITS
