"""Cycles of each school: what was planned and held, what the probes say, what comes next, who could be taught together.

Cycles stand in order of their state and first day, students in order of their keys; nothing is in order of a result.
"""

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from pipelines.report.page import Page, school_path, slug
from pipelines.report.panels import Series, panels
from pipelines.report.reading import GRADE_ORDER, WINDOWS, Reading, Record
from pipelines.report.words import counted, day, grade_name, measure_name, number, percent

INDEX = "cycles/index.html"
STATES: Mapping[str, tuple[str, str]] = {
    "overdue": ("!", "Overdue: past its longest time without a decision"),
    "open": ("▷", "Open"),
    "closed": ("■", "Closed"),
    "abandoned": ("×", "Abandoned"),
}
"""Sign and words of a cycle's state, in the order of the page."""
RESPONSES: Mapping[str, str] = {
    "adequate": "adequate",
    "questionable": "questionable",
    "poor": "poor",
    "dose_unknown": "no conclusion: how much was received is not recorded",
    "insufficient_dose": "no conclusion: too little was received",
    "insufficient_data": "no conclusion: too few probes, or no aim line",
}
NEXT_STEPS: Mapping[str, str] = {
    "exit_or_regroup": "goal met: leave the group, or join one at the next step",
    "continue": "go on as planned",
    "intensify_one_element": "one more cycle, one element intensified",
    "change_intervention": "change the intervention, or review for Tier 3",
    "change_group_plan": "change the plan of the whole group first",
    "fix_delivery": "deliver what was planned first",
    "record_delivery": "record sessions and attendance first",
    "collect_data": "probe more often first",
    "set_goal": "set a goal with a baseline and an end first",
}
UNGROUPED: Mapping[str, str] = {
    "cycles_not_supplied": "The district supplies no cycles, so it is not known who is in one.",
    "no_ended_cycle": "No cycle of this school year has ended for them: their concept is not known yet.",
    "concept_not_named": "Their last cycle names no concept.",
    "next_concept_unknown": "They met their goal, and the policy names no concept that comes next.",
    "school_or_grade_unknown": "Their school or grade on the reference date is not known.",
}
"""Why a student in need is in no proposed group."""
STEPS: Mapping[str, str] = {
    "again": "the concept of the last cycle again",
    "next": "the next concept, the last goal met",
}
NOT_RECORDED = "not recorded"
_GROUP = ("grade", "concept", "step", "group_number")


def pages(reading: Reading) -> Iterator[Page]:
    """The list of schools and one page for each school with a cycle or a student in need who is in none."""
    schools = schools_with_cycles(reading)
    if not schools:
        return
    rows = [_row(reading, school) for school in schools]
    yield Page(INDEX, "Cycles", "cycles.html", {"rows": rows}, "cycles")
    for school in schools:
        context = {
            "school_id": school,
            "school": reading.school(school),
            "school_page": school_path(school),
            "states": _states(reading, school),
            "cycles": _cycles(reading, school),
            "proposals": proposals(reading, school, latest_window(reading)),
            "keys": reading.keys(_students(reading, school)),
        }
        title = f"Cycles of {reading.school(school)}"
        yield Page(cycles_path(school), title, "cycles_school.html", context, "cycles", [("Cycles", INDEX)])


def cycles_path(school_id: str) -> str:
    """Page of a school's cycles."""
    return f"cycles/{slug(school_id)}.html"


def cycle_anchor(cycle_id: str) -> str:
    """Where a cycle stands on its school's page."""
    return f"cycle-{slug(cycle_id)}"


def latest_window(reading: Reading) -> str | None:
    """The last window of the year of which something is known."""
    known = set(reading.table("projections.tier_placement")["benchmark_window"].unique())
    return next((window for window in reversed(WINDOWS) if window in known), None)


def schools_with_cycles(reading: Reading) -> list[str]:
    """Schools that have a page of cycles, by name."""
    with_cycles = reading.table("projections.cycle")["school_id"]
    in_need = reading.table("projections.regrouping_proposal")["school_id"]
    return reading.by_name({*with_cycles.drop_nulls(), *in_need.drop_nulls()})


def _students(reading: Reading, school: str) -> set[str]:
    """Students in the cycles and proposed groups that stand on a school's page."""
    grouped = reading.of("projections.regrouping_proposal", school_id=school).filter(
        pl.col("benchmark_window") == latest_window(reading), pl.col("reason").is_null()
    )
    return {*reading.of("projections.cycle_outcome", school_id=school)["subject_key"], *grouped["subject_key"]}


def _row(reading: Reading, school: str) -> Record:
    found = _states(reading, school)
    offered = proposals(reading, school, latest_window(reading))
    return {
        "school": reading.school(school),
        "page": cycles_path(school),
        "counts": [number(count) for _, _, count in found],
        "groups": number(len(offered["groups"])),
        "ungrouped": number(offered["ungrouped_students"]),
    }


def _states(reading: Reading, school: str) -> list[tuple[str, str, int]]:
    counts = dict(reading.of("projections.cycle", school_id=school)["state"].value_counts().rows())
    return [(sign, words, counts.get(state, 0)) for state, (sign, words) in STATES.items()]


def _cycles(reading: Reading, school: str) -> list[Record]:
    order = pl.col("state").replace_strict(list(STATES), range(len(STATES)), default=len(STATES), return_dtype=pl.Int8)
    rows = reading.of("projections.cycle", school_id=school).sort(order, "opened_on", "cycle_id", nulls_last=True)
    return [_cycle(reading, row) for row in rows.iter_rows(named=True)]


def _cycle(reading: Reading, row: Record) -> Record:
    key = {"school_id": row["school_id"], "cycle_id": row["cycle_id"]}
    members = reading.of("projections.cycle_outcome", **key).sort("subject_key")
    probes = reading.of("projections.probe_day", **key).sort("probed_on").partition_by("subject_key", as_dict=True)
    series = [_series(reading, row, member, probes) for member in members.iter_rows(named=True)]
    sign, state = STATES[row["state"]]
    return {
        "id": row["cycle_id"],
        "anchor": cycle_anchor(row["cycle_id"]),
        "sign": sign,
        "state": state,
        "is_undecided": row["state"] in ("open", "overdue"),
        "title": ", ".join(filter(None, [named(row["concept"]), f"Tier {row['tier']}" if row["tier"] else None])),
        "about": _about(row),
        "delivery": _delivery(row),
        "is_group_plan_first": row["is_group_plan_first"],
        "members": [_member(reading, member) for member in members.iter_rows(named=True)],
        "panels": panels(series),
        "probes": [
            (each.who, day(on), f"{score:g}", "no aim line" if aim is None else f"{aim:.1f}")
            for each in series
            for on, score, aim in zip(each.days, each.scores, each.aims, strict=True)
        ],
    }


def _about(row: Record) -> list[tuple[str, str]]:
    planned = row["planned_days"]
    length = "" if planned is None else f", {counted(planned, 'day')}"
    unusual = ", outside the usual length" if row["is_length_out_of_range"] else ""
    ended = day(row["closed_on"]) if row["closed_on"] else "no decision yet"
    return [
        ("Intervention", named(row["intervention"]) or NOT_RECORDED),
        ("Progress monitored with", measure_name(row["measure"]) if row["measure"] else NOT_RECORDED),
        ("Longer goal", row["parent_goal"] or NOT_RECORDED),
        ("Began", day(row["opened_on"]) if row["opened_on"] else NOT_RECORDED),
        ("Planned to end", (day(row["planned_end_on"]) + length + unusual) if row["planned_end_on"] else NOT_RECORDED),
        ("Ended", ended),
    ]


def _delivery(row: Record) -> list[tuple[str, str]]:
    def of(name: str) -> str:
        return NOT_RECORDED if row[name] is None else number(row[name])

    return [
        ("Sessions planned", of("planned_sessions")),
        ("Scheduled", of("scheduled_sessions")),
        ("Held", of("held_sessions")),
        ("Cancelled", of("cancelled_sessions")),
        ("Held of planned", _share(row["delivery_share"])),
        ("Minutes planned", of("planned_minutes")),
        ("Minutes held", of("held_minutes")),
        ("Fidelity of the sessions", _share(row["fidelity_share"], "never observed")),
    ]


def _share(share: float | None, missing: str = NOT_RECORDED) -> str:
    return missing if share is None else percent(share)


def _member(reading: Reading, row: Record) -> Sequence[str]:
    sessions = " / ".join(
        "?" if row[name] is None else number(row[name])
        for name in ("planned_sessions", "held_sessions", "attended_sessions")
    )
    assumed = f" ({counted(row['assumed_sessions'], 'session')} by assumed minutes)" if row["assumed_sessions"] else ""
    goal = "no goal" if row["goal_score"] is None else f"{row['goal_score']:g}"
    start = NOT_RECORDED if row["baseline"] is None else f"{row['baseline']:g}"
    return (
        reading.student(row["subject_key"]),
        f"{start} to {goal}",
        sessions,
        _share(row["dose_share"]) + assumed,
        number(row["probes"]),
        RESPONSES[row["response"]],
        NEXT_STEPS[row["next_step"]],
    )


def _series(
    reading: Reading, cycle: Record, member: Record, probes: Mapping[tuple[object, ...], pl.DataFrame]
) -> Series:
    own = probes.get((member["subject_key"],))
    days, scores, aims = ([], [], []) if own is None else (own[name].to_list() for name in _PROBE)
    return Series(
        reading.student(member["subject_key"]),
        cycle["opened_on"],
        cycle["planned_end_on"],
        member["baseline"],
        member["goal_score"],
        days,
        scores,
        aims,
    )


_PROBE = ("probed_on", "score", "aim_score")


def named(code: str | None) -> str | None:
    """A code as words: `place_value_hundreds` is place value hundreds."""
    return None if code is None else code.replace("_", " ")


def proposals(reading: Reading, school: str, window: str | None) -> Record:
    """Proposed groups of a school in a window, by grade and place on the progression, and who is in none and why."""
    rows = reading.of("projections.regrouping_proposal", school_id=school, benchmark_window=window)
    grouped = rows.filter(pl.col("reason").is_null()).sort(
        GRADE_ORDER, "progression_place", "concept", "step", "group_number", "subject_key", nulls_last=True
    )
    groups = [
        _group(reading, part.row(0, named=True), part["subject_key"].to_list())
        for part in grouped.partition_by(*_GROUP, maintain_order=True)
    ]
    why = dict(rows.drop_nulls("reason")["reason"].value_counts().rows())
    return {
        "window": window,
        "until": rows["until_on"].max() if rows.height else None,
        "students": rows.height,
        "groups": groups,
        "ungrouped": [(words, number(why[code])) for code, words in UNGROUPED.items() if code in why],
        "ungrouped_students": sum(why.values()),
    }


def _group(reading: Reading, row: Record, keys: Sequence[str]) -> Record:
    return {
        "grade": grade_name(row["grade"]),
        "concept": named(row["concept"]),
        "step": STEPS[row["step"]],
        "students": len(keys),
        "who": [reading.student(key) for key in keys],
        "is_leftover": row["is_leftover"],
    }
