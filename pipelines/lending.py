"""What class decisions take from beyond their district-year, once every district's own tables stand.

Districts too small to fit a prior borrow that of their home, and the years before say whether a grade was a system
matter then. Years are taken in order, because what a district borrows in one year may change what it says to the next.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from pipelines.compute import Plans, Tables, decide_again
from pipelines.facts import PARTITION, digests
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
from transforms.persistence import YEARS_BACK, grade_years, persistence
from warehouse.log import Log
from warehouse.projections import Projections

STANDS_ON = "class_decision stands on"
"""Name under which a partition's state keeps the hash of what its decisions took from elsewhere."""
_READ: tuple[type[Projection], ...] = (WindowRule, Cycle, ClassMembership, NeedLevel, ClassTopic)


def lend(
    log: Log,
    projections: Projections,
    lenders: Projections,
    policies: Mapping[str, DistrictPolicy],
    as_of: datetime | None = None,
    school_year: str | None = None,
) -> list[tuple[str, str]]:
    """Finish the class decisions of the district-years for which something elsewhere changed (SEMANTICS 4.2, 7.5).

    Args:
        log: The home's log.
        projections: Where the tables are kept.
        lenders: Where the classes of districts stand that are not in ``projections``.
        policies: Districts of ``projections``, for those that have no policy on record.
        as_of: Only policies recorded by then count.
        school_year: The only year to look at.
    """
    states = projections.partitions.scan().collect()
    own = states["district_id"].unique().to_list()
    anyone = next(iter(policies.values()))
    told = histories(log, {each: policies.get(each, anyone) for each in own}, log.ledger_rows(own, as_of))
    classes = _classes(projections, lenders, own)
    network = network_priors(classes)
    borrowed = digests(borrowers(classes, network), PARTITION, "borrowed")
    decided = states.filter(pl.col("projection") == table_name(ClassDecision))
    done = []
    for year in decided["school_year"].unique().sort() if school_year is None else [school_year]:
        earlier = _classes_before(projections, own, year)
        due = _due(states.filter(pl.col("school_year") == year), borrowed, grade_years(earlier))
        if due.height:
            plans = {district: told[district].of_year(year) for district in due["district_id"].to_list()}
            rows = _finished(projections, due, plans, earlier, network)
            projections.replace(ClassDecision, rows, due.select(PARTITION).sort(PARTITION).rows())
            done.append(due)
    if not done:
        return []
    _keep(projections, states, pl.concat(done))
    return pl.concat(done).select(PARTITION).sort(PARTITION).rows()


def _classes(projections: Projections, lenders: Projections, own: Sequence[str]) -> pl.DataFrame:
    """Every class of the home, as far as a prior is fitted to it."""
    elsewhere = ~pl.col("district_id").is_in(list(own))
    return pl.concat(
        [
            store.read(ClassDecision).filter(keep).select(*NETWORK, *LENDING).collect()
            for store, keep in ((projections, pl.lit(value=True)), (lenders, elsewhere))
        ]
    )


def _classes_before(projections: Projections, districts: Sequence[str], year: str) -> pl.DataFrame:
    """``ClassDecision`` rows of the two school years before."""
    years = [str(int(year) - back) for back in YEARS_BACK] if year.isdecimal() else []
    return projections.read(ClassDecision, districts, years).collect()


def _due(states: pl.DataFrame, borrowed: pl.DataFrame, earlier: pl.DataFrame) -> pl.DataFrame:
    """District-years of a school year whose decisions stand on something else than what is there now.

    Their partition, the `input_id` of what is their own, `had` and `stands_on`.
    """
    before = digests(earlier, ["district_id"], "earlier")
    had = states.filter(pl.col("projection") == STANDS_ON).select(*PARTITION, had="input_id")
    return (
        states.filter(pl.col("projection") == table_name(ClassDecision))
        .select(*PARTITION, "input_id")
        .join(had, on=PARTITION, how="left")
        .join(borrowed, on=PARTITION, how="left")
        .join(before, on="district_id", how="left")
        .with_columns(
            stands_on=pl.when(pl.any_horizontal(pl.col("borrowed", "earlier").is_not_null())).then(
                _sha(pl.col("borrowed").fill_null(""), pl.col("earlier").fill_null(""))
            )
        )
        .filter(pl.col("had").ne_missing(pl.col("stands_on")))
    )


def _finished(
    projections: Projections, due: pl.DataFrame, plans: Plans, earlier: pl.DataFrame, network: pl.DataFrame
) -> pl.DataFrame:
    """``ClassDecision`` rows of these district-years of a school year, in the table's order.

    Where nothing was and nothing is borrowed, the rows on hand only learn what earlier years say.
    """
    (year,) = due["school_year"].unique()
    as_they_are = pl.col("borrowed").is_null() & pl.col("had").is_null()
    kept, again = (due.filter(each)["district_id"].to_list() for each in (as_they_are, ~as_they_are))
    parts = []
    if kept:
        parts.append(persistence(projections.read(ClassDecision, kept, [year]).collect(), earlier))
    if again:
        tables: Tables = {each: projections.read(each, again, [year]).collect() for each in _READ}
        quality = projections.read(QualityResult, again, [year]).collect()
        parts.append(decide_again(tables, quality, {each: plans[each] for each in again}, earlier, network))
    own = pl.when(pl.col("stands_on").is_null()).then("input_id").otherwise(_sha("input_id", "stands_on"))
    ids = due.select(*PARTITION, input_id=own)
    names = list(columns(ClassDecision))
    rows = [each.drop("input_id", strict=False).join(ids, on=PARTITION).select(names) for each in parts]
    return pl.concat(rows).sort(ClassDecision.to_schema().unique or names, nulls_last=True)


def _keep(projections: Projections, states: pl.DataFrame, due: pl.DataFrame) -> None:
    """Write down what the decisions of these district-years now stand on."""
    own = due.with_columns(projection=pl.lit(STANDS_ON))
    kept = states.join(own, on=[*PARTITION, "projection"], how="anti")
    new = own.filter(pl.col("stands_on").is_not_null()).select(*PARTITION, "projection", input_id="stands_on")
    touched = due["district_id"].unique().sort()
    rows = pl.concat([kept, new.select(kept.columns)]).filter(pl.col("district_id").is_in(touched.implode()))
    projections.partitions.replace(rows, [(district,) for district in touched])


def _sha(first: str | pl.Expr, *others: str | pl.Expr) -> pl.Expr:
    return pl.concat_str([first, *others], separator="\n").chash.sha2_256()  # type: ignore[attr-defined]
