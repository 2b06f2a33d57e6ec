"""Facts to projections in one columnar pass: the order of the transforms, and each window by the policy of its day."""

from collections.abc import Mapping, Sequence

import polars as pl

from schemas.contract import columns, empty
from schemas.exports import layouts
from schemas.policy import DistrictPolicy
from schemas.projections import (
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
    ProbeDay,
    Progress,
    Projection,
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
from transforms.accuracy import screening_accuracy
from transforms.classrooms import class_decisions
from transforms.contexts import class_contexts
from transforms.cuts import cut_scores
from transforms.cycles import cycle_tables
from transforms.effects import intervention_effects
from transforms.entering import class_growth
from transforms.membership import class_memberships
from transforms.persistence import persistence
from transforms.placement import STUDENT_MEASURE, need_levels
from transforms.policies import Span
from transforms.regrouping import regrouping_proposals
from transforms.responses import grades_of, responder_rates
from transforms.schools import schools
from transforms.screening import screening_results
from transforms.signals import school_signals
from transforms.stability import tier_stability
from transforms.tier_inputs import placement_inputs, referrals
from transforms.tiers import tier_states
from transforms.topics import class_topics, with_topics
from transforms.windows import WINDOW, window_rules

Tables = dict[type[Projection], pl.DataFrame]
Plans = Mapping[str, Sequence[Span]]
"""Policies of each district in one school year, in order."""

_DISTRICT = "district_id"


def compute(
    facts: Mapping[str, pl.LazyFrame],
    plans: Plans,
    before: pl.DataFrame | None = None,
    elsewhere: pl.DataFrame | None = None,
) -> tuple[Tables, pl.DataFrame]:
    """Every projection of one school year that needs no verdict on data quality, and what was found on the way.

    Where a district's policy changed in the year, its facts are read under each policy and every window is taken from
    the one in force on its reference date, every cycle from the one in force when it opened, and what lies in no
    window from the last. Tiers go from window to window, so they come after each has the policy of its day; what is
    said of interventions stands on the rows so taken.

    Args:
        facts: Current facts by family.
        plans: Policies of each district in the school year.
        before: ``TierPlacement`` rows of the school year before.
        elsewhere: ``TierPlacement`` rows of this year that other districts made of linked students.
    """
    tables, findings = _by_policy(facts, plans)
    tables[TierPlacement] = tier_states(tables[TierPlacement], before, elsewhere)
    tables[TierStability] = tier_stability(tables[NeedLevel])
    latest = {district: spans[-1].policy for district, spans in plans.items()}
    tables[ClassContext] = class_contexts(facts, tables[ClassMembership], latest)
    tables[RegroupingProposal] = regrouping_proposals(
        tables[TierPlacement], tables[Cycle], tables[CycleOutcome], latest
    )
    return tables, findings


def _by_policy(facts: Mapping[str, pl.LazyFrame], plans: Plans) -> tuple[Tables, pl.DataFrame]:
    """The tables in which each window stands for itself; ``TierPlacement`` as ``placement_inputs``."""
    passes = _passes(plans)
    parts = [_tables(_of(facts, policies) if len(passes) > 1 else facts, policies) for policies in passes]
    latest = {district: spans[-1].policy for district, spans in plans.items()}
    if len(passes) == 1:
        tables, findings = parts[0]
        return tables | _responses(tables, latest), findings
    rulers = _rulers([tables for tables, _ in parts], plans)
    found = [
        findings.join(_last(plans, number), on=_DISTRICT, how="semi") for number, (_, findings) in enumerate(parts)
    ]
    tables = _chosen([tables for tables, _ in parts], plans, rulers)
    return tables | _responses(tables, latest), pl.concat(found)


def decide(
    tables: Tables,
    facts: Mapping[str, pl.LazyFrame],
    quality: pl.DataFrame,
    plans: Plans,
    elsewhere: pl.DataFrame | None = None,
) -> Tables:
    """Decisions come last: a school whose data failed is told so instead of being flagged.

    Nothing of other districts and other school years is in them yet: ``pipelines.lending`` adds that.

    Args:
        tables: What ``compute`` made.
        facts: Current facts by family.
        quality: ``QualityResult`` rows.
        plans: Policies of each district.
        elsewhere: ``NeedLevel`` rows of this year that other districts made of linked students.
    """
    decided = _decide(tables, facts, quality, plans, elsewhere)
    return decided | {ClassDecision: persistence(decided[ClassDecision])}


def _decide(
    tables: Tables,
    facts: Mapping[str, pl.LazyFrame],
    quality: pl.DataFrame,
    plans: Plans,
    elsewhere: pl.DataFrame | None,
) -> Tables:
    """Decisions of each window by the policy of its day; levels of fall are those of fall's policy throughout."""
    passes, needs = _passes(plans), tables[NeedLevel]
    if elsewhere is not None:
        needs = pl.concat([needs, elsewhere.join(needs, on=STUDENT_MEASURE, how="anti")])
    if len(passes) == 1:
        return _decisions(tables, needs, facts, quality, passes[0])
    rulers = _rulers([tables] * len(passes), plans)
    parts = [
        _decisions(
            {contract: _in_force(rows, contract, plans, rulers, number) for contract, rows in tables.items()},
            needs.join(_those(policies), on=_DISTRICT, how="semi"),
            _of(facts, policies),
            quality.join(_those(policies), on=_DISTRICT, how="semi"),
            policies,
        )
        for number, policies in enumerate(passes)
    ]
    return {contract: pl.concat([part[contract] for part in parts]) for contract in parts[0]}


def decide_again(
    tables: Tables, quality: pl.DataFrame, plans: Plans, earlier: pl.DataFrame, network: pl.DataFrame
) -> pl.DataFrame:
    """``ClassDecision`` rows of districts that borrow a prior, from their own tables as they stand.

    Args:
        tables: Windows, cycles, memberships, need levels and topics.
        quality: ``QualityResult`` rows.
        plans: Policies of each district.
        earlier: ``ClassDecision`` rows of the two school years before.
        network: ``network_priors`` of the home.
    """
    passes = _passes(plans)
    rulers = _rulers([tables] * len(passes), plans)
    parts = []
    for number, policies in enumerate(passes):
        own = {contract: _in_force(rows, contract, plans, rulers, number) for contract, rows in tables.items()}
        checked = quality.join(_those(policies), on=_DISTRICT, how="semi").lazy()
        members, needs = own[ClassMembership].lazy(), own[NeedLevel].lazy()
        parts.append(with_topics(class_decisions(members, needs, checked, policies, network), own[ClassTopic]))
    return persistence(pl.concat(parts), earlier)


def _tables(facts: Mapping[str, pl.LazyFrame], policies: Mapping[str, DistrictPolicy]) -> tuple[Tables, pl.DataFrame]:
    richness = {layout.id: layout.richness for layout in layouts().values()}
    tests = screening_results(facts, policies, richness).collect()
    windows = window_rules(tests.lazy(), policies).collect()
    memberships = class_memberships(facts, windows.lazy(), policies, tests.lazy()).collect()
    cuts = cut_scores(tests.lazy(), memberships.lazy(), windows.lazy(), policies).collect()
    needs = need_levels(tests.lazy(), memberships.lazy(), windows.lazy(), cuts.lazy(), facts, policies).collect()
    cycles = cycle_tables(facts, policies, grades_of(memberships, needs), memberships)
    placements = placement_inputs(
        needs.lazy(),
        tests.lazy(),
        memberships.lazy(),
        windows.lazy(),
        cycles.cycle.lazy(),
        cycles.cycle_outcome.lazy(),
        facts,
        policies,
    ).collect()
    tables: Tables = {
        WindowRule: windows,
        ScreeningResult: tests,
        ClassMembership: memberships,
        CutScore: cuts,
        NeedLevel: needs,
        Cycle: cycles.cycle,
        CycleOutcome: cycles.cycle_outcome,
        Progress: cycles.progress,
        ProbeDay: cycles.probe_day,
        TierPlacement: placements,
        Referral: referrals(facts).collect(),
        School: schools(facts).collect(),
        ScreeningAccuracy: screening_accuracy(needs.lazy(), tests.lazy(), policies),
    }
    return tables, cycles.finding


def _responses(tables: Tables, policies: Mapping[str, DistrictPolicy]) -> Tables:
    cycles, outcomes = tables[Cycle], tables[CycleOutcome]
    if outcomes.is_empty():  # both are about those who were in a cycle
        return {each: empty(each).drop("input_id") for each in (ResponderRate, InterventionEffect)}
    return {
        ResponderRate: responder_rates(cycles.lazy(), outcomes.lazy(), policies),
        InterventionEffect: intervention_effects(
            tables[ScreeningResult], tables[NeedLevel], cycles, outcomes, policies
        ),
    }


def _decisions(
    tables: Mapping[type[Projection], pl.DataFrame],
    fall: pl.DataFrame,
    facts: Mapping[str, pl.LazyFrame],
    quality: pl.DataFrame,
    policies: Mapping[str, DistrictPolicy],
) -> Tables:
    memberships, needs = tables[ClassMembership].lazy(), tables[NeedLevel].lazy()
    decisions = class_decisions(memberships, needs, quality.lazy(), policies)
    topics = class_topics(memberships, tables[ScreeningResult].lazy(), decisions.lazy(), policies)
    signals = school_signals(
        memberships,
        tables[TierPlacement].lazy(),
        tables[Cycle].lazy(),
        tables[CycleOutcome].lazy(),
        facts,
        decisions.lazy(),
        quality.lazy(),
        policies,
    )
    return {
        ClassDecision: with_topics(decisions, topics),
        ClassGrowth: class_growth(memberships, needs, fall.lazy(), policies),
        ClassTopic: topics,
        SchoolSignal: signals,
    }


# Policies that change within a school year


def _passes(plans: Plans) -> list[dict[str, DistrictPolicy]]:
    """The first policy of every district, the second of those that have one, and so on."""
    most = max((len(spans) for spans in plans.values()), default=0)
    return [
        {district: spans[number].policy for district, spans in plans.items() if number < len(spans)}
        for number in range(most)
    ]


def _those(districts: Mapping[str, object]) -> pl.DataFrame:
    return pl.DataFrame({_DISTRICT: list(districts)}, schema={_DISTRICT: pl.String})


def _last(plans: Plans, number: int) -> pl.DataFrame:
    return _those({district: spans for district, spans in plans.items() if number == len(spans) - 1})


def _of(facts: Mapping[str, pl.LazyFrame], policies: Mapping[str, DistrictPolicy]) -> dict[str, pl.LazyFrame]:
    districts = _those(policies).lazy()
    return {family: rows.join(districts, on=_DISTRICT, how="semi") for family, rows in facts.items()}


def _spans(plans: Plans) -> pl.DataFrame:
    return pl.DataFrame(
        [
            (district, number, span.from_on, span.until_on)
            for district, spans in plans.items()
            for number, span in enumerate(spans)
        ],
        schema={_DISTRICT: pl.String, "ruler": pl.UInt32, "from_on": pl.Date, "until_on": pl.Date},
        orient="row",
    )


def _ruled(rows: pl.DataFrame, day: str, plans: Plans) -> pl.DataFrame:
    """The rows with the number of the policy in force on a day; the last where there is no day."""
    began = pl.col("from_on").is_null() | (pl.col("ruler") == 0) | (pl.col(day) >= pl.col("from_on"))
    ended = pl.col("until_on").is_not_null() & (pl.col(day) >= pl.col("until_on"))
    last = pl.col("ruler") == pl.col("ruler").max().over(_DISTRICT)
    return (
        rows.join(_spans(plans), on=_DISTRICT)
        .filter(pl.when(pl.col(day).is_null()).then(last).otherwise(began & (~ended | last)))
        .drop("from_on", "until_on")
    )


def _rulers(parts: Sequence[Tables], plans: Plans) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Which policy rules each window and each cycle: by the reference date, and by the day it opened."""

    def of(contract: type[Projection], key: list[str], day: str) -> pl.DataFrame:
        own = [part[contract].join(_last(plans, number), on=_DISTRICT, how="semi") for number, part in enumerate(parts)]
        return _ruled(pl.concat(own).select(*key, day).unique(), day, plans).drop(day)

    return of(WindowRule, WINDOW, "reference_on"), of(Cycle, _CYCLE, "opened_on")


_CYCLE = [_DISTRICT, "school_year", "school_id", "cycle_id"]


def _in_force(
    rows: pl.DataFrame,
    contract: type[Projection],
    plans: Plans,
    rulers: tuple[pl.DataFrame, pl.DataFrame],
    number: int,
) -> pl.DataFrame:
    """Of rows computed under each district's policy of this number, those that it rules."""
    windows, cycles = rulers
    names = columns(contract)
    if "cycle_id" in names:
        return rows.join(cycles.filter(pl.col("ruler") == number), on=_CYCLE, how="semi", nulls_equal=True)
    if "benchmark_window" in names:
        in_window = rows.join(windows.filter(pl.col("ruler") == number), on=WINDOW, how="semi")
        outside = rows.filter(pl.col("benchmark_window").is_null()).join(_last(plans, number), on=_DISTRICT, how="semi")
        return pl.concat([in_window, outside])
    return rows.join(_last(plans, number), on=_DISTRICT, how="semi")


def _chosen(parts: Sequence[Tables], plans: Plans, rulers: tuple[pl.DataFrame, pl.DataFrame]) -> Tables:
    return {
        contract: pl.concat(
            [_in_force(part[contract], contract, plans, rulers, number) for number, part in enumerate(parts)]
        )
        for contract in parts[0]
    }
