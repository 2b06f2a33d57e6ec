"""Log to projections: which district-years changed, their tables computed in one columnar pass, what that found."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version

import polars as pl

from pipelines.facts import PARTITION, current_facts, fingerprints
from pipelines.quality import RESULT_COLUMNS, blocked, contract_results, finding_results
from schemas.contract import columns, conform, empty, table_name
from schemas.events import ALL_YEARS
from schemas.exports import layouts
from schemas.policy import DistrictPolicy
from schemas.projections import (
    PROJECTIONS,
    ClassDecision,
    ClassMembership,
    Cycle,
    CycleOutcome,
    NeedLevel,
    Progress,
    Projection,
    QualityResult,
    Referral,
    SchoolSignal,
    ScreeningAccuracy,
    ScreeningResult,
    TierPlacement,
    TierStability,
    WindowRule,
)
from transforms.accuracy import screening_accuracy
from transforms.classrooms import class_decisions
from transforms.cycles import cycle_tables
from transforms.membership import class_memberships
from transforms.placement import need_levels
from transforms.screening import screening_results
from transforms.signals import school_signals
from transforms.stability import tier_stability
from transforms.tiers import referrals, tier_placements
from transforms.windows import window_rules
from warehouse.log import Log
from warehouse.projections import DistrictState, Projections

RULES_VERSION = "1"
"""Raised whenever a rule changes what it says of the same facts: everything is then computed again."""
MOST_FACTS = 4_000_000
"""Facts computed together; more districts than this holds are taken in chunks."""
_SCREENING = ("screening",)
_CLASSES = ("screening", "roster", "description", "not_tested")
_CYCLES = ("cycle", "session")
_ALL = (*_CLASSES, *_CYCLES, "plan", "context")
READS: dict[type[Projection], tuple[str, ...]] = {
    WindowRule: _SCREENING,
    ScreeningResult: _SCREENING,
    ClassMembership: _CLASSES,
    NeedLevel: _CLASSES,
    Cycle: _CYCLES,
    CycleOutcome: _CYCLES,
    Progress: _CYCLES,
    TierPlacement: (*_CLASSES, *_CYCLES, "plan"),
    Referral: ("plan",),
    TierStability: _CLASSES,
    ScreeningAccuracy: _CLASSES,
    ClassDecision: _CLASSES,
    SchoolSignal: _ALL,
    QualityResult: _ALL,
}
"""Event families each projection is computed from."""

Plausible = Callable[
    [Mapping[type[Projection], pl.DataFrame], pl.DataFrame, Mapping[str, DistrictPolicy]], pl.DataFrame
]
"""Looks at new projections and the ledger and returns ``QualityResult`` rows without ``input_id``."""


@dataclass
class RefreshReport:
    """What a refresh did."""

    updated: list[tuple[str, str]] = field(default_factory=list)
    """District-years whose tables were written."""
    unchanged: list[str] = field(default_factory=list)
    """Districts for which nothing can have changed."""
    held: list[tuple[str, str, str]] = field(default_factory=list)
    """District-years whose last good version stays, and the rule that failed."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows written, by table."""
    quality: pl.DataFrame = field(default_factory=lambda: empty(QualityResult))


def refresh(
    log: Log,
    projections: Projections,
    policies: Mapping[str, DistrictPolicy],
    *,
    as_of: datetime | None = None,
    school_year: str | None = None,
    plausible: Plausible | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> RefreshReport:
    """Bring the projections of these districts up to date.

    Args:
        log: The home's log.
        projections: Where the tables are kept; a store of its own for a day in the past.
        policies: The districts meant, with their policies.
        as_of: Only what was recorded by then counts.
        school_year: The only year to look at; the others stay as stale as they are.
        plausible: What else is asked of new tables before they are written.
        progress: Told what is under way.
    """
    report = RefreshReport()
    ledger = log.ledger_rows(sorted(policies), as_of)
    states = _district_states(ledger, policies)
    news = out_of_date(projections, ledger, policies)
    report.unchanged = sorted(set(policies) - set(news["district_id"]))
    for districts in _chunks(ledger, news["district_id"].sort().to_list()):
        progress(", ".join(districts) if len(districts) < 4 else f"{len(districts)} districts")
        chosen = {district: policies[district] for district in districts}
        _refresh(log, projections, chosen, ledger, school_year, plausible, report)
        if school_year is None:
            projections.districts.replace(
                states.filter(pl.col("district_id").is_in(districts)), [(district,) for district in districts]
            )
    report.held = blocked(projections.read(QualityResult, sorted(policies)).collect()).rows()
    return report


def _refresh(
    log: Log,
    projections: Projections,
    policies: Mapping[str, DistrictPolicy],
    ledger: pl.DataFrame,
    school_year: str | None,
    plausible: Plausible | None,
    report: RefreshReport,
) -> None:
    districts = sorted(policies)
    own_ledger = ledger.filter(pl.col("district_id").is_in(districts))
    starts = {district: policy.year_starts_month for district, policy in policies.items()}
    facts = current_facts(log, districts, own_ledger, _ALL, starts)
    inputs = input_ids(facts, policies)
    before = projections.partitions.scan(district_id=districts).collect()
    changed = inputs.join(before, on=[*PARTITION, "projection", "input_id"], how="anti")
    gone = before.join(inputs, on=[*PARTITION, "projection"], how="anti")
    stale = pl.concat([changed.select(PARTITION), gone.select(PARTITION)]).unique().sort(PARTITION)
    if school_year is not None:
        stale = stale.filter(pl.col("school_year") == school_year)
    if stale.is_empty():
        return
    lazy = {family: rows.join(stale, on=PARTITION, how="semi").lazy() for family, rows in facts.items()}
    tables, findings = compute(lazy, policies)
    shaped = {contract: _shaped(rows, contract, inputs) for contract, rows in tables.items()}
    checked = [finding_results(findings), *(contract_results(shaped[each], each, stale) for each in shaped)]
    if plausible is not None:
        checked.append(plausible(shaped, own_ledger, policies).select(RESULT_COLUMNS))
    quality = pl.concat(checked).join(stale, on=PARTITION, how="semi")
    decided = _decide(shaped, lazy, quality, policies)
    decisions = {contract: _shaped(rows, contract, inputs) for contract, rows in decided.items()}
    quality = pl.concat([quality, *(contract_results(rows, each, stale) for each, rows in decisions.items())])
    shaped |= decisions | {QualityResult: _shaped(quality, QualityResult, inputs)}
    good = stale.join(blocked(quality), on=PARTITION, how="anti")
    done = []
    for contract in PROJECTIONS:
        mine = pl.concat(
            [each.filter(pl.col("projection") == table_name(contract)).select(PARTITION) for each in (changed, gone)]
        ).unique()
        # what failed is said even where the tables stay as they were
        written = mine.join(stale if contract is QualityResult else good, on=PARTITION, how="semi").sort(PARTITION)
        rows = shaped[contract]
        if written.height < stale.height:
            rows = rows.join(written, on=PARTITION, how="semi", maintain_order="left")
        projections.replace(contract, rows, written.rows())
        done.append(written.with_columns(projection=pl.lit(table_name(contract))))
        report.rows[table_name(contract)] = report.rows.get(table_name(contract), 0) + rows.height
    key = [*PARTITION, "projection"]
    replaced = pl.concat(done)
    states = [before.join(replaced, on=key, how="anti"), inputs.join(replaced, on=key, how="semi")]
    projections.partitions.replace(pl.concat(states), [(district,) for district in districts])
    report.updated += good.rows()
    report.quality = pl.concat([report.quality, shaped[QualityResult]])


def compute(
    facts: Mapping[str, pl.LazyFrame], policies: Mapping[str, DistrictPolicy]
) -> tuple[dict[type[Projection], pl.DataFrame], pl.DataFrame]:
    """Every projection that needs no verdict on data quality, and what was found on the way."""
    richness = {layout.id: layout.richness for layout in layouts().values()}
    tests = screening_results(facts, policies, richness).collect()
    windows = window_rules(tests.lazy(), policies).collect()
    memberships = class_memberships(facts, windows.lazy(), policies).collect()
    needs = need_levels(tests.lazy(), memberships.lazy(), windows.lazy(), facts, policies).collect()
    cycles = cycle_tables(facts, policies)
    placements = tier_placements(
        needs.lazy(),
        tests.lazy(),
        memberships.lazy(),
        windows.lazy(),
        cycles.cycle.lazy(),
        cycles.cycle_outcome.lazy(),
        facts,
        policies,
    )
    tables: dict[type[Projection], pl.DataFrame] = {
        WindowRule: windows,
        ScreeningResult: tests,
        ClassMembership: memberships,
        NeedLevel: needs,
        Cycle: cycles.cycle,
        CycleOutcome: cycles.cycle_outcome,
        Progress: cycles.progress,
        TierPlacement: placements,
        Referral: referrals(facts).collect(),
        TierStability: tier_stability(needs),
        ScreeningAccuracy: screening_accuracy(needs.lazy(), tests.lazy(), policies),
    }
    return tables, cycles.finding


def _decide(
    tables: Mapping[type[Projection], pl.DataFrame],
    facts: Mapping[str, pl.LazyFrame],
    quality: pl.DataFrame,
    policies: Mapping[str, DistrictPolicy],
) -> dict[type[Projection], pl.DataFrame]:
    """Decisions come last: a school whose data failed is told so instead of being flagged."""
    decisions = class_decisions(tables[ClassMembership].lazy(), tables[NeedLevel].lazy(), quality.lazy(), policies)
    signals = school_signals(
        tables[ClassMembership].lazy(),
        tables[TierPlacement].lazy(),
        tables[Cycle].lazy(),
        tables[CycleOutcome].lazy(),
        facts,
        decisions.lazy(),
        quality.lazy(),
        policies,
    )
    return {ClassDecision: decisions, SchoolSignal: signals}


def input_ids(facts: Mapping[str, pl.DataFrame], policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """What each projection partition is computed from: partition, `projection`, `input_id` (SEMANTICS 4.2)."""
    hashes = fingerprints(facts).filter(pl.col("school_year") != ALL_YEARS)
    constants = pl.DataFrame(
        {
            "district_id": list(policies),
            "constant": [f"{policy_hash(p)}\n{_code_version()}" for p in policies.values()],
        },
        schema={"district_id": pl.String, "constant": pl.String},
    )
    partitions = hashes.select(PARTITION).unique().join(constants, on="district_id")
    made = [
        partitions.join(
            hashes.filter(pl.col("family").is_in(families))
            .sort("family")
            .group_by(PARTITION)
            .agg(pl.concat_str(["family", "facts_hash"], separator="=").str.join("\n").alias("read")),
            on=PARTITION,
            how="left",
        ).select(
            *PARTITION,
            projection=pl.lit(table_name(contract)),
            input_id=pl.concat_str(["constant", pl.col("read").fill_null("")], separator="\n").chash.sha2_256(),  # type: ignore[attr-defined]
        )
        for contract, families in READS.items()
    ]
    return pl.concat(made)


def policy_hash(policy: DistrictPolicy) -> str:
    """Changes when any number of the policy does."""
    return hashlib.sha256(policy.model_dump_json().encode()).hexdigest()


def _code_version() -> str:
    return f"{version('tierline')}/{RULES_VERSION}"


def out_of_date(projections: Projections, ledger: pl.DataFrame, policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """``DistrictState`` of the districts whose projections may not say what ledger, policy and code now do."""
    known = projections.districts.scan().collect()
    return _district_states(ledger, policies).join(known, on=list(columns(DistrictState)), how="anti", nulls_equal=True)


def _district_states(ledger: pl.DataFrame, policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    latest = ledger.group_by("district_id").agg(ledger_at=pl.col("recorded_at").max())
    return (
        pl.DataFrame(
            {"district_id": list(policies), "policy_hash": [policy_hash(p) for p in policies.values()]},
            schema={"district_id": pl.String, "policy_hash": pl.String},
        )
        .join(latest, on="district_id", how="left")
        .with_columns(code_version=pl.lit(_code_version()))
        .select(list(columns(DistrictState)))
    )


def _chunks(ledger: pl.DataFrame, districts: Sequence[str]) -> Iterator[list[str]]:
    """Districts taken together, as many as memory allows."""
    weight = dict(
        ledger.group_by("district_id").agg(pl.sum_horizontal("facts_appended", "facts_corrected").sum()).rows()
    )
    chunk: list[str] = []
    total = 0
    for district in districts:
        if chunk and total + (weight.get(district) or 0) > MOST_FACTS:
            yield chunk
            chunk, total = [], 0
        chunk.append(district)
        total += weight.get(district) or 0
    if chunk:
        yield chunk


def _shaped(rows: pl.DataFrame, contract: type[Projection], inputs: pl.DataFrame) -> pl.DataFrame:
    """Rows in the contract's shape and, by its key, in a fixed order: the same input gives the same bytes."""
    ids = inputs.filter(pl.col("projection") == table_name(contract)).drop("projection")
    own = rows.lazy().drop("input_id", strict=False).join(ids.lazy(), on=PARTITION, how="left")
    shaped = conform(own, contract).collect()
    keys = contract.to_schema().unique or [name for name, dtype in shaped.schema.items() if not dtype.is_nested()]
    return shaped.sort(keys, nulls_last=True)
