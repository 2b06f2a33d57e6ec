"""What older payloads say in the words of today's: applied when the log is read, never written back (decision 25).

A version is a change of what payload columns mean. Rows on disk stay as they are, and so do their keys and hashes:
what a later version adds to facts that earlier ones stated is in no hash (``schemas.events.UNHASHED``), so that the
same file read by either states the same fact.
"""

from typing import NamedTuple

import polars as pl


class Upcast(NamedTuple):
    """What rows of some event types, written before a version, say in its words."""

    version: int
    family: str
    event_types: tuple[str, ...]
    columns: dict[str, pl.Expr]
    """New values of payload columns, from the columns of the version before."""


_BY_COMMAND = "statement"
"""Layout under which version 1 kept what a person stated."""

UPCASTS: tuple[Upcast, ...] = (
    Upcast(
        2,
        "identity",
        ("StudentMerged", "StudentMergeReversed", "StudentSplit"),
        {"stated_by": pl.when(pl.col("layout") == _BY_COMMAND).then(pl.lit("person")).otherwise(pl.lit("roster"))},
    ),
)
"""In order of version."""


def upcast(events: pl.LazyFrame, family: str) -> pl.LazyFrame:
    """Events of a family as the current version says them; rows of that version stay as they are."""
    for each in UPCASTS:
        if each.family == family:
            is_older = (pl.col("schema_version") < each.version) & pl.col("event_type").is_in(each.event_types)
            events = events.with_columns(
                pl.when(is_older).then(said).otherwise(pl.col(name)).alias(name) for name, said in each.columns.items()
            )
    return events
