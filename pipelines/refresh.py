"""Log to projections: which district-years changed, their tables computed in one columnar pass, what that found."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version

import polars as pl

from pipelines.compute import Plans, Tables, compute, decide
from pipelines.facts import PARTITION, current_facts, digests, fingerprints
from pipelines.following import OF_OTHERS, Came, Elsewhere, both, due, with_arrivals
from pipelines.lending import STANDS_ON, lend
from pipelines.links import linked
from pipelines.quality import RESULT_COLUMNS, blocked, contract_results, finding_results, policy_results
from pipelines.rules import histories
from schemas.contract import columns, conform, empty, table_name
from schemas.events import ALL_YEARS
from schemas.policy import DistrictPolicy
from schemas.projections import (
    PROJECTIONS,
    ClassContext,
    ClassDecision,
    ClassGrowth,
    ClassMembership,
    ClassTopic,
    CutScore,
    Cycle,
    CycleOutcome,
    InterventionEffect,
    NeedLevel,
    PolicySetting,
    ProbeDay,
    Progress,
    Projection,
    QualityResult,
    Referral,
    RegroupingProposal,
    ResponderRate,
    School,
    SchoolSignal,
    ScreeningAccuracy,
    ScreeningResult,
    TierPlacement,
    TierStability,
    WindowRule,
)
from transforms.placement import STUDENT_WINDOW
from transforms.policies import Span, policy_settings
from transforms.rows import among
from transforms.tiers import state_after
from warehouse.log import Known, Log
from warehouse.projections import UNDER_WAY, DistrictState, Projections

RULES_VERSION = "3"
"""Raised whenever a rule changes what it says of the same facts: everything is then computed again."""
STATE = [*PARTITION, "projection"]
"""Key of ``PartitionState``."""
WRITERS = 3
"""Tables written at once."""
MOST_FACTS = 4_000_000
"""Facts computed together; more districts than this holds are taken in chunks."""
MOST_ROUNDS = 100
"""Times that history may pass from district to district in one run: more than any log has windows in a row."""
_SCREENING = ("screening",)
_CLASSES = ("screening", "roster", "description", "not_tested")
_CYCLES = ("cycle", "session")
_ALL = (*_CLASSES, *_CYCLES, "plan", "context")
READS: dict[type[Projection], tuple[str, ...]] = {
    PolicySetting: (),
    WindowRule: _SCREENING,
    ScreeningResult: _SCREENING,
    ClassMembership: _CLASSES,
    CutScore: _CLASSES,
    NeedLevel: _CLASSES,
    Cycle: (*_CLASSES, *_CYCLES),
    CycleOutcome: (*_CLASSES, *_CYCLES),
    Progress: _CYCLES,
    ProbeDay: _CYCLES,
    ResponderRate: (*_CLASSES, *_CYCLES),
    InterventionEffect: (*_CLASSES, *_CYCLES),
    TierPlacement: (*_CLASSES, *_CYCLES, "plan"),
    RegroupingProposal: (*_CLASSES, *_CYCLES, "plan"),
    Referral: ("plan",),
    School: ("roster",),
    ClassContext: (*_CLASSES, "context"),
    TierStability: _CLASSES,
    ScreeningAccuracy: _CLASSES,
    ClassDecision: _CLASSES,
    ClassGrowth: _CLASSES,
    ClassTopic: _CLASSES,
    SchoolSignal: _ALL,
    QualityResult: _ALL,
}
"""Event families each projection is computed from."""
TIERS_FOLLOW = frozenset({TierPlacement, RegroupingProposal, SchoolSignal})
"""Projections that start from the tiers with which the year before ended."""

_NOTHING_BEFORE = pl.DataFrame(schema={"district_id": pl.String, "before": pl.String, "projection": pl.String})

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
    by: Known = "recorded",
    school_year: str | None = None,
    lenders: Projections | None = None,
    plausible: Plausible | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> RefreshReport:
    """Bring the projections of these districts up to date.

    Args:
        log: The home's log.
        projections: Where the tables are kept; a store of its own for a day in the past.
        policies: The districts meant, each with the policy that rules it where none is on record.
        as_of: Only what was recorded by then counts, policies included.
        by: ``received``: a backfilled file counts from the day it was received.
        school_year: The only year to look at; the others stay as stale as they are.
        lenders: Where the home's other districts stand, if not in ``projections``.
        plausible: What else is asked of new tables before they are written.
        progress: Told what is under way.
    """
    report = RefreshReport()
    ledger = log.ledger_rows(sorted(policies), as_of, by)
    news = out_of_date(projections, ledger, policies)
    report.unchanged = sorted(set(policies) - set(news["district_id"]))
    if news.height:
        everywhere = log.ledger_rows(None, as_of, by)
        elsewhere = Elsewhere(projections, lenders or projections, linked(log, everywhere), everywhere)
        for districts in _chunks(ledger, news["district_id"].sort().to_list()):
            progress(", ".join(districts) if len(districts) < 4 else f"{len(districts)} districts")
            chosen = {district: policies[district] for district in districts}
            own_ledger = ledger.filter(pl.col("district_id").is_in(districts))
            _Refresh(log, projections, chosen, own_ledger, elsewhere, plausible, report).run(school_year)
        _follow(log, projections, policies, elsewhere, plausible, report, school_year)
        lent = lend(log, projections, lenders or projections, policies, as_of, school_year)
        report.updated = sorted({*report.updated, *lent})
    if news.height and school_year is None:
        projections.districts.replace(news, [(district,) for district in news["district_id"].to_list()])
    report.held = blocked(projections.read(QualityResult, sorted(policies)).collect()).rows()
    return report


class _Refresh:
    """One chunk of districts, school year by school year: a year's tiers start from those of the year before."""

    def __init__(
        self,
        log: Log,
        projections: Projections,
        policies: Mapping[str, DistrictPolicy],
        ledger: pl.DataFrame,
        elsewhere: Elsewhere,
        plausible: Plausible | None,
        report: RefreshReport,
    ) -> None:
        self.log = log
        self.elsewhere = elsewhere
        self.projections = projections
        self.districts = sorted(policies)
        self.histories = histories(log, policies, ledger)
        self.ledger = ledger
        self.plausible = plausible
        self.report = report

    def run(self, school_year: str | None) -> None:
        starts = {district: each.latest.year_starts_month for district, each in self.histories.items()}
        facts = current_facts(self.log, self.districts, self.ledger, _ALL, starts)
        hashes = fingerprints(facts).filter(pl.col("school_year") != ALL_YEARS)
        states = self.projections.partitions.scan(district_id=self.districts).collect()
        years = pl.concat([hashes["school_year"], states["school_year"]]).unique().sort().to_list()
        of_year = _by_year(facts)
        for year in years if school_year is None else sorted({school_year} & set(years)):
            own = {family: parts.pop((year,), none) for family, (none, parts) in of_year.items()}
            states = self._year(year, own, hashes.filter(pl.col("school_year") == year), states)
        self.projections.partitions.replace(states, [(district,) for district in self.districts])

    def _year(
        self, year: str, facts: dict[str, pl.DataFrame], hashes: pl.DataFrame, states: pl.DataFrame
    ) -> pl.DataFrame:
        """Write what is stale of one school year; returns the states of all years after that. Lets go of ``facts``."""
        plans = {district: each.of_year(year) for district, each in self.histories.items()}
        came = self.elsewhere.came(self.districts, year)
        states = with_arrivals(states, came, year, hashes)
        placements = self._placements_before(year, came)
        tiers = digests(state_after(placements), ["district_id"], "before")
        follow = dict.fromkeys(TIERS_FOLLOW, both(tiers, came.of(came.tiers))) | {ClassGrowth: came.of(came.fall)}
        inputs = input_ids(hashes, plans, follow)
        before = states.filter(pl.col("school_year") == year, ~pl.col("projection").is_in(OF_OTHERS))
        changed = inputs.join(before, on=[*PARTITION, "projection", "input_id"], how="anti")
        gone = before.join(inputs, on=[*PARTITION, "projection"], how="anti")
        stale = pl.concat([changed.select(PARTITION), gone.select(PARTITION)]).unique().sort(PARTITION)
        if stale.is_empty():
            return states
        shaped, good = self._compute(facts, plans, placements, came, inputs, stale)
        done, writes = [], []
        for contract in PROJECTIONS:
            touched = pl.concat(
                [
                    each.filter(pl.col("projection") == table_name(contract)).select(PARTITION)
                    for each in (changed, gone)
                ]
            ).unique()
            # what failed is said even where the tables stay as they were
            written = touched.join(stale if contract is QualityResult else good, on=PARTITION, how="semi")
            rows = shaped[contract]
            if written.height < stale.height:
                rows = among(rows, written, PARTITION)
            writes.append((contract, rows, written.sort(PARTITION).rows()))
            done.append(written.with_columns(projection=pl.lit(table_name(contract))))
            self.report.rows[table_name(contract)] = self.report.rows.get(table_name(contract), 0) + rows.height
        replaced = pl.concat([*done, good.with_columns(projection=pl.lit(STANDS_ON))])
        self._begin(states, replaced)
        with ThreadPoolExecutor(WRITERS) as pool:  # every projection is a table of its own
            list(pool.map(lambda each: self.projections.replace(*each), writes))
        self.report.updated += good.rows()
        self.report.quality = pl.concat([self.report.quality, shaped[QualityResult]])
        return pl.concat([states.join(replaced, on=STATE, how="anti"), inputs.join(replaced, on=STATE, how="semi")])

    def _begin(self, states: pl.DataFrame, replaced: pl.DataFrame) -> None:
        """Note what is being written: half of it must not pass for what it was, even if the inputs are those again."""
        touched = replaced["district_id"].unique().sort()
        noted = pl.concat(
            [states.join(replaced, on=STATE, how="anti"), replaced.with_columns(input_id=pl.lit(UNDER_WAY))]
        )
        rows = noted.filter(pl.col("district_id").is_in(touched.implode()))
        self.projections.partitions.replace(rows, [(district,) for district in touched])

    def _compute(
        self,
        facts: dict[str, pl.DataFrame],
        plans: Plans,
        placements: pl.DataFrame,
        came: Came,
        inputs: pl.DataFrame,
        stale: pl.DataFrame,
    ) -> tuple[Tables, pl.DataFrame]:
        """Every table of the stale district-years in its final shape, and which of these may be written.

        Facts and tables are let go as soon as they were used: a district of a hundred thousand has gigabytes of them.
        """
        stale_plans = {district: plans[district] for district in stale["district_id"].to_list()}
        lazy = {family: among(facts.pop(family), stale, PARTITION).lazy() for family in list(facts)}
        tables, findings = compute(lazy, stale_plans, placements, came.tiers)
        tables[PolicySetting] = policy_settings(stale_plans, stale.select(PARTITION))
        shaped = {contract: _shaped(tables.pop(contract), contract, inputs) for contract in list(tables)}
        unread = {district: self.histories[district].unread for district in stale_plans}
        found = [finding_results(findings), policy_results(stale.select(PARTITION), unread)]
        checked = [*found, *(contract_results(shaped[each], each, stale) for each in shaped)]
        if self.plausible is not None:
            latest = {district: spans[-1].policy for district, spans in stale_plans.items()}
            checked.append(self.plausible(shaped, self.ledger, latest).select(RESULT_COLUMNS))
        quality = pl.concat(checked).join(stale, on=PARTITION, how="semi")
        decided = decide(shaped, lazy, quality, stale_plans, came.fall)
        decisions = {contract: _shaped(rows, contract, inputs) for contract, rows in decided.items()}
        quality = pl.concat([quality, *(contract_results(rows, each, stale) for each, rows in decisions.items())])
        good = stale.join(blocked(quality), on=PARTITION, how="anti")
        return shaped | decisions | {QualityResult: _shaped(quality, QualityResult, inputs)}, good

    def _placements_before(self, year: str, came: Came) -> pl.DataFrame:
        """``TierPlacement`` rows of the year before, of districts whose school year can be told from it.

        What another district said of a linked student stands where this one said nothing of that window.
        """
        years = [str(int(year) - 1)] if year.isdecimal() else []
        own = self.projections.read(TierPlacement, self.districts, years).collect()
        return pl.concat([own, came.before.join(own, on=STUDENT_WINDOW, how="anti")])


def _follow(
    log: Log,
    projections: Projections,
    policies: Mapping[str, DistrictPolicy],
    elsewhere: Elsewhere,
    plausible: Plausible | None,
    report: RefreshReport,
    school_year: str | None,
) -> None:
    """Bring up to date whoever computed with another history of a linked student than now stands (SEMANTICS 3.5).

    What one window says rests on earlier windows alone, wherever they were, so this comes to an end, and the end does
    not depend on where it began.
    """
    anyone = next(iter(policies.values()))
    for _ in range(MOST_ROUNDS):
        behind = due(projections, elsewhere, school_year)
        if not behind:
            break
        for districts in _chunks(elsewhere.ledger, behind):
            chosen = {district: policies.get(district, anyone) for district in districts}
            own = elsewhere.ledger.filter(pl.col("district_id").is_in(districts))
            _Refresh(log, projections, chosen, own, elsewhere, plausible, report).run(school_year)
    report.updated = sorted(set(report.updated))


def _by_year(facts: dict[str, pl.DataFrame]) -> dict[str, tuple[pl.DataFrame, dict[tuple[object, ...], pl.DataFrame]]]:
    """Each family's empty table and its rows by school year; the tables given are let go one by one."""
    parts = {}
    for family in list(facts):
        rows = facts.pop(family).drop("content_hash")
        parts[family] = rows.clear(), rows.partition_by("school_year", as_dict=True)
    return parts


def input_ids(hashes: pl.DataFrame, plans: Plans, follow: Mapping[type[Projection], pl.DataFrame]) -> pl.DataFrame:
    """What each projection partition of a school year is computed from: partition, `projection`, `input_id`.

    Args:
        hashes: ``fingerprints`` of a year's facts.
        plans: Policies of each district in it.
        follow: `district_id`, `before`: hash of what a projection reads of the years before (SEMANTICS 4.2).
    """
    constants = pl.DataFrame(
        {
            "district_id": list(plans),
            "constant": [f"{_plan_text(each)}\n{_code_version()}" for each in plans.values()],
        },
        schema={"district_id": pl.String, "constant": pl.String},
    )
    named = [(table_name(contract), family) for contract, families in READS.items() for family in families]
    read = (
        hashes.join(pl.DataFrame(named, schema=["projection", "family"], orient="row"), on="family")
        .sort("family")
        .group_by(*PARTITION, "projection")
        .agg(pl.concat_str(["family", "facts_hash"], separator="=").str.join("\n").alias("read"))
    )
    before = [rows.with_columns(projection=pl.lit(table_name(contract))) for contract, rows in follow.items()]
    parts = ["constant", pl.col("read").fill_null(""), pl.col("before").fill_null("")]
    return (
        hashes.select(PARTITION)
        .unique()
        .join(constants, on="district_id")
        .join(pl.DataFrame({"projection": list(map(table_name, READS))}), how="cross")
        .join(read, on=[*PARTITION, "projection"], how="left")
        .join(pl.concat([_NOTHING_BEFORE, *before]), on=["district_id", "projection"], how="left")
        .select(
            *PARTITION,
            "projection",
            input_id=pl.concat_str(parts, separator="\n").chash.sha2_256(),  # type: ignore[attr-defined]
        )
    )


def _plan_text(spans: Sequence[Span]) -> str:
    """The policies of a school year as one text; the days between them, where there are several."""
    return "\n".join(
        f"{span.from_on if number else ''} {span.policy.valid_from} {span.policy.model_dump_json()}"
        for number, span in enumerate(spans)
    )


def _code_version() -> str:
    return f"{version('tierline')}/{RULES_VERSION}"


def out_of_date(projections: Projections, ledger: pl.DataFrame, districts: Collection[str]) -> pl.DataFrame:
    """``DistrictState`` of the districts whose projections may not say what the ledger and the rules now do.

    Policies are in the ledger too.
    """
    half_written = projections.partitions.scan().filter(pl.col("input_id") == UNDER_WAY).select("district_id")
    known = projections.districts.scan().join(half_written, on="district_id", how="anti").collect()
    latest = ledger.group_by("district_id").agg(ledger_at=pl.col("recorded_at").max())
    states = (
        pl.DataFrame({"district_id": sorted(districts)}, schema={"district_id": pl.String})
        .join(latest, on="district_id", how="left")
        .with_columns(code_version=pl.lit(_code_version()))
        .select(list(columns(DistrictState)))
    )
    return states.join(known, on=list(columns(DistrictState)), how="anti", nulls_equal=True)


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
