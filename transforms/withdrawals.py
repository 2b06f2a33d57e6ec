"""Tests that vanish from full extracts: what an extract covers, what it lacks, what is withdrawn (SEMANTICS 1.6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

TEST = ["district_id", "natural_key"]
SCOPE = ["district_id", "layout", "scope"]
CELL = [*SCOPE, "school_id"]
EXTRACTS_TO_WITHDRAW = 2
MOST_PERCENT = 5
MOST_TESTS = 10
"""An extract that lacks more than the larger of the two waits for a person."""


@dataclass(frozen=True)
class Vanished:
    """What loading one full extract would do to the tests that stand."""

    in_scope: int
    """Tests that stand in the scopes of the extract."""
    tests: int
    """Of these, the ones it lacks."""
    withdrawn: int
    """Tests that stood before it was loaded and do not after."""
    schools: int
    """Schools, counted in each scope, that have tests and of which the extract has no row."""
    is_too_many: bool
    """Whether it lacks too many in one of its scopes, or a school."""


def scope_of(within: Mapping[str, Sequence[str]]) -> pl.Expr:
    """What bounds a full extract beside layout and schools, as one text; null for layouts that are not named.

    Args:
        within: The columns by layout: subject area and term.
    """
    named = [
        pl.when(pl.col("layout") == layout).then(
            pl.concat_str([pl.col(name).cast(pl.String).fill_null("") for name in names], separator="/")
        )
        for layout, names in within.items()
        if names
    ]
    return pl.coalesce([*named, pl.lit(None, pl.String)])


def covered(extracts: pl.DataFrame) -> pl.DataFrame:
    """The schools each extract speaks of in each scope: its own, and those of the extract before it.

    Files of one export time are one extract. One row per cell and export time, with the ``batch_id`` of a file of
    the extract and whether one was confirmed.
    """
    times = (
        extracts.group_by(*SCOPE, "export_at")
        .agg(pl.col("is_confirmed").any(), pl.col("batch_id").min())
        .sort(*SCOPE, "export_at")
        .with_columns(next_at=pl.col("export_at").shift(-1).over(SCOPE))
    )
    own = extracts.select(*CELL, "export_at")
    before = own.join(times, on=[*SCOPE, "export_at"]).select(*CELL, export_at="next_at").drop_nulls("export_at")
    return pl.concat([own, before]).unique().join(times.drop("next_at"), on=[*SCOPE, "export_at"])


def lacking(tests: pl.DataFrame, extracts: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    """Pairs of a test and an extract later than its last sighting in whose scope it is: it is not in that extract.

    A test that the file has in a row that waits for the roster, and all tests of a student of whom it has a row that
    could not be read, may be in it and are in no pair with it.

    Args:
        tests: ``TEST``, ``CELL``, `subject_key` of the file, `last_export_at`.
        extracts: ``ExtractScope`` rows.
        gaps: ``ExtractGap`` rows.

    Returns:
        ``TEST``, `export_at`, `is_confirmed`, `batch_id`: one row per test and export time.
    """
    cells = covered(extracts)
    latest = cells.group_by(CELL).agg(latest_at=pl.col("export_at").max())
    late = tests.join(latest, on=CELL, nulls_equal=True).filter(pl.col("last_export_at") < pl.col("latest_at"))
    extract = ["district_id", "layout", "export_at"]
    return (
        late.join(cells, on=CELL, nulls_equal=True)
        .filter(pl.col("last_export_at") < pl.col("export_at"))
        .join(gaps.drop_nulls("natural_key"), on=[*extract, "natural_key"], how="anti")
        .join(gaps.drop_nulls("subject_key"), on=[*extract, "subject_key"], how="anti")
        .select(*TEST, "export_at", "is_confirmed", "batch_id")
    )


def withdrawn(tests: pl.DataFrame, extracts: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    """Tests that two consecutive extracts lack, or one that a person confirmed: ``TEST``, `batch_id`.

    `batch_id` is a file of the first extract that decides. A test that a later export shows again stands again. The
    answer depends on what was exported when, never on what was loaded first. Arguments as ``lacking``.
    """
    pairs = lacking(tests, extracts, gaps)
    number = pl.col("export_at").rank("dense").over(TEST)
    return (
        pairs.filter((number >= EXTRACTS_TO_WITHDRAW) | pl.col("is_confirmed"))
        .sort(*TEST, "export_at")
        .unique(TEST, keep="first", maintain_order=True)
        .select(*TEST, "batch_id")
    )


def vanished(
    tests: pl.DataFrame,
    extracts: tuple[pl.DataFrame, pl.DataFrame],
    gaps: tuple[pl.DataFrame, pl.DataFrame],
    keys: pl.Series,
) -> Vanished:
    """What one more extract lacks, and whether a person must confirm that.

    A test that was withdrawn before does not count again. Each scope is judged by itself.

    Args:
        tests: Tests that stood before, as in ``lacking``.
        extracts: ``ExtractScope`` rows known before, and those of the extract.
        gaps: ``ExtractGap`` rows known before, and those of the extract.
        keys: Natural keys the extract states.
    """
    known, own = extracts
    standing = tests.join(withdrawn(tests, known, gaps[0]), on=TEST, how="anti").with_columns(
        is_stated=pl.col("natural_key").is_in(keys.implode())
    )
    together = (standing.filter(~pl.col("is_stated")), pl.concat(extracts), pl.concat(gaps))
    cells = covered(together[1]).join(own, on=[*SCOPE, "export_at"], how="semi").select(CELL)
    lost = lacking(*together).join(own, on="export_at", how="semi").select(*TEST, is_lost=pl.lit(value=True))
    by_school = (
        standing.join(cells, on=CELL, how="semi", nulls_equal=True)
        .join(lost, on=TEST, how="left")
        .group_by(CELL)
        .agg(pl.col("is_stated").any(), tests=pl.len(), lost=pl.col("is_lost").sum())
        .join(own.select(*CELL, is_own=pl.lit(value=True)).unique(), on=CELL, how="left", nulls_equal=True)
    )
    is_gone = pl.col("is_own").is_null() & ~pl.col("is_stated") & (pl.col("lost") > 0)
    by_scope = by_school.group_by(SCOPE).agg(pl.col("tests", "lost").sum(), schools=is_gone.sum())
    lost_most = (pl.col("lost") > MOST_TESTS) & (pl.col("lost") * 100 > pl.col("tests") * MOST_PERCENT)
    in_scope, tests_lost, schools, scopes_waiting = by_scope.select(
        pl.col("tests", "lost", "schools").sum(), waiting=(lost_most | (pl.col("schools") > 0)).sum()
    ).row(0)
    return Vanished(in_scope, tests_lost, withdrawn(*together).height, schools, is_too_many=scopes_waiting > 0)
