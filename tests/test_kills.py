"""A run that is killed and run again leaves what a run leaves that nobody disturbed (`make kill` tries all)."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.kills import BOUNDARIES

RUNS = 200
SHARE = ({"home": "first", "seed": 1},)
"""What `make test` tries; a seed kills one to three runs in a row."""
SEEDS = [{"home": "later" if seed % 3 else "first", "seed": seed} for seed in range(RUNS)]
PLACES = [
    {"home": home, "boundary": name, "part": part}
    for home in ("first", "later")
    for name in BOUNDARIES
    for part in ((0.5, 1) if "states" in name else (1,) if "rename" in name else (0, 0.5, 1))
]
Ask = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Gives an order to the warm process and returns its answer."""
    command = [sys.executable, "-m", "tests.kills", str(tmp_path_factory.mktemp("kills"))]
    one_thread = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | one_thread
    ) as warm:
        assert warm.stdin and warm.stdout
        orders, answers = warm.stdin, warm.stdout

        def answer(order: dict[str, Any]) -> dict[str, Any]:
            orders.write(json.dumps(order) + "\n")
            orders.flush()
            return json.loads(answers.readline())

        yield answer
        orders.close()


@pytest.mark.parametrize(
    "order", [*SHARE, *(pytest.param(each, marks=pytest.mark.slow) for each in SEEDS if each not in SHARE)], ids=str
)
def test_a_run_killed_at_any_moment_and_run_again_leaves_what_it_would_have_left(ask: Ask, order: dict[str, Any]):
    assert ask(order)["faults"] == []


@pytest.mark.slow
@pytest.mark.parametrize("order", PLACES, ids=str)
def test_a_run_killed_at_a_boundary_and_run_again_leaves_what_it_would_have_left(ask: Ask, order: dict[str, Any]):
    answer = ask(order)
    assert answer["faults"] == []
    assert answer["stages"] != ["ended"]
