"""Students of two districts who are one: the agreement and the state ids on record, and whose history follows whom.

A district states on its own which student has which state id, as a keyed hash; who is linked is derived when the log is
read, from the districts that have the agreement on record by then (SEMANTICS 3.5, decision 24).
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime

import polars as pl

from pipelines.facts import LINK
from pipelines.statements import Statement, record
from schemas.contract import columns
from schemas.policy import NO_LINKS, HomePolicy
from schemas.projections import NeedLevel, Projection, TierPlacement
from transforms.identity import links, people, state_ids
from transforms.versions import keyed_hash, latest_stated
from warehouse.log import POLICY, STATEMENT, Log, loaded
from warehouse.projections import Projections
from warehouse.vault import Vault

AGREEMENT = "DistrictLinksSet"
IDENTIFIED = "StudentIdentified"
STATED_BY = "cross_district_links"
"""What the ledger calls the file of such a statement."""
FOLLOWS: tuple[type[Projection], ...] = (TierPlacement, NeedLevel)
"""What follows a student: the tiers, and what fall said."""


def record_state_ids(
    log: Log,
    vault: Vault,
    secret: bytes,
    district_id: str,
    agency: HomePolicy,
    ledger: pl.DataFrame,
    now: Callable[[], datetime],
) -> None:
    """Append which student has which state id by the rosters, as far as the log does not say it yet.

    Nothing where the home does not link districts. The district's lease is held.
    """
    if not agency.cross_district_links:
        return
    known = _identified(log, [district_id], ledger).select("subject_key", was="state_id_hash")
    own = state_ids(vault.roster_ids(district_id), agency.state_id_types)
    hashed = own.select("subject_key", state_id_hash=keyed_hash(pl.lit("state id\x1f") + pl.col("id"), secret))
    changed = (
        hashed.join(known, on="subject_key", how="full", coalesce=True)
        .filter(pl.col("state_id_hash").ne_missing(pl.col("was")))
        .sort("subject_key")
        .select("subject_key", "state_id_hash", event_type=pl.lit(IDENTIFIED), stated_by=pl.lit("roster"))
    )
    if changed.is_empty():
        return
    earlier = ledger.filter(pl.col("layout") == STATEMENT).height  # an id may go and come back
    text = "\0".join([district_id, STATED_BY, str(earlier), *changed["subject_key"]])
    batch_id = hashlib.sha256(text.encode()).hexdigest()
    statement = Statement(STATEMENT, STATED_BY, "identity", changed)
    record(log, vault, secret, district_id, batch_id, statement, ledger, now)


def linked(log: Log, ledger: pl.DataFrame) -> pl.DataFrame:
    """Whose history follows whom, by the batches of ``ledger``: ``transforms.identity.links``."""
    agreed = _agreed(log, ledger)
    events = log.events("identity", agreed, loaded(ledger)).select(LINK).collect()
    identified = _identified(log, agreed, ledger)
    return links(people(events).of(identified).select("district_id", "subject_key", "state_id_hash"))


def _agreed(log: Log, ledger: pl.DataFrame) -> list[str]:
    """Districts that have an agreement on record."""
    readings = loaded(ledger).filter(pl.col("layout") == POLICY)
    districts = ledger["district_id"].unique().sort().to_list()
    said = log.events("rules", districts, readings).filter(pl.col("event_type") == AGREEMENT).collect()
    return latest_stated(said).filter(pl.col("document") != NO_LINKS)["district_id"].sort().to_list()


def _identified(log: Log, districts: Sequence[str], ledger: pl.DataFrame) -> pl.DataFrame:
    said = log.events("identity", districts, loaded(ledger)).filter(pl.col("event_type") == IDENTIFIED)
    return latest_stated(said.collect())


def arrived(
    links: pl.DataFrame,
    stores: Sequence[tuple[Projections, pl.Expr]],
    contract: type[Projection],
    years: Sequence[str],
    key: Sequence[str],
) -> pl.DataFrame:
    """Rows about linked students in the other districts, under their own district and key.

    Of several districts that say something of one student and time, the one that looked last counts, ties by district.

    Args:
        links: ``linked`` of the districts that read.
        stores: Where the other districts' tables are, each with the districts it counts for.
        contract: ``TierPlacement`` or ``NeedLevel``.
        years: School years.
        key: Beside district and student, what tells rows apart.
    """
    names = list(columns(contract))
    others = links["other_district"].unique().sort().to_list()
    if not others:
        return pl.DataFrame(schema=columns(contract))
    rows = pl.concat([store.read(contract, others, years).filter(whose).collect() for store, whose in stores])
    theirs = links.rename({"district_id": "own_district", "subject_key": "own_key"})
    dated = ["reference_on"] if "reference_on" in names else []
    return (
        rows.join(theirs, left_on=["district_id", "subject_key"], right_on=["other_district", "other_key"])
        .sort([*dated, "district_id"], descending=[*(True for _ in dated), False], nulls_last=True)
        .with_columns(district_id="own_district", subject_key="own_key")
        .unique(["district_id", "subject_key", *key], keep="first", maintain_order=True)
        .select(names)
    )
