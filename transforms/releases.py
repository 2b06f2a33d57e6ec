"""What a release says of each cell: shares in bands, or counts some of which are withheld; and its audit.

A release is rows of ``ReleasedCell``; what is public is made of them by `public_rows`, and read back by the audit.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from schemas.contract import columns, conform
from schemas.publication import APART, GROUP, PLACES, Publication, Statistic
from schemas.reports import PublishedCell, ReleasedCell, StateAggregate, StateAggregateCounts
from transforms.audit import AuditReport, audit
from transforms.bands import WIDTHS, band_counts, bands, range_ends, safe_width, students_ranges
from transforms.publication import COMPLEMENT, COUNT, STUDENTS, Layout, Problem, Rule, Table, aggregated, long, problem
from transforms.state_aggregates import ALL
from transforms.suppression import Pattern, suppress

Mode = Literal["bands", "counts"]
MOST_STEPS = 12
"""Times that bands are widened before a release is given up: the widest needs five and is then withheld."""
LEAST_WIDTH = 2
"""Fewest students of whom a share can be unknown to within three counts."""
KEYS = [name for name in columns(PublishedCell) if name != "category"]
"""Columns that name a cell with its whole."""
_NAMED = ["release_id", "statistic", "category"]
_PLACED = ["geography", *PLACES, "grade", "group_kind", "student_group"]


class Question(NamedTuple):
    """One statistic as it is published: its tables, with a column per student group."""

    statistic: Statistic
    groups: tuple[str, ...]
    layout: Layout


def question(statistic: Statistic, publication: Publication, groups: Sequence[str]) -> Question:
    """The tables of a statistic, each student group a crossing of its own: the groups of one kind add up."""
    tables = [
        Table(table.name, tuple(group if each == GROUP else each for each in table.by), table.place)
        for table in publication.tables_of(statistic)
        for group in (groups if GROUP in table.by else ("",))
    ]
    layout = Layout(tuple(tables), PLACES, APART, statistic.students, statistic.counts)
    return Question(statistic, tuple(name for name in groups if name in layout.keys), layout)


def released(
    counts: pl.DataFrame, asked: Question, rule: Rule, mode: Mode, release_id: str, earlier: Sequence[pl.DataFrame] = ()
) -> pl.DataFrame:
    """``ReleasedCell`` rows of one statistic: what is said of each cell, chosen so that the audit can pass.

    Args:
        counts: Finest cells, as `state_counts` has them.
        asked: The statistic and its tables.
        rule: Thresholds.
        mode: `bands`: shares in bands, no number at all. `counts`: numbers, those that must be withheld.
        release_id: Name of the release.
        earlier: ``ReleasedCell`` rows of every release of the statistic that is still public, the earliest first.
    """
    rows = long(aggregated(counts, asked.layout), asked.layout)
    make = _banded if mode == "bands" else _counted
    return make(rows, asked, rule, release_id, earlier)


def audited(releases: Sequence[pl.DataFrame], asked: Question, rule: Rule) -> AuditReport:
    """Audit releases of one statistic, linked by what did not change and each for itself (SEMANTICS 8.4).

    Where all are in bands an attacker is taken to know how many students there are from elsewhere, such as enrolment
    tables; where one shows counts, its withheld numbers of students are what is protected.
    """
    reports = [_audit(made, rule) for made in _problems(releases, asked)]
    findings = pl.concat([each.findings for each in reports]).unique(maintain_order=True)
    cells, by_witness = sum(each.cells for each in reports), sum(each.by_witness for each in reports)
    by_solver = sum(each.by_solver for each in reports)
    if _is_n_known(releases):
        findings = findings.filter(pl.col("statistic") != asked.layout.students)
    return AuditReport(findings, cells, by_witness, by_solver)


def public_rows(cells: pl.DataFrame, mode: Mode) -> pl.DataFrame:
    """What is public of a release: ``StateAggregate`` rows, or ``StateAggregateCounts``."""
    shown = pl.when("is_shown").then("value")
    wholes = cells.filter(pl.col("kind") == STUDENTS).select(*KEYS, students=shown)
    rows = cells.filter(pl.col("kind") == COUNT).with_columns(count=shown)
    if mode == "bands":
        return conform(rows.lazy(), StateAggregate).collect()
    share = (pl.col("count") / pl.when(pl.col("students") > 0).then("students")).round(9)
    rows = rows.join(wholes, on=KEYS, how="left", maintain_order="left").with_columns(share=share)
    return conform(rows.lazy(), StateAggregateCounts).collect()


def as_told(cells: pl.DataFrame, rows: pl.DataFrame, mode: Mode) -> pl.DataFrame:
    """The release as its public rows tell it, whatever was decided: what the last audit looks at."""
    kind = pl.col("kind")
    if mode == "bands":
        own = rows.select(*KEYS, "category", "students_range", "share_band")
        first = own.group_by(KEYS, maintain_order=True).agg(pl.col("students_range", "share_band").first())
        told = cells.drop("students_range", "share_band")
        is_count = kind == COUNT
        return pl.concat(
            [
                told.filter(is_count).join(own, on=[*KEYS, "category"], how="left"),
                told.filter(~is_count).join(first, on=KEYS, how="left"),
            ]
        ).select(cells.columns)
    told = rows.select(*KEYS, "category", told=pl.col("count").is_not_null())
    wholes = rows.group_by(KEYS).agg(
        whole=pl.col("students").is_not_null().any(), every=pl.col("count").is_not_null().all()
    )
    is_shown = pl.when(kind == COUNT).then("told").when(kind == STUDENTS).then("whole")
    return (
        cells.join(told, on=[*KEYS, "category"], how="left", maintain_order="left")
        .join(wholes, on=KEYS, how="left", maintain_order="left")
        .with_columns(is_shown=is_shown.otherwise(pl.col("whole") & pl.col("every")))
        .select(cells.columns)
    )


def as_read(rows: pl.DataFrame, mode: Mode, wholes: Mapping[str, str]) -> pl.DataFrame:
    """The release as a stranger reads its public rows: no number that is not there, and none known to be primary.

    Args:
        rows: ``StateAggregate`` rows, or ``StateAggregateCounts``.
        mode: Which of the two.
        wholes: Name of the whole, by statistic.
    """
    if mode == "bands":
        rows = rows.with_columns(students=pl.lit(None, pl.Int64), count=pl.lit(None, pl.Int64))
    else:
        rows = rows.with_columns(students_range=pl.lit(None, pl.String), share_band=pl.lit(None, pl.String))
    counts = rows.with_columns(kind=pl.lit(COUNT), value="count")
    every = rows.unique(KEYS, keep="first", maintain_order=True)
    whole = every.with_columns(
        kind=pl.lit(STUDENTS), value="students", category=pl.col("statistic").replace_strict(wholes)
    )
    is_alone = pl.len().over(KEYS) == 1
    rest = rows.filter(is_alone).with_columns(
        kind=pl.lit(COMPLEMENT),
        value=pl.col("students") - pl.col("count"),
        category=pl.format("not {}", "category"),
    )
    names = [name for name in columns(ReleasedCell) if name not in ("mode", "is_shown", "is_primary", "reason")]
    return pl.concat([each.select(names) for each in (counts, whole, rest)]).with_columns(
        mode=pl.lit(mode),
        is_shown=pl.col("value").is_not_null(),
        is_primary=pl.lit(None, pl.Boolean),
        reason=pl.lit(None, pl.String),
    )


def _counted(
    rows: pl.DataFrame, asked: Question, rule: Rule, release_id: str, earlier: Sequence[pl.DataFrame]
) -> pl.DataFrame:
    before = [_seen(each, asked, is_n_known=False) for each in earlier]
    made = problem([*before, rows], asked.layout)
    pattern = suppress(made, rule)
    own = made.rows.filter(pl.col("release") == len(before))
    withheld = pl.Series(_mended(made, pattern, rule)).gather(own["cell"])
    primary = pl.Series(pattern.is_primary).gather(own["cell"])
    decided = _as_published(own.with_columns(is_shown=~withheld, is_primary=primary), asked.layout.keys)
    why = (
        pl.when("is_shown")
        .then(None)
        .when(pl.col("n") < rule.min_n)
        .then(pl.lit("too_few_students"))
        .when("is_primary")
        .then(pl.lit("small"))
        .otherwise(pl.lit("complementary"))
    )
    return _named(decided.with_columns(reason=why), asked, release_id, "counts")


def _mended(made: Problem, pattern: Pattern, rule: Rule) -> NDArray[np.bool_]:
    """The pattern with more withheld around what it leaves unprotected: beside them, until the audit passes.

    Where several crossings share small cells the cheapest pattern is not always found; more never protects less.
    """
    kinds, values = made.cells["kind"], made.cells["value"].to_numpy()
    may = made.cells["shown"].is_null().to_numpy() & (values >= rule.least(kinds))
    withheld = pattern.withheld
    for _ in range(MOST_STEPS if pattern.unprotected.any() else 0):
        found = audit(made.published(withheld, pattern.is_primary), rule, values).findings
        found = found.filter(pl.col("rule").is_in(["narrow", "remainder"]))
        more = withheld | (_beside(made, found, made.relations) & may)
        if np.array_equal(more, withheld):
            break
        withheld = more
    return withheld


def _beside(made: Problem, found: pl.DataFrame, sums: sparse.csr_array) -> NDArray[np.bool_]:
    """Cells that were found, and those that stand in a sum with them."""
    name = [*made.layout.keys, "statistic"]
    hits = found.select(*name, hit=pl.lit(1.0)).unique()
    of = made.cells.join(hits, on=name, how="left", nulls_equal=True, maintain_order="left")
    hit, links = of["hit"].fill_null(0).to_numpy(), abs(sums)
    return links.T @ (links @ hit) + hit > 0


def _as_published(rows: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Rows with n; a complement has no column of its own: it is public where the count and the whole are."""
    both = rows.filter(pl.col("kind") != COMPLEMENT).group_by(keys).agg(both=pl.col("is_shown").all())
    is_open = pl.when(pl.col("kind") == COMPLEMENT).then("both").otherwise("is_shown")
    return (
        rows.join(both, on=keys, nulls_equal=True, maintain_order="left")
        .join(_wholes(rows, keys), on=keys, nulls_equal=True, maintain_order="left")
        .with_columns(is_shown=is_open)
    )


def _banded(
    rows: pl.DataFrame, asked: Question, rule: Rule, release_id: str, earlier: Sequence[pl.DataFrame]
) -> pl.DataFrame:
    keys = asked.layout.keys
    whole = _wholes(rows, keys)
    whole = whole.with_columns(
        students_range=students_ranges(whole["n"], rule.min_n, rule.c_min),
        band_points=safe_width(whole["n"], rule.min_n, rule.c_min).cast(pl.Int64),
    )
    rows = rows.join(whole, on=keys, nulls_equal=True, maintain_order="left")
    is_small = pl.min_horizontal("value", pl.col("n") - pl.col("value")) < rule.min_category
    is_few = pl.col("n") < rule.min_n
    rows = rows.with_columns(is_shown=False, is_primary=(is_small | is_few) & (pl.col("kind") != STUDENTS))
    for _ in range(MOST_STEPS):
        cells = _named(_said(rows, rule), asked, release_id, "bands")
        narrow = audited([*earlier, cells], asked, rule).findings.filter(pl.col("rule") == "narrow")
        wider = _around(narrow, rows, asked)
        if wider["band_points"].null_count() == wider.height:
            break
        rows = _widened(rows, wider.select(keys), keys)
    return cells


def _said(rows: pl.DataFrame, rule: Rule) -> pl.DataFrame:
    """The rows with their bands, and why there is none; a complement is said with its count."""
    few = pl.when(pl.col("n") < rule.min_n).then(pl.lit("too_few_students")).otherwise(pl.lit("band_too_fine"))
    is_public = pl.col("band_points").is_not_null()
    count = rows.select(pl.when(pl.col("kind") == COMPLEMENT).then(pl.col("n") - pl.col("value")).otherwise("value"))
    return rows.with_columns(
        share_band=bands(count.to_series(), rows["n"], rows["band_points"]),
        reason=pl.when(~is_public).then(few),
        students_range=pl.when(is_public).then("students_range"),
    )


def _around(narrow: pl.DataFrame, rows: pl.DataFrame, asked: Question) -> pl.DataFrame:
    """Cells that stand in a sum with one that is known too well (SEMANTICS 8.3)."""
    keys = asked.layout.keys
    made = problem([rows.with_columns(shown=False)], asked.layout)
    touched = _beside(made, narrow, made.relations[(made.sums["over"] != "statistic").to_numpy()])
    found = made.cells.filter(pl.Series(touched)).select(keys).unique()
    return found.join(rows.select(*keys, "band_points").unique(), on=keys, nulls_equal=True)


def _widened(rows: pl.DataFrame, wider: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Bands of these cells one step wider; the widest is withheld."""
    steps = dict(zip(WIDTHS, [*WIDTHS[1:], None], strict=True))
    is_wider = pl.col("is_wider").fill_null(False)
    step = pl.col("band_points").replace_strict(steps, default=None, return_dtype=pl.Int64)
    return (
        rows.join(wider.with_columns(is_wider=True), on=keys, how="left", nulls_equal=True, maintain_order="left")
        .with_columns(band_points=pl.when(is_wider).then(step).otherwise("band_points"))
        .drop("is_wider")
    )


def _problems(releases: Sequence[pl.DataFrame], asked: Question) -> list[Problem]:
    is_n_known = _is_n_known(releases)
    seen = [_seen(each, asked, is_n_known) for each in releases]
    return [problem(seen, asked.layout, is_linked=each) for each in ((True, False) if len(releases) > 1 else (True,))]


def _is_n_known(releases: Sequence[pl.DataFrame]) -> bool:
    return all((each["mode"] == "bands").all() for each in releases)


def _audit(made: Problem, rule: Rule) -> AuditReport:
    shown, primary = made.cells["shown"].fill_null(False).to_numpy(), made.cells["is_primary"]
    # A stranger knows neither what is primary nor any true table.
    is_own = not primary.is_null().all()
    known = made.cells["value"].to_numpy() if is_own else None
    return audit(made.published(~shown, primary.fill_null(False).to_numpy() if is_own else None), rule, known)


def _seen(cells: pl.DataFrame, asked: Question, is_n_known: bool) -> pl.DataFrame:
    """Rows of `publication.long` from a release, with what its bands tell.

    Of a share that is withheld for want of students an attacker knows no more than how many there are: it must admit
    `c_min` numbers where there are so many, and two in any case.
    """
    rows = _keyed(cells, asked).with_columns(shown="is_shown")
    if (cells["mode"] == "counts").all():
        return rows.with_columns(low=pl.lit(None, pl.Int64), high=pl.lit(None, pl.Int64))
    if rows["value"].is_null().all():
        return _bounded(rows)
    keys, n, kind = asked.layout.keys, pl.col("n"), pl.col("kind")
    rows = rows.join(_wholes(rows, keys), on=keys, nulls_equal=True, maintain_order="left")
    ends, said = band_counts(rows["share_band"], rows["n"]), range_ends(rows["students_range"])
    of_whole: list[pl.Expr | pl.Series] = [n, n] if is_n_known else [said["low"], said["high"]]
    is_open = ~pl.lit(is_n_known) & pl.col("share_band").is_null() | (n < LEAST_WIDTH)
    low, high = (
        pl.when(kind == STUDENTS)
        .then(whole)
        .when(is_open)
        .then(None)
        .when(kind == COMPLEMENT)
        .then(n - ends[other])
        .otherwise(ends[own])
        for whole, own, other in zip(of_whole, ("low", "high"), ("high", "low"), strict=True)
    )
    is_held = (kind == STUDENTS) | ~pl.lit(is_n_known) | (n >= LEAST_WIDTH)
    return rows.with_columns(
        low=pl.when(kind == STUDENTS).then(low).otherwise(low.fill_null(0)),
        high=high,
        is_primary=pl.col("is_primary") & is_held,
    )


def _bounded(rows: pl.DataFrame) -> pl.DataFrame:
    """Bounds of counts of which only a band is known, and of their whole only a range."""
    said = range_ends(rows["students_range"])
    few, many = (band_counts(rows["share_band"], said[end].fill_null(0)) for end in ("low", "high"))
    kind, is_said = pl.col("kind"), pl.col("share_band").is_not_null()
    least = pl.when(kind == COMPLEMENT).then(said["low"] - few["high"]).otherwise(few["low"])
    most = pl.when(kind == COMPLEMENT).then(said["high"] - many["low"]).otherwise(many["high"])
    is_ended = is_said & said["high"].is_not_null()
    return rows.with_columns(
        low=pl.when(kind == STUDENTS).then(said["low"]).when(is_said).then(least).fill_null(0),
        high=pl.when(kind == STUDENTS).then(said["high"]).when(is_ended).then(most),
    )


def _wholes(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    return rows.filter(pl.col("kind") == STUDENTS).select(*keys, n="value")


def _named(rows: pl.DataFrame, asked: Question, release_id: str, mode: Mode) -> pl.DataFrame:
    """Rows with a column per group as ``ReleasedCell`` rows."""
    kinds = [pl.when(pl.col(name).is_not_null()).then(pl.lit(name)) for name in asked.groups]
    geography = (
        pl.when(pl.col("school_id").is_not_null())
        .then(pl.lit("school"))
        .when(pl.col("district_id").is_not_null())
        .then(pl.lit("district"))
        .otherwise(pl.lit("state"))
    )
    told = rows.rename({"statistic": "category"}).with_columns(
        pl.col(*PLACES, "grade").fill_null(ALL),
        release_id=pl.lit(release_id),
        mode=pl.lit(mode),
        statistic=pl.lit(asked.statistic.name),
        geography=geography,
        group_kind=pl.coalesce(*kinds, pl.lit(ALL)),
        student_group=pl.coalesce(*asked.groups, pl.lit(ALL)),
    )
    return conform(told.lazy(), ReleasedCell).sort(*_NAMED, *APART, *_PLACED).collect()


def _keyed(cells: pl.DataFrame, asked: Question) -> pl.DataFrame:
    """``ReleasedCell`` rows with a column per group, null where it is a total: the inverse of `_named`."""
    return cells.with_columns(
        *(pl.when(pl.col(name) != ALL).then(name).alias(name) for name in (*PLACES, "grade")),
        *(pl.when(pl.col("group_kind") == name).then("student_group").alias(name) for name in asked.groups),
        statistic="category",
    )
