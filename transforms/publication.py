"""What is published together: cells, the sums that hold between them, and the releases they stand in (METHOD 4.3).

Shared by `transforms.suppression`, which chooses what is withheld, and `transforms.audit`, which tries to undo it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

STUDENTS, COUNT, COMPLEMENT = "students", "count", "complement"
"""Kinds of cell: n, y and n - y."""


class Table(NamedTuple):
    """A crossing that is published with all its totals: at every place down to `place`, by `by`."""

    name: str
    by: tuple[str, ...]
    place: str | None = None


class Layout(NamedTuple):
    """The tables published together and what stands in their cells."""

    tables: tuple[Table, ...]
    places: tuple[str, ...] = ()
    """Columns of the hierarchy below the whole, widest first: district, school."""
    apart: tuple[str, ...] = ()
    """Columns that are never summed over, such as the window."""
    students: str | None = None
    """Column of n. Without it the counts stand alone."""
    counts: tuple[str, ...] = ("count",)
    """One count has its complement in n published with it; several divide n."""

    @property
    def keys(self) -> list[str]:
        """Columns that name a cell; null where it is a total."""
        by = dict.fromkeys(name for table in self.tables for name in table.by)
        return [*self.apart, *self.places, *by]


class Rule(NamedTuple):
    """Thresholds of one publication (SEMANTICS 8.1, 8.2)."""

    min_n: int = 10
    """Fewest students of a cell that is published."""
    min_category: int = 10
    """Fewest students of a published count or complement."""
    protect_zero: bool = False
    lower: int | None = None
    """Least value of a withheld count; 1 where zeros are published, 0 where they are not."""
    c_min: int = 3
    """Whole counts that a published band must leave open (METHOD 4.2)."""

    def thresholds(self, kinds: pl.Series) -> NDArray[np.int64]:
        """Least publishable value by kind."""
        return np.where((kinds == STUDENTS).to_numpy(), self.min_n, self.min_category)

    def least(self, kinds: pl.Series) -> NDArray[np.int64]:
        """Least value a withheld cell can have for who knows this rule; a complement of zero is always withheld."""
        least = self.lower if self.lower is not None else int(not self.protect_zero)
        return np.where((kinds == COMPLEMENT).to_numpy(), 0, least)


@dataclass(frozen=True)
class Problem:
    """Cells as the unknowns of a system of sums.

    `cells` has one row per unknown, in the order of their numbers: its keys, `statistic`, `kind`, `version` (counts the
    changes of value), `release` (the first it stands in), `value` (null: not known here), `shown` (true: public; false:
    withheld for good; null: to be decided), `low` and `high` (bounds that are public themselves, such as those of a
    band; null where none are), `is_primary` (null: not known here), `level` (places given), `is_total` and `block`
    (number of the widest place; -1 for the whole). `relations` has a row per sum: -1 at the total, 1 at its parts.
    `sums` names each: `total` (a cell), `over` (the key summed over, or "statistic") and `is_implied` (it follows from
    others). `rows` are the rows that were given, each with its `release` and `cell`.
    """

    layout: Layout
    cells: pl.DataFrame
    relations: sparse.csr_array
    sums: pl.DataFrame
    rows: pl.DataFrame
    is_linked: bool

    def published(self, withheld: NDArray[np.bool_], is_primary: NDArray[np.bool_] | None = None) -> "Problem":
        """What others see if these cells are withheld: no value of theirs is left.

        `is_primary` is what only the publisher's own audit knows.
        """
        hidden = pl.Series("hidden", withheld)
        primary = pl.lit(None, pl.Boolean) if is_primary is None else pl.Series("is_primary", is_primary)
        cells = self.cells.with_columns(
            value=pl.when(~hidden).then("value"), shown=~hidden, is_primary=primary.alias("is_primary")
        )
        return replace(self, cells=cells, rows=self.rows.drop("value", "shown", "is_primary"))

    def released(self, withheld: NDArray[np.bool_]) -> pl.DataFrame:
        """Rows of the last release as they went out, values of the withheld included: for the problem of the next."""
        last = self.rows.filter(pl.col("release") == pl.col("release").max())
        shown = pl.Series("shown", ~withheld[last["cell"].to_numpy()])
        return last.with_columns(shown).select(*self.layout.keys, "statistic", "kind", "value", "shown", "low", "high")

    @cached_property
    def own(self) -> sparse.csc_array:
        """The sums that do not follow from others, by columns."""
        return self.relations[~self.sums["is_implied"].to_numpy()].tocsc()

    @property
    def ceiling(self) -> int:
        """A bound on every cell that tells nothing: a power of ten well above all that is known here."""
        known = self.cells.select(pl.max_horizontal(pl.col("value", "high").max().fill_null(0))).item()
        return int(10 ** (len(str(int(known))) + 1))


def aggregated(counts: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Sum the finest counts to every cell that the layout publishes: one row per key, null where it is a total."""
    measures = [*([layout.students] if layout.students else []), *layout.counts]
    made = []
    for level, by in _patterns(layout):
        kept = [*layout.apart, *layout.places[:level], *by]
        dropped = [pl.lit(None, counts.schema[name]).alias(name) for name in layout.keys if name not in kept]
        groups = counts.group_by(kept).agg(pl.col(measures).sum()) if kept else counts.select(pl.col(measures).sum())
        made.append(groups.with_columns(dropped).select(*layout.keys, *measures))
    return pl.concat(made).sort(layout.keys)


def long(counts: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """One row per key and statistic, of rows with a column per statistic; a null value is not known here."""
    columns = {name: (pl.col(name), COUNT) for name in layout.counts}
    if layout.students:
        columns[layout.students] = (pl.col(layout.students), STUDENTS)
        if len(layout.counts) == 1:
            (count,) = layout.counts
            columns[f"not {count}"] = (pl.col(layout.students) - pl.col(count), COMPLEMENT)
    return pl.concat(
        counts.select(
            *layout.keys,
            statistic=pl.lit(name),
            kind=pl.lit(kind),
            value=value.cast(pl.Int64),
            shown=pl.lit(None, pl.Boolean),
        )
        for name, (value, kind) in columns.items()
    )


def problem(releases: Sequence[pl.DataFrame], layout: Layout, *, is_linked: bool = True) -> Problem:
    """Cells and sums of all releases that are public together, the earliest first.

    Args:
        releases: Rows of `long`; an earlier release says in `shown` what it published. Optional columns: `low` and
            `high` bound a cell that is published as a range, `is_primary` says what its publisher must protect.
        layout: Tables of every release.
        is_linked: A cell that did not change is one unknown in all releases (SEMANTICS 8.4). Where a value is not
            known the cell is taken not to have changed.
    """
    rows = _numbered(releases, layout, is_linked)
    found = [_parts(part, layout).with_columns(release=pl.lit(at)) for at, part in enumerate(_by_release(rows))]
    relations, sums = _distinct(pl.concat(found), rows["cell"].n_unique())
    totals = sums.filter(pl.col("over") != "statistic")["total"].unique()
    cells = _cells(rows, layout).with_columns(is_total=pl.col("cell").is_in(totals.implode())).drop("cell")
    return Problem(layout, cells, relations, sums, rows, is_linked)


def _by_release(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    for release in rows["release"].unique().sort():
        yield rows.filter(pl.col("release") == release)


def _patterns(layout: Layout) -> list[tuple[int, tuple[str, ...]]]:
    """Depth of place and keys of every crossing that is published, totals included."""
    depth = {None: 0} | {name: at for at, name in enumerate(layout.places, start=1)}
    return sorted(
        {
            (level, by)
            for table in layout.tables
            for level in range(depth[table.place] + 1)
            for size in range(len(table.by) + 1)
            for by in combinations(table.by, size)
        }
    )


def _numbered(releases: Sequence[pl.DataFrame], layout: Layout, is_linked: bool) -> pl.DataFrame:
    """Rows of all releases with the number of their cell: by the order of keys, whatever order the rows came in."""
    optional = {"low": pl.Int64, "high": pl.Int64, "is_primary": pl.Boolean}
    rows = pl.concat(
        each.with_columns(pl.lit(None, kind).alias(name) for name, kind in optional.items() if name not in each.columns)
        .with_columns(release=pl.lit(at, pl.Int32))
        .select(*layout.keys, "statistic", "kind", "release", "value", "shown", *optional)
        for at, each in enumerate(releases)
    )
    name = [*layout.keys, "statistic"]
    rows = rows.sort(*name, "release").with_columns(place=pl.struct(name).rle_id())
    if is_linked:
        # 100 % of somebody is another thing than 0 of nobody: the one is withheld, the other shown.
        nobody = rows.filter(pl.col("kind") == STUDENTS, pl.col("value") == 0).select(*layout.keys, "release")
        on = [*layout.keys, "release"]
        rows = rows.join(
            nobody.with_columns(empty=pl.lit(True)), on=on, how="left", nulls_equal=True, maintain_order="left"
        )
        is_empty = (pl.col("kind") == COMPLEMENT) & pl.col("empty").fill_null(False)
        value = pl.when(is_empty).then(-1).otherwise("value")
        known = value.forward_fill().backward_fill()
        version = (known != known.shift(1)).fill_null(False).cast(pl.Int32).cum_sum().over("place")
    else:
        version = pl.col("release")
    rows = rows.with_columns(version=version).drop("empty", strict=False)
    return rows.with_columns(cell=pl.struct("place", "version").rle_id().cast(pl.Int64)).drop("place")


def _cells(rows: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """One row per unknown: what any release says of it."""
    shown = pl.col("shown")
    first = [*layout.keys, "statistic", "kind", "version"]
    merged = rows.group_by("cell", maintain_order=True).agg(
        pl.col(first).first(),
        release=pl.col("release").min(),
        value=pl.col("value").drop_nulls().first(),
        shown=pl.when(shown.any()).then(True).when(shown.is_null().any()).then(None).otherwise(False),
        low=pl.col("low").max(),
        high=pl.col("high").min(),
        is_primary=pl.col("is_primary").max(),
    )
    level = pl.sum_horizontal(pl.lit(0), *(pl.col(name).is_not_null() for name in layout.places))
    block = pl.col(layout.places[0]).rank("dense") if layout.places else pl.lit(None)
    place = pl.struct(layout.places).rank("dense") if layout.places else pl.lit(0)
    return merged.sort("cell").with_columns(
        level=level.cast(pl.Int32), block=(block.cast(pl.Int32) - 1).fill_null(-1), place=place.cast(pl.Int32)
    )


def _parts(rows: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Every sum of one release: a row per part, with its `total` and what it is summed `over`."""
    keys = layout.keys
    by = keys[len(layout.apart) + len(layout.places) :]
    found = []
    for level, crossing in _patterns(layout):
        given = {*layout.apart, *layout.places[:level], *crossing}
        here = rows.filter(
            *(pl.col(name).is_not_null() if name in given else pl.col(name).is_null() for name in (*layout.places, *by))
        )
        for over in (*layout.places[level - 1 : level], *crossing):
            parts = here.with_columns(pl.lit(None, rows.schema[over]).alias(over))
            found.append(_joined(parts, rows, [*keys, "statistic"], over))
    if layout.students:
        parts, totals = rows.filter(pl.col("kind") != STUDENTS), rows.filter(pl.col("kind") == STUDENTS)
        found.append(_joined(parts, totals, keys, "statistic"))
    return pl.concat(found)


def _joined(parts: pl.DataFrame, totals: pl.DataFrame, on: list[str], over: str) -> pl.DataFrame:
    return parts.join(totals.select(*on, total="cell"), on=on, nulls_equal=True).select(
        "total", "cell", over=pl.lit(over), is_implied=(pl.col("kind") == COMPLEMENT) & (pl.lit(over) != "statistic")
    )


def _distinct(parts: pl.DataFrame, cells: int) -> tuple[sparse.csr_array, pl.DataFrame]:
    """The sums as a matrix and their names; one that holds unchanged in several releases stands once."""
    of = ["total", "over", "is_implied"]
    sums = (
        parts.group_by(*of, "release")
        .agg(pl.col("cell").sort())
        .with_columns(text=pl.col("cell").cast(pl.List(pl.String)).list.join(","))
        .unique([*of, "text"])
        .sort(*of, "text")
        .with_row_index("sum")
    )
    entries = sums.select("sum", "cell").explode("cell")
    rows = np.r_[entries["sum"].to_numpy(), sums["sum"].to_numpy()]
    columns = np.r_[entries["cell"].to_numpy(), sums["total"].to_numpy()]
    signs = np.r_[np.ones(len(entries)), -np.ones(len(sums))]
    return sparse.csr_array((signs, (rows, columns)), shape=(len(sums), cells)), sums.select(of)
