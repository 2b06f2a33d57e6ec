"""Intervention groups of a synthetic district: who was in them, what was planned, held and measured."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from pipelines.simulate.files import day_text
from pipelines.simulate.people import MEASUREMENT_SD, NEED_BELOW, Ints, People, days_of

SHARE_HELPED, SHARE_PER_ROUND = 0.36, 0.6
HELD, HELD_BADLY, PRESENT = 0.90, 0.55, 0.90
MINUTES, GOAL_PER_WEEK, PROBE_SD = 30, 1.5, 2.0
SLOPES = (2.4, 1.2, 0.3)
"""Points a week of those who respond, respond somewhat, and do not; half of it where delivery is bad."""
NEVER_CLOSED, LEFT_EARLY, JOINED_LATE = 0.04, 0.05, 0.04
PROGRESS_SCHOOL = 4
"""Elementary school, counted from 0, that keeps its probes in FastBridge and not in the cycle log."""

CONCEPTS = (
    ("counting_on", "number_bonds_to_10", "comparing_quantities"),
    ("place_value_hundreds", "addition_strategies", "equal_groups"),
    ("multiplication_facts", "fraction_equivalence", "multi_step_problems"),
    ("ratios", "fraction_operations", "integers"),
    ("linear_equations", "proportional_reasoning", "expressions"),
)
INTERVENTIONS = ("small_group_concepts", "fact_fluency", "problem_types", "manipulatives_to_numbers")
CANCEL_REASONS = ("staff_absent", "testing", "event", "students_absent", "schedule")


@dataclass(frozen=True)
class Plan:
    """Cycles and their members; both name schools, students and cycles by row number, days since 1970."""

    cycles: pl.DataFrame
    members: pl.DataFrame


def rounds(people: People) -> list[tuple[int, int]]:
    """Opening Monday of each round of cycles and the window whose need it answers."""
    year = people.calendar.year
    mondays = ((date(year - 1, 10, 6), 0), (date(year, 1, 12), 0), (date(year, 2, 23), 1), (date(year, 4, 13), 1))
    return [(days_of(day) - (days_of(day) + 3) % 7, window) for day, window in mondays]


def closed_days(people: People) -> Ints:
    """Days without school that fall on sessions."""
    year = people.calendar.year
    ranges = (
        (date(year - 1, 11, 26), date(year - 1, 11, 28)),
        (date(year, 1, 19), date(year, 1, 19)),
        (date(year, 3, 23), date(year, 3, 27)),
    )
    return np.concatenate([np.arange(days_of(first), days_of(last) + 1) for first, last in ranges])


def plan_cycles(people: People, seed: int) -> Plan:
    """Groups of three to five students of one school and neighbouring grades, for three to six weeks.

    About a third of those in need at the last window are ever helped; each round takes six of ten of these.
    """
    rng = np.random.default_rng([seed, people.number, 20])
    students = people.students.height
    helped = rng.random(students) < SHARE_HELPED
    grade = people.column("grade")
    band = np.array([0, 0, 1, 1, 2, 2, 3, 4, 4])[grade]
    members, cycles, done = [], [], 0
    for number, (monday, window) in enumerate(rounds(people)):
        seen = people.ability[window] + rng.normal(0, MEASUREMENT_SD, students)
        opened = np.full(students, monday)
        wanted = helped & (seen < NEED_BELOW) & (rng.random(students) < SHARE_PER_ROUND) & people.enrolled_on(opened)
        who = np.flatnonzero(wanted)
        school = people.classes["school"].to_numpy()[people.class_on(opened)[who]]
        rows = pl.DataFrame(
            {"student": who, "school": school, "band": band[who], "z": seen[who], "order": rng.random(len(who))}
        )
        cell = ["school", "band"]
        rows = (
            rows.filter(pl.len().over(cell) >= 3)
            .sort(*cell, "order")
            .with_columns(groups=(pl.len().over(cell) / 4).round().clip(1), rank=pl.int_range(pl.len()).over(cell))
            .with_columns(group=(pl.col("rank") * pl.col("groups") / pl.len().over(cell)).floor().cast(pl.Int64))
            .with_columns(cycle=(pl.struct(*cell, "group").rank("dense").cast(pl.Int64) - 1 + done))
        )
        groups = rows.group_by("cycle", *cell, maintain_order=True).agg(z=pl.col("z").mean()).sort("cycle")
        done += groups.height
        cycles.append(groups.with_columns(round=pl.lit(number), opened=pl.lit(monday)))
        members.append(rows.select("cycle", "student"))
    return _drawn(people, pl.concat(cycles), pl.concat(members), rng)


def _drawn(people: People, cycles: pl.DataFrame, members: pl.DataFrame, rng: np.random.Generator) -> Plan:
    """What was planned for each cycle and what became of it and of its members."""
    count = cycles.height
    weeks = rng.integers(3, 7, count)
    band = cycles["band"].to_numpy()
    elementary = np.flatnonzero(~people.schools["middle"].to_numpy())
    in_fastbridge = cycles["school"].to_numpy() == elementary[PROGRESS_SCHOOL % len(elementary)]
    in_fastbridge &= band <= 2
    planned_end = cycles["opened"].to_numpy() + 7 * weeks - 3
    fate = rng.random(count)
    abandoned = (fate >= NEVER_CLOSED) & (fate < NEVER_CLOSED + 0.04)
    closed = np.where(abandoned, planned_end - 7, planned_end + rng.integers(0, 3, count) * (fate > 0.6) * 3)
    overdue = fate < NEVER_CLOSED
    measure = np.where(
        in_fastbridge,
        np.array(["fastbridge_cbmmath_auto_l1", "fastbridge_cbmmath_auto_l2", "fastbridge_cbmmath_auto_l3"])[
            band.clip(0, 2)
        ],
        np.where(band == 0, "early_numeracy_cbm", "fastbridge_cbmmath_cap"),
    )
    name = pl.int_range(1, pl.len() + 1).cast(pl.String).str.zfill(5)
    cycles = cycles.with_columns(
        cycle_id=pl.format("cycle-{}", name),
        group_id=pl.when(pl.Series(rng.random(count) < 0.3)).then(pl.format("group-{}", name)),
        weeks=weeks,
        planned_end=planned_end,
        closed=pl.when(~pl.Series(overdue)).then(pl.Series(closed)),
        close_reason=pl.when(~pl.Series(overdue)).then(
            pl.when(pl.Series(abandoned)).then(pl.lit("abandoned")).otherwise(pl.lit("completed"))
        ),
        tier=pl.when(pl.col("z") < -1.6).then(3).otherwise(2),
        concept=pl.Series([concept for band in CONCEPTS for concept in band]).gather(
            band * 3 + rng.integers(0, 3, count)
        ),
        intervention=pl.Series(INTERVENTIONS).gather(rng.integers(0, len(INTERVENTIONS), count)),
        measure=pl.Series(measure),
        in_fastbridge=in_fastbridge,
        badly=pl.Series(people.schools["delivers_badly"].to_numpy()[cycles["school"].to_numpy()]),
        at=pl.Series(rng.choice((9 * 60 + 5, 10 * 60 + 15, 11 * 60, 13 * 60 + 10, 14 * 60 + 20), count)),
        tutor=pl.format("T{}", pl.Series(rng.integers(1, people.teachers + 1, count)).cast(pl.String).str.zfill(5)),
    )
    members = members.join(
        cycles.select("cycle", "opened", "weeks", "planned_end", "closed", "badly"), on="cycle", maintain_order="left"
    )
    count = members.height
    fate = rng.random(count)
    opened = members["opened"].to_numpy()
    student = members["student"].to_numpy()
    joined = np.where(fate < JOINED_LATE, opened + 7 * rng.integers(1, 3, count), opened)
    last = members["closed"].fill_null(members["planned_end"] + 3).to_numpy()
    quits = (fate > 1 - LEFT_EARLY) & (last - opened > 14)
    gone = np.minimum(people.column("ended"), people.column("moved") - 1)[student]
    moves = gone < last
    left = np.where(moves, np.maximum(gone, joined), np.where(quits, opened + 11, last))
    kind = np.searchsorted([0.45, 0.65], rng.random(count))
    slope = np.array(SLOPES)[kind] + rng.normal(0, 0.15, count)
    slope = np.where(members["badly"].to_numpy(), slope * 0.5, slope)
    baseline = np.rint(rng.normal(20, 5, count)).clip(4)
    return Plan(
        cycles=cycles.sort("cycle"),
        members=members.with_columns(
            joined=joined,
            until=left,
            left=pl.when(pl.Series(moves | quits)).then(pl.Series(left)),
            leave_reason=pl.when(pl.Series(moves))
            .then(pl.lit("moved"))
            .when(pl.Series(quits))
            .then(pl.Series(("regrouped", "exited", "other")).gather(rng.integers(0, 3, count))),
            baseline=baseline,
            goal=baseline + np.rint(GOAL_PER_WEEK * members["weeks"].to_numpy()),
            slope=slope,
        ).drop("opened", "weeks", "planned_end", "closed", "badly"),
    )


def probes_of(people: People, plan: Plan, seed: int) -> pl.DataFrame:
    """Weekly probes of every member while in the group, about one in twelve missed; sorted by student and day."""
    rng = np.random.default_rng([seed, people.number, 21])
    wanted = ["cycle", "school", "measure", "opened", "planned_end", "weeks", "in_fastbridge"]
    rows = (
        plan.members.join(plan.cycles.select(wanted), on="cycle", maintain_order="left")
        .with_columns(week=pl.int_ranges(0, pl.col("weeks") + 1))
        .explode("week")
        .with_columns(probed=pl.col("opened") + 7 * pl.col("week") + pl.when(pl.col("week") > 0).then(-3).otherwise(1))
        .filter((pl.col("probed") >= pl.col("joined")) & (pl.col("probed") <= pl.col("until")))
    )
    noise = pl.Series(rng.normal(0, PROBE_SD, rows.height))
    missed = pl.Series(rng.random(rows.height) < 1 / 12)
    score = pl.col("baseline") + pl.col("slope") * (pl.col("probed") - pl.col("opened")) / 7 + noise
    rows = rows.with_columns(
        score=pl.when(pl.col("week") == 0).then("baseline").otherwise(score.round().clip(0)).cast(pl.Int64)
    ).filter((pl.col("week") == 0) | ~missed)
    first_class = people.students["class_1"].gather(rows["student"])
    return rows.with_columns(class_1=first_class).sort("student", "cycle", "probed")


def sessions_of(people: People, plan: Plan, seed: int) -> pl.DataFrame:
    """Three sessions a week as planned, and which of them were held."""
    rng = np.random.default_rng([seed, people.number, 22])
    rows = (
        plan.cycles.with_columns(session=pl.int_ranges(0, pl.col("weeks") * 3))
        .explode("session")
        .with_columns(day=pl.col("opened") + pl.col("session") // 3 * 7 + pl.col("session") % 3 * 2)
        .filter(pl.col("closed").is_null() | (pl.col("day") <= pl.col("closed")))
    )
    count = rows.height
    closed = rows["day"].is_in(closed_days(people))
    chance = np.where(rows["badly"].to_numpy(), HELD_BADLY, HELD)
    held = (rng.random(count) < chance) & ~closed.to_numpy()
    unmarked = ~held & ~closed.to_numpy() & (rng.random(count) < 0.15)
    minutes = np.where(rng.random(count) < 0.8, MINUTES, rng.integers(20, 30, count))
    launch, closure = rng.integers(5, 8, count), rng.integers(3, 6, count)
    known = pl.Series(rng.random(count) < 0.4)
    fidelity = pl.Series(np.where(rows["badly"].to_numpy(), 0.7, 0.9) + rng.integers(-1, 2, count) * 0.1).round(1)
    is_held = pl.col("status") == "held"
    return rows.with_columns(
        status=pl.Series(("cancelled", "held", "scheduled")).gather(np.where(unmarked, 2, held.astype(np.int64))),
    ).with_columns(
        starts_at=pl.format(
            "{} {}:{}",
            day_text("day", "%Y-%m-%d"),
            (pl.col("at") // 60).cast(pl.String).str.zfill(2),
            (pl.col("at") % 60).cast(pl.String).str.zfill(2),
        ),
        held_minutes=pl.when(is_held).then(pl.Series(minutes)),
        launch_minutes=pl.when(is_held).then(pl.Series(launch)),
        problem_minutes=pl.when(is_held).then(pl.Series(minutes - launch - closure)),
        closure_minutes=pl.when(is_held).then(pl.Series(closure)),
        fidelity_share=pl.when(is_held & known).then(fidelity.clip(0, 1)),
        cancel_reason=pl.when(closed)
        .then(pl.lit("school_closed"))
        .when(pl.col("status") == "cancelled")
        .then(pl.Series(CANCEL_REASONS).gather(rng.integers(0, len(CANCEL_REASONS), count))),
    )
