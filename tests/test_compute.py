"""Tables of one school year computed together."""

from datetime import date

import polars as pl

from pipelines.compute import compute
from schemas.contract import empty
from schemas.events import FAMILIES
from schemas.policy import CycleRule, DistrictPolicy
from schemas.projections import Cycle, CycleOutcome, InterventionEffect, Progress, ResponderRate
from tests.reference_cycles import DISTRICT, attended, closed, facts, held, joined, opened, probe, scheduled
from transforms.policies import Span

GOAL = {"baseline": 10.0, "goal_score": 22.0}


def run(school: str, on: int) -> list[dict]:
    """A cycle named alike in every school: full dose, three probes without growth."""
    place = {"school_id": school, "group_id": school}
    rows = [opened(on=on, **place), joined(on=on, **place, **GOAL), closed(on + 42, **place)]
    for day in (on, on + 3):
        rows += [scheduled(day, **place), held(day, **place), attended(day, **place)]
    return rows + [probe(on + 7 * week, 10 + week % 2) for week in range(3)]


def test_a_cycle_is_judged_by_the_policy_of_the_day_it_opened_also_where_another_school_has_its_name():
    rules = [CycleRule(), CycleRule(probes_minimum=3)]
    first, second = (DistrictPolicy(time_zone="America/Denver", cycles=rule) for rule in rules)
    plans = {DISTRICT: [Span(first, None, date(2025, 11, 1)), Span(second, date(2025, 11, 1), None)]}
    none = {family: empty(contract).lazy() for family, contract in FAMILIES.items()}
    tables, _ = compute(none | facts(*run("s1", 0), *run("s2", 80)), plans)
    assert tables[Cycle].select("school_id", "cycle_id").rows() == [("s1", "c1"), ("s2", "c1")]
    got = tables[CycleOutcome].select("school_id", "reason").rows()
    assert got == [("s1", "fewer_than_4_probes"), ("s2", "slope_below_goal_no_peer_norm")]
    assert tables[Progress]["school_id"].to_list() == ["s1", "s2"]
    rate = tables[ResponderRate].filter(kind="intervention").row(0, named=True)
    assert (rate["outcomes"], rate["insufficient_data"], rate["poor"]) == (2, 1, 1)
    assert tables[InterventionEffect].filter(pl.col("students") > 0).is_empty()
