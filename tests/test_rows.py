"""Rows picked by the keys of another table: what semi and anti joins would give."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from transforms.rows import among, outside

ROWS = pl.DataFrame(
    {"a": ["x", "y", "x", None, "z", "x"], "b": [1, 1, 2, 1, None, 1], "wide": [[1], [], None, [2], [3], [4]]}
)
KEYS = pl.DataFrame({"b": [1, 1, None, 1], "a": ["x", "x", "z", None], "other": [1, 2, 3, 4]})


@pytest.mark.parametrize("keys", [KEYS, KEYS.clear(), ROWS], ids=["some", "none", "own"])
@pytest.mark.parametrize("on", [["a"], ["a", "b"]], ids=["one", "two"])
def test_rows_are_those_of_a_join_once_and_in_their_order(keys: pl.DataFrame, on: list[str]):
    assert_frame_equal(among(ROWS, keys, on), ROWS.join(keys, on=on, how="semi", maintain_order="left"))
    assert_frame_equal(outside(ROWS, keys, on), ROWS.join(keys, on=on, how="anti", maintain_order="left"))
