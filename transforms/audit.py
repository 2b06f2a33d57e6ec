"""What an attacker can prove of every withheld cell from all that is published (METHOD 4.5, SEMANTICS 8.2-8.5).

Nothing here believes the solver that chose the cells. A cell passes only by a witness: two tables of whole numbers that
agree with everything published, within the bounds an attacker knows, and lie far enough apart in that cell. Tables are
found by linear programmes and believed after arithmetic in whole numbers; one pair serves many cells. Subtraction
alone says of most cells that are known too well that they are. What is neither goes to the integer programme, cell by
cell. No message holds a value.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from transforms.programmes import MergedChanges, furthest_whole, whole_part, whole_table
from transforms.publication import COMPLEMENT, Layout, Problem, Rule, problem
from transforms.scopes import Scopes, components

Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]

_TOGETHER = 300
"""Cells, at least, of one linear programme over cells that sums do not link to others."""
_ROUNDS = 12
"""Pairs of tables tried on many cells at once, before cells are sought one by one."""
_SEEN = 50
"""Of so many cells one must be sought, or they are not tried at once."""
_SUBTRACTIONS = 100
"""Times that bounds are narrowed by all sums, if they do not come to rest before."""


@dataclass(frozen=True)
class AuditReport:
    """What was found. `findings` names table keys, `statistic`, `release` and the `rule` that is broken."""

    findings: pl.DataFrame
    cells: int
    """Withheld cells, and bands of small counts: every one audited."""
    by_witness: int
    """Of them, proven by a pair of tables that served many."""
    by_solver: int
    """Of the others, those settled by an integer programme of their own; subtraction settles the rest."""

    @property
    def is_passed(self) -> bool:
        return self.findings.is_empty()


def audit(published: Problem, rule: Rule, known: Whole | None = None) -> AuditReport:
    """Try to undo a publication.

    Broken rules: `small` (a shown value under the threshold), `remainder` (a shown total leaves a small sum to its
    withheld parts), `difference` (two releases differ by a small number), `narrow` (a withheld cell, or a band, is
    known too well), `contradiction` (no whole numbers agree with what is published).

    Args:
        published: `Problem.published`, or what somebody else published. Where `is_primary` is not known every
            withheld cell is held to the width of a primary.
        rule: Thresholds; public.
        known: A table to start from, such as the true one. It is used only if it agrees with all that is published.
    """
    attack = _Attack(published, rule)
    if not attack.begin(known):
        return AuditReport(_named(published, attack.contradicted, "contradiction"), attack.count, 0, 0)
    attack.seek()
    by_witness = int(np.count_nonzero(attack.is_wide & (attack.need > 0)))
    by_solver = int(np.count_nonzero(~attack.is_settled))
    attack.settle()
    findings = [
        _named(published, _small(published, rule), "small"),
        _named(published, _remainders(published, rule), "remainder"),
        _named(published, _differences(published, rule, attack), "difference"),
        _named(published, ~attack.is_wide, "narrow"),
    ]
    return AuditReport(pl.concat(findings), attack.count, by_witness, by_solver)


def audit_releases(releases: Sequence[pl.DataFrame], layout: Layout, rule: Rule) -> AuditReport:
    """Audit releases twice: unchanged cells linked, and every release for itself (SEMANTICS 8.4).

    Args:
        releases: Rows of `publication.long`, `shown` everywhere known.
        layout: Tables of each.
        rule: Thresholds.
    """
    linked, apart = (audit(_as_seen(problem(releases, layout, is_linked=each)), rule) for each in (True, False))
    findings = pl.concat([linked.findings, apart.findings]).unique(maintain_order=True)
    return AuditReport(
        findings,
        linked.cells + apart.cells,
        linked.by_witness + apart.by_witness,
        linked.by_solver + apart.by_solver,
    )


def intervals(published: Problem, rule: Rule) -> pl.DataFrame:
    """Least and greatest whole number of every withheld cell: `cell`, `low`, `high`. Exact; for small publications."""
    attack = _Attack(published, rule)
    if not attack.begin(None):
        raise ValueError("no whole numbers agree with what is published")
    cells = np.flatnonzero(attack.unknown)
    for cell in cells:
        attack.solve(int(cell))
    return pl.DataFrame({"cell": cells, "low": attack.low[cells], "high": attack.high[cells]})


def band_bounds(bands: pl.Series, students: pl.Series) -> pl.DataFrame:
    """Least and greatest count that a published band and its n leave: `low`, `high`; null where the band is withheld.

    Percents are rounded half up. The lowest inner band begins just above the bottom code and the highest ends just
    below the top code (METHOD 4.5). Read from the text alone: whoever publishes may have computed it otherwise.
    """
    n, first = pl.col("n"), pl.col("band").str.extract(r"(\d+)").cast(pl.Int64)
    last = pl.coalesce(pl.col("band").str.extract(r"-(\d+)%").cast(pl.Int64), first)
    # The codes at either end: 2 points under 300 students where percents are whole, else as wide as a band.
    whole = pl.when(n >= 300).then(1).otherwise(2)
    ends = pl.when(first == last).then(whole).when(first % 5 == 1).then(first - 1).otherwise(last - first + 1)
    least = pl.when(first == ends + 1).then(n * ends // 100 + 1).otherwise((n * (2 * first - 1) + 199) // 200)
    most = pl.when(last == 99 - ends).then((n * (100 - ends) + 99) // 100).otherwise((n * (2 * last + 1) + 199) // 200)
    is_top, is_bottom = pl.col("band").str.starts_with(">="), pl.col("band").str.starts_with("<=")
    is_half = pl.col("band").str.starts_with("<") & ~is_bottom
    return pl.DataFrame({"band": bands, "n": students}).select(
        low=pl.when(is_bottom | is_half).then(0 * first).when(is_top).then((n * first + 99) // 100).otherwise(least),
        high=pl.when(is_top)
        .then(n + 0 * first)
        .when(is_bottom)
        .then(n * first // 100)
        .when(is_half)
        .then((n * first + 99) // 100 - 1)
        .otherwise(most - 1),
    )


def _as_seen(made: Problem) -> Problem:
    """Only what is shown is known; whoever published may say what is primary."""
    shown = made.cells["shown"].fill_null(False)
    primary = made.cells["is_primary"]
    return made.published(~shown.to_numpy(), None if primary.is_null().all() else primary.fill_null(False).to_numpy())


class _Attack:
    """Tables that agree with everything published, and how far apart they are in each cell."""

    def __init__(self, published: Problem, rule: Rule) -> None:
        cells = published.cells
        self.published, self.relations = published, published.relations
        self.columns = published.relations.tocsc()
        self.unknown = ~cells["shown"].to_numpy()
        self.shown = np.where(self.unknown, 0, cells["value"].fill_null(0).to_numpy())
        least = cells.select(pl.col("low").fill_null(pl.Series(rule.least(cells["kind"])))).to_series().to_numpy()
        most = cells["high"].fill_null(published.ceiling).to_numpy()
        self.least, self.most = np.where(self.unknown, least, self.shown), np.where(self.unknown, most, self.shown)
        self.need = np.where(self.unknown, _needed(cells, rule), 0)
        self.count = int(np.count_nonzero(self.need > 0))
        self.parts = components(published, self.unknown)
        self.part = np.full(len(cells), -1)
        for number, each in enumerate(self.parts):
            self.part[each] = number
        self.late, self.early = _changed(published)
        self.is_changed = np.zeros(len(cells), bool)
        self.is_changed[self.late] = self.is_changed[self.early] = True
        self.contradicted = np.zeros(len(cells), bool)

    def begin(self, known: Whole | None) -> bool:
        """Find one table; false where there is none."""
        self.base = self.shown if known is None else known.astype(np.int64)
        if known is None or not self._is_table(self.base):
            self.base = self.shown.copy()
            rest = -(self.relations @ self.shown).astype(float)
            for cells in self._chunks():
                relations, rows = self._sums_of(cells)
                low, high = self.least[cells].astype(float), self.most[cells].astype(float)
                found = whole_table(relations, rest[rows], low, high)
                self.contradicted[cells] = found is None
                self.base[cells] = 0 if found is None else found
        self.low, self.high = self.base.copy(), self.base.copy()
        self.is_wide = self.need <= 0
        if not self.contradicted.any():
            self._subtract()
        self.is_settled = self.is_wide | (self.most - self.least < self.need)
        self.near = self.far = self.base[self.late] - self.base[self.early]
        if not self.contradicted.any() and not self._is_table(self.base):
            self.contradicted = np.ones(len(self.unknown), bool)
        return not self.contradicted.any()

    def _subtract(self) -> None:
        """Narrow the bounds by every sum as far as the others in it allow, until nothing changes: what anybody can do.

        Bounds only come closer, so they hold wherever this ends.
        """
        rows = self.relations.tocsr()
        sums, cells, is_part = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)), rows.indices, rows.data > 0
        for _ in range(_SUBTRACTIONS):
            least, most = self.least[cells], self.most[cells]
            low, high = np.where(is_part, least, -most), np.where(is_part, most, -least)
            others_low = np.bincount(sums, low, rows.shape[0])[sums] - low
            others_high = np.bincount(sums, high, rows.shape[0])[sums] - high
            before = self.least.copy(), self.most.copy()
            np.maximum.at(self.least, cells, np.where(is_part, -others_high, others_low).astype(np.int64))
            np.minimum.at(self.most, cells, np.where(is_part, -others_low, others_high).astype(np.int64))
            if np.array_equal(self.least, before[0]) and np.array_equal(self.most, before[1]):
                break

    def seek(self) -> None:
        """Look for witnesses where they are soonest found: small tables, districts with others that help, then all."""
        small = [part for part in self.parts if len(part) <= _TOGETHER]
        for part in self.parts:
            if len(part) > _TOGETHER:
                scopes = Scopes(self.published, part, self.unknown, self.is_settled)
                for each in chain(
                    scopes.tables(self.unknown),
                    scopes.districts(),
                    scopes.crossings(with_alike=True),
                    scopes.helped(with_whole=False),
                    scopes.helped(with_whole=True),
                    scopes.across(),
                    scopes.everything(),
                ):
                    self._seek(each.cells[self.unknown[each.cells]], each.own)
        for cells in _together(small):
            self._seek(cells, cells)

    def settle(self) -> None:
        """Solve for every cell that has no witness yet, no further than it needs."""
        for cell in np.flatnonzero(~self.is_settled):
            if not self.is_settled[cell] and not self.is_narrow_at_home(int(cell)):
                self._solve(np.array([cell]), np.array([1.0]), float(self.need[cell]))
        for at in np.flatnonzero(self.near == self.far):
            self._solve(np.array([self.late[at], self.early[at]]), np.array([1.0, -1.0]))

    def is_narrow_at_home(self, cell: int) -> bool:
        """The sums of its own place, or district, prove that a cell is known too well, whatever goes on outside."""
        part = self.parts[self.part[cell]]
        for home in (self.published.cells["place"].to_numpy(), self.published.cells["block"].to_numpy()):
            cells = part[home[part] == home[cell]]
            if len(cells) == len(part):
                return False  # the programme of all that is linked says it at once
            outside = self.unknown & (home != home[cell])
            relations, rows = self._sums_of(cells)
            relations = relations[abs(self.relations[rows]) @ outside.astype(float) == 0]
            low, high = self._bounds(cells)
            at, need = int(np.searchsorted(cells, cell)), float(self.need[cell])
            low[at], high[at] = max(low[at], -need), min(high[at], need)
            direction = np.zeros(len(cells))
            direction[at] = 1.0
            up, down = (furthest_whole(relations, low, high, sign * direction) for sign in (1.0, -1.0))
            if up is not None and down is not None and up[at] - down[at] < need:
                return True
        return False

    def solve(self, cell: int) -> None:
        """Find the tables with the least and the greatest whole number of one cell."""
        self._solve(np.array([cell]), np.array([1.0]))

    def _solve(self, wanted: Whole, signs: NDArray[np.float64], most: float = np.inf) -> None:
        parts = np.unique(self.part[wanted[self.unknown[wanted]]])
        if not len(parts):
            return
        cells = np.sort(np.concatenate([self.parts[part] for part in parts]))
        direction = np.zeros(len(self.unknown))
        direction[wanted] = signs
        relations, _ = self._sums_of(cells)
        low, high = self._bounds(cells)
        # A programme whose answer is bounded ends as soon as it gets there.
        is_wanted = np.isin(cells, wanted)
        low, high = np.where(is_wanted, np.maximum(low, -most), low), np.where(is_wanted, np.minimum(high, most), high)
        for sign in (1.0, -1.0):
            change = furthest_whole(relations, low, high, sign * direction[cells])
            if change is not None:
                self._keep(cells, relations, change)
            if most < np.inf and self.is_wide[wanted].all():
                return

    def _seek(self, cells: Whole, own: Whole) -> None:
        left = ~self.is_settled[cells]
        if self.is_settled[own].all():
            return
        relations, _ = self._sums_of(cells)
        changes = MergedChanges(self.published.own[:, cells].tocsr())
        random = np.random.default_rng(0)
        low, high = self._bounds(cells)
        need = self.need[cells].astype(float)
        # No further than a cell needs: what one does not take another can.
        near, far = np.maximum(low, -need), np.minimum(high, need)
        for _ in range(_ROUNDS if _SEEN * np.count_nonzero(left) > len(cells) else 0):
            changes.bound(np.where(left, near, low), np.where(left, far, high))
            direction = np.where(random.random(len(cells)) < 0.5, 1.0, -1.0) * left
            for sign in (1.0, -1.0):
                self._keep(cells, relations, changes.furthest(sign * direction))
            still = ~self.is_settled[cells]
            is_slow = 4 * np.count_nonzero(still) > 3 * np.count_nonzero(left)
            left = still
            if is_slow or not left.any():
                break
        for at in np.flatnonzero(left & np.isin(cells, own)):
            for sign in (1.0, -1.0):
                if not self.is_settled[cells[at]]:
                    self._keep(cells, relations, changes.path(int(at), sign, low, high))

    def _bounds(self, cells: Whole) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        low, high = self.least[cells] - self.base[cells], self.most[cells] - self.base[cells]
        return low.astype(float), high.astype(float)

    def _keep(self, cells: Whole, relations: sparse.csr_array, change: NDArray[np.float64]) -> None:
        """Believe a table if it is one: whole numbers, within bounds, and no sum these cells stand in changes."""
        whole = whole_part(relations, change).astype(np.int64)
        table = self.base[cells] + whole
        is_within = np.all((table >= self.least[cells]) & (table <= self.most[cells]))
        if is_within and not (relations @ whole).any():
            self.low[cells] = np.minimum(self.low[cells], table)
            self.high[cells] = np.maximum(self.high[cells], table)
            self.is_wide[cells] = self.high[cells] - self.low[cells] >= self.need[cells]
            self.is_settled[cells] |= self.is_wide[cells]
            if self.is_changed[cells].any():
                every = self.base.copy()
                every[cells] = table
                apart = every[self.late] - every[self.early]
                self.near, self.far = np.minimum(self.near, apart), np.maximum(self.far, apart)

    def _is_table(self, table: Whole) -> bool:
        is_within = np.all((table >= self.least) & (table <= self.most))
        return bool(is_within and not (self.relations @ table).any())

    def _chunks(self) -> Iterator[Whole]:
        """Withheld cells with all others that sums link them to, small ones in one programme."""
        yield from (part for part in self.parts if len(part) > _TOGETHER)
        yield from _together([part for part in self.parts if len(part) <= _TOGETHER])

    def _sums_of(self, cells: Whole) -> tuple[sparse.csr_array, Whole]:
        """Every sum that one of these cells stands in, and which they are."""
        relations = self.columns[:, cells].tocsr()
        rows = np.flatnonzero(np.diff(relations.indptr))
        return relations[rows], rows


def _together(parts: Sequence[Whole]) -> Iterator[Whole]:
    """Small parts in few arrays."""
    if parts:
        ends = np.cumsum([len(part) for part in parts])
        for chunk in np.split(np.arange(len(parts)), np.flatnonzero(np.diff(ends // _TOGETHER)) + 1):
            yield np.sort(np.concatenate([parts[at] for at in chunk]))


def _changed(published: Problem) -> tuple[Whole, Whole]:
    """Cells that changed between releases: each version and the one before."""
    keys, version = [*published.layout.keys, "statistic"], pl.col("version")
    named = published.cells.with_row_index("cell").with_columns(name=pl.struct(keys).rle_id())
    pairs = (
        named.filter(pl.lit(published.is_linked) & (version.max().over("name") > 0))
        .with_columns(early=pl.col("cell").shift(1).over("name"))
        .drop_nulls("early")
    )
    return pairs["cell"].to_numpy().astype(np.int64), pairs["early"].to_numpy().astype(np.int64)


def _needed(cells: pl.DataFrame, rule: Rule) -> Whole:
    """How far apart two tables must be in a cell."""
    wide = rule.thresholds(cells["kind"]) - 1
    is_primary, is_band = cells["is_primary"].fill_null(True).to_numpy(), cells["high"].is_not_null().to_numpy()
    return np.where(is_band, np.where(is_primary, rule.c_min - 1, 0), np.where(is_primary, wide, 1))


def _small(published: Problem, rule: Rule) -> Flags:
    """Shown counts of 1 to threshold - 1, and complements from 0 on, of anybody at all."""
    cells = published.cells
    value = cells["value"].fill_null(0).to_numpy()
    links = published.sums.with_row_index("sum").filter(pl.col("over") == "statistic")
    students = np.ones(len(cells))
    parts = published.relations[links["sum"].to_numpy()].tocoo()
    is_part = parts.data > 0
    totals = links["total"].to_numpy()[parts.row[is_part]]
    students[parts.col[is_part]] = np.where(cells["shown"].to_numpy()[totals], value[totals], 1)
    from_zero = (cells["kind"] == COMPLEMENT).to_numpy() | rule.protect_zero
    is_small = (value < rule.thresholds(cells["kind"])) & ((value > 0) | (from_zero & (students > 0)))
    return cells["shown"].to_numpy() & is_small


def _remainders(published: Problem, rule: Rule) -> Flags:
    """Totals that are shown and leave their withheld parts a sum of 1 to threshold - 1."""
    cells, relations, totals = published.cells, published.relations, published.sums["total"].to_numpy()
    shown = cells["shown"].to_numpy()
    rest = -(relations @ np.where(shown, cells["value"].fill_null(0).to_numpy(), 0))
    withheld = (relations > 0) @ (~shown).astype(float)
    banded = (relations > 0) @ cells["high"].is_not_null().to_numpy().astype(float)
    is_link = (published.sums["over"] == "statistic").to_numpy()
    threshold = np.where(is_link, rule.min_category, rule.thresholds(cells["kind"])[totals])
    flags = np.zeros(len(cells), bool)
    flags[totals[shown[totals] & (withheld > 0) & (banded == 0) & (rest > 0) & (rest < threshold)]] = True
    return flags


def _differences(published: Problem, rule: Rule, attack: _Attack) -> Flags:
    """Cells whose change since an earlier release is proven, and small."""
    apart, threshold = np.abs(attack.near), rule.thresholds(published.cells["kind"])[attack.late]
    flags = np.zeros(len(published.cells), bool)
    flags[attack.late[(attack.near == attack.far) & (apart > 0) & (apart < threshold)]] = True
    return flags


def _named(published: Problem, flags: Flags, rule: str) -> pl.DataFrame:
    keys = [*published.layout.keys, "statistic", "release"]
    return published.cells.filter(pl.Series(flags)).select(*keys, rule=pl.lit(rule))
