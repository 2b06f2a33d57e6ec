"""What can be proven of withheld cells: the vector's attacks, brute force, and mistakes that must be caught."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from transforms.audit import audit, intervals
from transforms.publication import Layout, Rule, Table, aggregated, long, problem
from transforms.suppression import suppress

VECTOR = json.loads((Path(__file__).parent / "data" / "vectors" / "15_suppression.json").read_text("utf-8"))
PLAIN = Rule(lower=0)
GRID = Layout(tables=(Table("table", ("row", "column")),), counts=("count",))


def vector_table():
    table = VECTOR["table"]
    counts = np.array(table["counts"])
    finest = pl.DataFrame(
        {
            "row": np.repeat(table["rows"], len(table["cols"])),
            "column": np.tile(table["cols"], len(table["rows"])),
            "count": counts.ravel(),
        }
    )
    return problem([long(aggregated(finest, GRID), GRID)], GRID)


def names(made):
    return made.cells.select(pl.format("{}.{}", "row", "column")).to_series()


def withheld(made, wanted):
    return names(made).is_in(wanted).fill_null(False).to_numpy()


@pytest.mark.parametrize("case", VECTOR["attack_by_pattern"], ids=lambda case: " ".join(case["suppressed"]))
def test_the_attacks_of_the_vector_prove_what_it_says(case):
    made = vector_table()
    found = intervals(made.published(withheld(made, case["suppressed"])), PLAIN)
    proven = {names(made)[row["cell"]]: [row["low"], row["high"]] for row in found.to_dicts()}
    assert proven == case["integer_bounds"]


def test_the_cheapest_pattern_of_the_vector_is_found_and_passes():
    made = vector_table()
    pattern = suppress(made, PLAIN)
    expected = {*VECTOR["table"]["primary"], *VECTOR["optimum"]["min_cells"]["extra_suppressed"]}
    assert set(names(made).filter(pl.Series(pattern.withheld))) == expected
    assert audit(made.published(pattern.withheld, pattern.is_primary), PLAIN).is_passed
