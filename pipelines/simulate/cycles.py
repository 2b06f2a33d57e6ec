"""Tierline's own cycle log, ten CSV files, from the intervention groups of a synthetic district."""

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from pipelines.simulate.files import day_text, names, write
from pipelines.simulate.groups import MINUTES, PRESENT, Plan, plan_cycles, probes_of, sessions_of
from pipelines.simulate.people import NEED_BELOW, People, day_of, days_of

HEADERS = {
    "cycles": "school_id,cycle_id,group_id,opened_on,tier,concept,intervention,measure,planned_sessions,"
    "session_minutes,planned_end_on,parent_goal,closed_on,close_reason",
    "members": "student_id,state_id,school_id,cycle_id,joined_on,baseline,goal_score,goal_met_on,left_on,leave_reason",
    "sessions": "school_id,cycle_id,group_id,starts_at,planned_minutes,status,held_minutes,launch_minutes,"
    "problem_minutes,closure_minutes,fidelity_share,cancel_reason,tutor_id",
    "attendance": "student_id,state_id,school_id,cycle_id,group_id,starts_at,attendance,attended_minutes",
    "probes": "student_id,state_id,school_id,cycle_id,probed_on,measure,form,score,goal_score",
    "evidence": "row_id,student_id,state_id,school_id,cycle_id,noted_on,evidence_kind,note",
    "referrals": "row_id,student_id,state_id,school_id,referred_on,referred_by,concern,note",
    "contacts": "row_id,student_id,state_id,school_id,contacted_on,contact_kind,note",
    "tier_decisions": "row_id,student_id,state_id,school_id,decided_on,tier,note",
    "curriculum": "row_id,school_id,class_id,reported_on,material,is_aligned",
}

EVIDENCE = {
    "quote": (
        "{} said: two fourths and one half cover the same part.",
        "{} said: I counted on from the bigger number.",
        "{} asked why the bar has to be cut in equal parts.",
    ),
    "strategy": (
        "made ten before adding the rest",
        "used a number line, hops of five",
        "skip counted by fours, once off",
    ),
    "model": ("area model, thirds unequal", "bar model with the whole marked", "drew an array of 3 by 6"),
    "social_emotional": ("explained the idea to a partner", "kept going after a wrong first try"),
    "growth": ("needs one prompt now, three last week", "solved the exit problem without help"),
}
CONCERNS = ("number_sense", "operations", "fractions", "word_problems", "fluency", "engagement", "attendance")
CONTACT_KINDS = ("phone", "email", "text", "letter", "meeting", "home_visit")


def write_cycles(people: People, folder: Path, seed: int) -> list[Path]:
    """The cycle log's ten tables; school_id is the roster's source id of the school."""
    plan = plan_cycles(people, seed)
    sessions = sessions_of(people, plan, seed)
    probes = probes_of(people, plan, seed)
    rng = np.random.default_rng([seed, people.number, 23])
    tables = {
        "cycles": _cycles(people, plan),
        "members": _members(people, plan, probes),
        "sessions": _sessions(people, sessions),
        "attendance": _attendance(people, plan, sessions, rng),
        "probes": _probes(people, probes),
        "evidence": _evidence(people, plan, rng),
        "referrals": _referrals(people, rng),
        "contacts": _contacts(people, plan, rng),
        "tier_decisions": _tier_decisions(people, plan, rng),
        "curriculum": _curriculum(people, rng),
    }
    ends = date(people.calendar.year, 6, 6)
    return [
        write(folder / f"{name}.csv", names(HEADERS[name]), rows.select(names(HEADERS[name])), exported=ends)
        for name, rows in tables.items()
    ]


def _named(people: People, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the ids of their student and school, where they have one."""
    if "student" in rows.columns:
        ids = people.students.select(student_id="local_id", state_id="state_id")[rows["student"]]
        rows = rows.with_columns(ids)
    return rows.with_columns(school_id=people.schools["school_id"].gather(rows["school"]))


def _iso(days: str) -> pl.Expr:
    return day_text(days, "%Y-%m-%d")


def _row_ids(letter: str) -> pl.Expr:
    return pl.format(f"{letter}{{}}", pl.int_range(1, pl.len() + 1).cast(pl.String).str.zfill(6))


def _cycles(people: People, plan: Plan) -> pl.DataFrame:
    return _named(people, plan.cycles).with_columns(
        opened_on=_iso("opened"),
        planned_sessions=pl.col("weeks") * 3,
        session_minutes=pl.lit(MINUTES),
        planned_end_on=_iso("planned_end"),
        parent_goal=pl.lit(None, dtype=pl.String),
        closed_on=_iso("closed"),
    )


def _members(people: People, plan: Plan, probes: pl.DataFrame) -> pl.DataFrame:
    """Goals are recorded as met where the last two probes reach them, nine times out of ten."""
    met = (
        probes.group_by("cycle", "student", maintain_order=True)
        .agg(met=(pl.col("score").tail(2) >= pl.col("goal").tail(2)).all() & (pl.len() > 2), on=pl.col("probed").last())
        .filter(pl.col("met") & ((pl.col("student") * 7 + pl.col("cycle")) % 10 > 0))
        .select("cycle", "student", "on")
    )
    rows = plan.members.join(met, on=["cycle", "student"], how="left", maintain_order="left").join(
        plan.cycles.select("cycle", "cycle_id", "school"), on="cycle", maintain_order="left"
    )
    return _named(people, rows).with_columns(
        joined_on=_iso("joined"),
        baseline=pl.col("baseline").cast(pl.Int64),
        goal_score=pl.col("goal").cast(pl.Int64),
        goal_met_on=_iso("on"),
        left_on=_iso("left"),
    )


def _sessions(people: People, sessions: pl.DataFrame) -> pl.DataFrame:
    return _named(people, sessions).with_columns(planned_minutes=pl.lit(MINUTES), tutor_id="tutor")


def _attendance(people: People, plan: Plan, sessions: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    held = sessions.filter(pl.col("status") == "held").select(
        "cycle", "cycle_id", "group_id", "school", "day", "starts_at", "held_minutes"
    )
    rows = (
        plan.members.select("cycle", "student", "joined", "until")
        .join(held, on="cycle", maintain_order="left_right")
        .filter((pl.col("day") >= pl.col("joined")) & (pl.col("day") <= pl.col("until")))
    )
    came = np.searchsorted([PRESENT, PRESENT + 0.03, PRESENT + 0.09], rng.random(rows.height))
    recorded = pl.Series(rng.random(rows.height) > 0.03)
    part = pl.Series(rng.integers(8, 20, rows.height))
    rows = rows.with_columns(attendance=pl.Series(("present", "partial", "absent", None)).gather(came))
    return _named(people, rows).with_columns(
        attended_minutes=pl.when((pl.col("attendance") == "present") & recorded)
        .then("held_minutes")
        .when(pl.col("attendance") == "partial")
        .then(part)
    )


def _probes(people: People, probes: pl.DataFrame) -> pl.DataFrame:
    rows = probes.filter(~pl.col("in_fastbridge"))
    return _named(
        people, rows.with_columns(cycle_id=pl.format("cycle-{}", (pl.col("cycle") + 1).cast(pl.String).str.zfill(5)))
    ).with_columns(probed_on=_iso("probed"), form=pl.col("week") + 1, goal_score=pl.col("goal").cast(pl.Int64))


def _evidence(people: People, plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Notes of about two weeks in five; some name the student, as notes do."""
    rows = (
        plan.members.join(
            plan.cycles.select("cycle", "cycle_id", "school", "opened", "weeks"), on="cycle", maintain_order="left"
        )
        .with_columns(week=pl.int_ranges(0, pl.col("weeks")))
        .explode("week")
        .with_columns(noted=pl.col("opened") + 7 * pl.col("week") + 2)
        .filter((pl.col("noted") >= pl.col("joined")) & (pl.col("noted") <= pl.col("until")))
    )
    rows = rows.filter(pl.Series(rng.random(rows.height) < 0.4))
    texts = [(kind, text) for kind, notes in EVIDENCE.items() for text in notes]
    pick = rng.integers(0, len(texts), rows.height)
    note = pl.Series([text for _, text in texts]).gather(pick)
    return _named(people, rows).with_columns(
        row_id=_row_ids("N"),
        noted_on=_iso("noted"),
        evidence_kind=pl.Series([kind for kind, _ in texts]).gather(pick),
        note=_filled(note, people.students["first_name"].gather(rows["student"])),
    )


def _filled(note: pl.Series, name: pl.Series) -> pl.Series:
    """Note with the student's name in its gap."""
    return (
        pl.DataFrame({"note": note, "name": name})
        .select(pl.col("note").str.replace("{}", pl.col("name"), literal=True))
        .to_series()
    )


def _referrals(people: People, rng: np.random.Generator) -> pl.DataFrame:
    """One student in sixteen of those in need and one in a hundred of the others."""
    need = people.ability[0] < NEED_BELOW
    who = np.flatnonzero(rng.random(len(need)) < np.where(need, 0.06, 0.01))
    day = days_of(date(people.calendar.year - 1, 9, 15)) + rng.integers(0, 150, len(who))
    day -= np.maximum((day + 3) % 7 - 4, 0)
    there = people.enrolled_on(day, who)
    who, day = who[there], day[there]
    school = people.classes["school"].to_numpy()[people.class_on(day, who)]
    by = pl.Series(("teacher", "family", "counselor")).gather(np.searchsorted([0.75, 0.93], rng.random(len(who))))
    rows = pl.DataFrame({"student": who, "school": school, "day": day, "referred_by": by})
    return _named(people, rows).with_columns(
        row_id=_row_ids("R"),
        referred_on=_iso("day"),
        concern=pl.Series(CONCERNS).gather(rng.integers(0, len(CONCERNS), len(who))),
        note=pl.when(pl.Series(rng.random(len(who)) < 0.5)).then(pl.lit("falls behind in class work, asks for help")),
    )


def _contacts(people: People, plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """A contact with the family around the start of two memberships in five."""
    rows = plan.members.join(plan.cycles.select("cycle", "school"), on="cycle", maintain_order="left")
    rows = rows.filter(pl.Series(rng.random(rows.height) < 0.4))
    kind = np.searchsorted([0.4, 0.65, 0.8, 0.88, 0.97], rng.random(rows.height))
    return _named(people, rows).with_columns(
        row_id=_row_ids("F"),
        contacted_on=_iso("joined"),
        contact_kind=pl.Series(CONTACT_KINDS).gather(kind),
        note=pl.when(pl.Series(rng.random(rows.height) < 0.3)).then(pl.lit("agreed on the plan")),
    )


def _tier_decisions(people: People, plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """A team decided for three first memberships in four, the Thursday before; one in fifteen tier 1 all the same."""
    rows = (
        plan.members.join(plan.cycles.select("cycle", "school", "opened", "tier"), on="cycle", maintain_order="left")
        .unique("student", keep="first", maintain_order=True)
        .with_columns(decided=pl.col("opened") - 4)
    )
    keep = (rng.random(rows.height) < 0.75) & people.enrolled_on(rows["decided"].to_numpy(), rows["student"].to_numpy())
    rows = rows.filter(pl.Series(keep))
    other = pl.Series(rng.random(rows.height) < 1 / 15)
    return _named(people, rows).with_columns(
        row_id=_row_ids("D"),
        decided_on=_iso("decided"),
        tier=pl.when(other).then(1).otherwise("tier"),
        note=pl.lit(None, dtype=pl.String),
    )


def _curriculum(people: People, rng: np.random.Generator) -> pl.DataFrame:
    """Material of seven math classes in ten; one school in eight uses one that is not aligned."""
    classes = people.classes.filter(pl.col("kind") != "ela")
    classes = classes.filter(pl.Series(rng.random(classes.height) < 0.7))
    aligned = pl.when(pl.col("school") % 8 == 5).then(pl.lit("no")).otherwise(pl.lit("yes"))
    return _named(people, classes.select("school", "class_id", "grade")).with_columns(
        row_id=_row_ids("K"),
        reported_on=pl.lit(day_of(days_of(people.calendar.first) + 25).isoformat()),
        material=pl.when(pl.col("grade") < 6).then(pl.lit("core_program_1")).otherwise(pl.lit("core_program_2")),
        is_aligned=aligned,
    )
