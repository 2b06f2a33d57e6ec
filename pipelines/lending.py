"""Districts too small to fit a prior borrow that of their home, once every district's own tables stand."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from pipelines.compute import Tables, decide_again
from pipelines.facts import PARTITION
from pipelines.rules import histories
from schemas.contract import columns, table_name
from schemas.policy import DistrictPolicy
from schemas.projections import (
    ClassDecision,
    ClassMembership,
    ClassTopic,
    Cycle,
    NeedLevel,
    Projection,
    QualityResult,
    WindowRule,
)
from transforms.class_priors import NETWORK, borrowers, network_priors
from transforms.classrooms import LENDING
from warehouse.log import Log
from warehouse.projections import Projections

BORROWED = "borrowed_prior"
"""Name under which a partition's state keeps the hash of the parameters that it borrowed."""
_READ: tuple[type[Projection], ...] = (WindowRule, Cycle, ClassMembership, NeedLevel, ClassTopic)


def lend(
    log: Log,
    projections: Projections,
    lenders: Projections,
    policies: Mapping[str, DistrictPolicy],
    as_of: datetime | None = None,
) -> list[tuple[str, str]]:
    """Decide again the classes of district-years whose borrowed parameters changed (SEMANTICS 4.2, 7.5).

    Args:
        log: The home's log.
        projections: Where the tables are kept.
        lenders: Where the classes of districts stand that are not in ``projections``.
        policies: Districts of ``projections``, for those that have no policy on record.
        as_of: Only policies recorded by then count.
    """
    states = projections.partitions.scan().collect()
    own = states["district_id"].unique().to_list()
    classes = pl.concat(
        [
            store.read(ClassDecision).filter(keep).select(*NETWORK, *LENDING).collect()
            for store, keep in (
                (projections, pl.lit(value=True)),
                (lenders, ~pl.col("district_id").is_in(own)),
            )
        ]
    )
    if classes["district_id"].n_unique() < 2:
        return []
    network = network_priors(classes)
    due = _due(states, _hashes(borrowers(classes, network)))
    anyone = next(iter(policies.values()))
    told = histories(log, {each: policies.get(each, anyone) for each in own}, log.ledger_rows(own, as_of))
    for (year,), rows in sorted(due.group_by("school_year")):
        districts = rows["district_id"].to_list()
        plans = {district: told[district].of_year(str(year)) for district in districts}
        tables: Tables = {each: projections.read(each, districts, [str(year)]).collect() for each in _READ}
        quality = projections.read(QualityResult, districts, [str(year)]).collect()
        earlier = classes_before(projections, districts, str(year))
        decided = decide_again(tables, quality, plans, earlier, network)
        ids = rows.select(*PARTITION, input_id=_with(pl.col("input_id"), pl.col("borrowed")))
        shown = decided.drop("input_id", strict=False).join(ids, on=PARTITION).select(list(columns(ClassDecision)))
        keys = ClassDecision.to_schema().unique or []
        projections.replace(
            ClassDecision, shown.sort(keys, nulls_last=True), rows.select(PARTITION).sort(PARTITION).rows()
        )
    if due.height:
        kept = states.join(due.with_columns(projection=pl.lit(BORROWED)), on=[*PARTITION, "projection"], how="anti")
        new = due.filter(pl.col("borrowed").is_not_null()).select(
            *PARTITION, projection=pl.lit(BORROWED), input_id="borrowed"
        )
        touched = due["district_id"].unique()
        projections.partitions.replace(
            pl.concat([kept, new.select(kept.columns)]).filter(pl.col("district_id").is_in(touched.implode())),
            [(district,) for district in touched.sort()],
        )
    return due.select(PARTITION).sort(PARTITION).rows()


def classes_before(projections: Projections, districts: Sequence[str], year: str) -> pl.DataFrame:
    """``ClassDecision`` rows of the two school years before."""
    years = [str(int(year) - back) for back in (1, 2)] if year.isdecimal() else []
    return projections.read(ClassDecision, districts, years).collect()


def _hashes(borrowed: pl.DataFrame) -> pl.DataFrame:
    """Hash of what each district-year borrows."""
    said = pl.struct(pl.exclude(PARTITION)).struct.json_encode()
    return (
        borrowed.select(*PARTITION, said=said)
        .sort("said")
        .group_by(PARTITION)
        .agg(borrowed=pl.col("said").str.join("\n"))
        .with_columns(pl.col("borrowed").chash.sha2_256())  # type: ignore[attr-defined]
    )


def _due(states: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    """District-years whose decisions stand on other parameters than wanted: `input_id` of their own, `borrowed`."""
    had = states.filter(pl.col("projection") == BORROWED).select(*PARTITION, had="input_id")
    return (
        states.filter(pl.col("projection") == table_name(ClassDecision))
        .select(*PARTITION, "input_id")
        .join(had, on=PARTITION, how="left")
        .join(wanted, on=PARTITION, how="left")
        .filter(pl.col("had").ne_missing(pl.col("borrowed")))
    )


def _with(own: pl.Expr, borrowed: pl.Expr) -> pl.Expr:
    both = pl.concat_str([own, borrowed], separator="\n").chash.sha2_256()  # type: ignore[attr-defined]
    return pl.when(borrowed.is_not_null()).then(both).otherwise(own)
