"""Rows picked and put in order: what joins and a sort would give."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from transforms.rows import among, in_order, outside

ROWS = pl.DataFrame(
    {"a": ["x", "y", "x", None, "z", "x"], "b": [1, 1, 2, 1, None, 1], "wide": [[1], [], None, [2], [3], [4]]}
)
KEYS = pl.DataFrame({"b": [1, 1, None, 1], "a": ["x", "x", "z", None], "other": [1, 2, 3, 4]})


@pytest.mark.parametrize("keys", [KEYS, KEYS.clear(), ROWS], ids=["some", "none", "own"])
@pytest.mark.parametrize("on", [["a"], ["a", "b"]], ids=["one", "two"])
def test_rows_are_those_of_a_join_once_and_in_their_order(keys: pl.DataFrame, on: list[str]):
    assert_frame_equal(among(ROWS, keys, on), ROWS.join(keys, on=on, how="semi", maintain_order="left"))
    assert_frame_equal(outside(ROWS, keys, on), ROWS.join(keys, on=on, how="anti", maintain_order="left"))


@pytest.mark.parametrize(
    ("line", "slot"),
    [
        ([1, 1, 2, 3], [0, 1, 0, 0]),
        ([1, 1, 2, 3], [1, 0, 0, 0]),
        ([2, 1, 3, 4], [0, 0, 0, 0]),
        ([1, 2, 3, 4], [3, 2, 1, 0]),
        ([1, None, 2, 3], [0, 0, 0, 0]),
        ([7], [0]),
        ([], []),
    ],
)
def test_rows_in_order_are_those_of_a_sort(line: list[int | None], slot: list[int]):
    rows = pl.DataFrame({"line": line, "slot": slot}, schema={"line": pl.Int64, "slot": pl.Int32}).with_row_index()
    assert_frame_equal(in_order(rows, ["line", "slot"]), rows.sort("line", "slot"))
    shuffled = rows.reverse()
    assert_frame_equal(in_order(shuffled, ["line", "slot"]), rows.sort("line", "slot"))
