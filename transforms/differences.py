"""What two states of the same tables say differently, and which facts changed between them."""

from collections.abc import Mapping, Sequence

import polars as pl

FACT = ["district_id", "school_year", "family", "natural_key"]
_ABOUT = ("subject_key", "class_id", "cycle_id", "group_id")
"""Columns that say whom or what a fact is about, in the families that have them."""


def differing(before: pl.DataFrame, after: pl.DataFrame, key: Sequence[str], said: str) -> pl.DataFrame:
    """Rows whose ``said`` is another than it was: ``key``, `before`, `after`; a row that is not there says null.

    Args:
        before: One row per ``key``.
        after: The same later.
        key: What tells rows apart; nulls are equal to each other.
        said: Column to compare.
    """
    one, other = (
        rows.select(*key, pl.col(said).cast(pl.String).alias(name))
        for rows, name in ((before, "before"), (after, "after"))
    )
    return (
        one.join(other, on=key, how="full", coalesce=True, nulls_equal=True)
        .filter(pl.col("before").ne_missing(pl.col("after")))
        .sort(key, nulls_last=True)
    )


def facts_of(families: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Current facts of all families as one table: ``FACT``, `content_hash`, `subject_key`, class, cycle and group."""
    none = pl.lit(None, pl.String)
    rows = [
        table.with_columns(none.alias(name) for name in _ABOUT if name not in table.columns).select(
            "district_id", "school_year", pl.lit(family).alias("family"), "natural_key", "content_hash", *_ABOUT
        )
        for family, table in families.items()
    ]
    return pl.concat(rows)


def changed_facts(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Facts that came, went, say something else or are another student's now.

    Returns:
        ``FACT``, `content_hash` as it is now (null where the fact is gone), and whom and what it is and was about:
        `subject_key`, `subject_before`, `class_id`, `cycle_id`, `group_id`.
    """
    was = before.rename({name: f"{name}_before" for name in ("content_hash", *_ABOUT)})
    both = after.join(was, on=FACT, how="full", coalesce=True)
    is_other = pl.col("content_hash").ne_missing(pl.col("content_hash_before")) | pl.col("subject_key").ne_missing(
        pl.col("subject_key_before")
    )
    return both.filter(is_other).select(
        *FACT,
        "content_hash",
        "subject_key",
        *(pl.coalesce(name, f"{name}_before").alias(name) for name in _ABOUT[1:]),
        subject_before="subject_key_before",
    )
