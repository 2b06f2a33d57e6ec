"""What is current in the log, as known at a time: one version of each fact, merged students under one key."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from schemas.events import FAMILIES
from transforms.identity import winners
from transforms.versions import current
from warehouse.log import Log, loaded

LISTED = ("roster", "listed")
"""Group kind and value by which a roster names its students."""


@dataclass(frozen=True)
class Facts:
    """Current facts of some districts, by family."""

    tables: dict[str, pl.LazyFrame]
    unlisted: int
    """Facts of students that their district's roster does not list: shown nowhere until it does."""


def current_facts(
    log: Log, districts: Sequence[str], ledger: pl.DataFrame, families: Sequence[str] = tuple(FAMILIES)
) -> Facts:
    """The facts that stand, of the batches in ``ledger``.

    A subject key that was merged is replaced by the key that stands for it. Where a district has a roster, only
    students it lists are kept, so that a test that came before its roster and one that came after mean the same.
    """
    readings = loaded(ledger)
    shown = winners(
        log.events("identity", districts, readings).select("district_id", "loser_key", "winner_key").collect()
    )
    tables: dict[str, pl.LazyFrame] = {}
    for family in families:
        standing = current(log.sighted(family, districts, readings))
        rows = (
            log.events(family, districts, readings)
            .join(standing, on=["natural_key", "content_hash"], how="semi")
            .sort("export_at", "batch_id", "attempt", descending=True)
            .unique(["natural_key", "school_year"], keep="first", maintain_order=True)
            .join(shown.lazy(), on=["district_id", "subject_key"], how="left")
            .with_columns(subject_key=pl.coalesce("shown_key", "subject_key"))
            .drop("shown_key")
        )
        tables[family] = rows.collect().lazy()
    if "description" not in tables:
        return Facts(tables, 0)
    listed = (
        tables["description"]
        .filter((pl.col("group_kind") == LISTED[0]) & (pl.col("group_value") == LISTED[1]))
        .select("district_id", "subject_key")
        .unique()
        .collect()
    )
    with_roster = listed["district_id"].unique().implode()
    unlisted = 0
    for family, rows in tables.items():
        stranger = (
            pl.col("district_id").is_in(with_roster) & pl.col("subject_key").is_not_null() & pl.col("_listed").is_null()
        )
        marked = rows.join(
            listed.lazy().with_columns(_listed=True), on=["district_id", "subject_key"], how="left"
        ).collect()
        kept = marked.filter(~stranger)
        unlisted += marked.height - kept.height
        tables[family] = kept.drop("_listed").lazy()
    return Facts(tables, unlisted)
