"""A school: each grade before its classes, with intervals; movement between tiers; unserved need; delivery."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from pipelines.report import curriculum
from pipelines.report.cycles import cycles_path, schools_with_cycles
from pipelines.report.meetings import meeting_path
from pipelines.report.page import Page, class_path, school_path
from pipelines.report.rates import Scale, coverage, need, rate, with_rate
from pipelines.report.reading import WINDOW_ORDER, Reading, Record
from pipelines.report.words import LEVELS, Rate, counted, grade_name, listed, measure_name, percent

TRAIL = [("Overview", "index.html"), ("Schools", "schools/index.html")]
UNSERVED_OVER, DELIVERY_UNDER, OVERDUE_OVER = 0.20, 0.80, 0.20
"""Display limits of METHOD 3.11: beyond them a signal is marked."""
Tables = Mapping[tuple[object, ...], pl.DataFrame]


def pages(reading: Reading) -> Iterator[Page]:
    """One page per school."""
    flags = reading.split(reading.current.filter("is_primary"), "school_id")
    moves, with_cycles = _moves(reading), set(schools_with_cycles(reading))
    reported = curriculum.reports(reading)
    for school_id in reading.schools:
        mine = flags.get((school_id,), reading.current.clear())
        windows = [_window(rows) for rows in reading.split(mine, "benchmark_window").values()]
        signals = reading.of("marts.school_signal", school_id=school_id)
        context = {
            "school_id": school_id,
            "cycles_page": cycles_path(school_id) if school_id in with_cycles else None,
            "sheets": [
                (window, meeting_path(school_id, window)) for window in signals.sort(WINDOW_ORDER)["benchmark_window"]
            ],
            "lead": _lead(windows),
            "windows": windows[::-1],
            "curriculum": curriculum.by_grade(reported, _latest(mine)),
            "moves": [_matrix(*pair, rows) for pair, rows in _pairs(moves, school_id)],
            "signals": _signals(signals),
            "cycles": _cycles(reading.of("marts.cycle_summary", school_id=school_id)),
        }
        yield Page(school_path(school_id), reading.school(school_id), "school.html", context, "schools", TRAIL)


@dataclass(frozen=True)
class GradeRows:
    """One grade of a school in one window: the grade, then its classes by label."""

    name: str
    level: str | None
    """The level of the grade where it decides for its classes, else null."""
    need: Rate
    coverage: Rate
    p_above: float | None
    classes: Sequence[Record]


@dataclass(frozen=True)
class WindowRows:
    """One window of a school: its grades, on one axis."""

    window: str
    measures: str
    scale: Scale
    grades: Sequence[GradeRows]
    summary: str
    is_entering: bool


def _latest(rows: pl.DataFrame) -> pl.DataFrame:
    """The classes of the last window in which the school has any."""
    return rows.filter(pl.col("benchmark_window") == rows["benchmark_window"].last()) if rows.height else rows


_GRADE_LEVELS = ("SYSTEM", "SYSTEM+CLASSROOM", "SYSTEM_DATA")


def _window(rows: pl.DataFrame) -> WindowRows:
    """The caterpillar of one window."""
    graded = with_rate(rows, "grade_in_need", "grade_tested", "grade_").to_dicts()
    highs = [row[name] for row in graded for name in ("interval_high", "grade_high") if row["tested"]]
    grades: dict[str | None, list[Record]] = {}
    for row in graded:
        grades.setdefault(row["grade"], []).append(row)
    levels = {code: sum(row["level"] == code for row in graded) for code in LEVELS}
    said = [f"{count} {LEVELS[code].label.lower()}" for code, count in levels.items() if count]
    return WindowRows(
        window=graded[0]["benchmark_window"],
        measures=listed([measure_name(each) for each in sorted({row["measure"] for row in graded})]),
        scale=Scale.of(*highs),
        grades=[_grade(grade, rows_) for grade, rows_ in grades.items()],
        summary=f"{counted(len(graded), 'class', 'classes')}: {listed(said)}.",
        is_entering=graded[0]["benchmark_window"] == "fall",
    )


def _grade(grade: str | None, rows: Sequence[Record]) -> GradeRows:
    pooled = next((row for row in rows if row["grade_tested"]), rows[0])
    decided = [row["level"] for row in rows if row["level"] in _GRADE_LEVELS]
    return GradeRows(
        name=grade_name(grade),
        level=decided[0].removesuffix("+CLASSROOM") if decided else None,
        need=rate(pooled, "grade_in_need", "grade_tested", "grade_share", "grade_low", "grade_high"),
        coverage=Rate(*_tested(rows), pooled["grade_coverage"]),
        p_above=pooled["p_grade_above"],
        classes=[
            {
                "label": row["class_label"],
                "short": _short(row["class_label"]),
                "path": class_path(row["class_id"]),
                "level": row["level"],
                "attention": row["attention"],
                "section": None if row["section_type"] == "regular" else row["section_type"],
                "need": need(row),
                "coverage": coverage(row),
                "p_above": row["p_above"],
            }
            for row in rows
        ],
    )


def _tested(rows: Sequence[Record]) -> tuple[int | None, int | None]:
    enrolled = [row["enrolled"] for row in rows if row["enrolled"] is not None]
    return sum(row["tested"] or 0 for row in rows), sum(enrolled) if enrolled else None


def _short(label: str | None) -> str:
    """`Grade 4, class B` is `Class B` below its grade."""
    last = (label or "class").rsplit(", ", 1)[-1]
    return last[:1].upper() + last[1:]


def _lead(windows: Sequence[WindowRows]) -> str:
    """What stands out in the latest window, grades first."""
    if not windows:
        return "No class of this school could be looked at this year."
    latest = windows[-1]
    grades = [each.name.lower() for each in latest.grades if each.level == "SYSTEM"]
    classes = [row["label"] for each in latest.grades for row in each.classes if "CLASSROOM" in row["level"]]
    said = [f"In {latest.window}, by {latest.measures}:"]
    if grades:
        said.append(f"{listed(grades)} as a whole {'is' if len(grades) == 1 else 'are'} read as a system matter.")
    if classes:
        said.append(f"{'; '.join(classes)}: {'this class stands' if len(classes) == 1 else 'these classes stand'} out.")
    if not grades and not classes:
        said.append("no grade and no class stands out.")
    return " ".join(said)


# Movement between tiers


def _moves(reading: Reading) -> Tables:
    """Students by tier in one window and in the next: by `school_id`, `from_window`, `to_window`."""
    placed = reading.table("projections.tier_placement").select("subject_key", "school_id", "benchmark_window", "tier")
    order = placed["benchmark_window"].unique().to_frame().sort(WINDOW_ORDER)["benchmark_window"].to_list()
    names = dict.fromkeys(("benchmark_window", "to_window"), pl.String)
    following = pl.DataFrame([order[:-1], order[1:]], schema=names)
    before = placed.join(following, on="benchmark_window").select(
        "subject_key", "to_window", from_window="benchmark_window", from_tier="tier", from_school="school_id"
    )
    after = placed.rename({"benchmark_window": "to_window", "tier": "to_tier"})
    counts = (
        before.join(after, on=["subject_key", "to_window"])
        .filter(pl.col("school_id") == pl.col("from_school"))
        .group_by("school_id", "from_window", "to_window", "from_tier", "to_tier")
        .agg(students=pl.len())
    )
    return reading.split(counts.sort(counts.columns, nulls_last=True), "school_id", "from_window", "to_window")


def _pairs(moves: Tables, school_id: str) -> list[tuple[tuple[str, str], pl.DataFrame]]:
    found = [((str(key[1]), str(key[2])), rows) for key, rows in moves.items() if key[0] == school_id]
    return sorted(found, key=lambda each: ("fall", "winter", "spring").index(each[0][0]))


def _matrix(before: str, after: str, rows: pl.DataFrame) -> Record:
    """Tiers before in rows, tiers after in columns; the words count who moved."""
    counts = {(row["from_tier"], row["to_tier"]): row["students"] for row in rows.to_dicts()}
    tiers = (1, 2, 3, None)
    both = {pair: count for pair, count in counts.items() if None not in pair}
    more = sum(count for (a, b), count in both.items() if b > a)
    less = sum(count for (a, b), count in both.items() if b < a)
    total = sum(both.values())
    return {
        "caption": f"From {before} to {after}",
        "said": f"Of {counted(total, 'student')} of the school with a tier in both windows, {more} are recommended more"
        f" support than before, {less} less, and {total - more - less} the same.",
        "columns": [f"{before.capitalize()}", *(f"{_tier(each)} in {after}" for each in tiers)],
        "rows": [[_tier(a), *(counts.get((a, b), 0) for b in tiers)] for a in tiers],
    }


def _tier(tier: int | None) -> str:
    return "No tier" if tier is None else f"Tier {tier}"


# System signals and cycles


def _signals(rows: pl.DataFrame) -> Record:
    """The signals of METHOD 3.11, a row each, a column per window; marked where beyond a display limit."""
    by_window = rows.sort(WINDOW_ORDER).to_dicts()
    return {
        "windows": [row["benchmark_window"] for row in by_window],
        "rows": [
            {"label": label, "term": term, "cells": [_signal(row, *how) for row in by_window]}
            for label, term, how in _SIGNALS
        ],
    }


_SIGNALS: Sequence[tuple[str, str | None, tuple[str, str | None, str | None, str | None, float | None]]] = (
    ("Tested of enrolled", "coverage", ("coverage", "tested", "enrolled", "under", DELIVERY_UNDER)),
    ("Unserved need", "unserved", ("unserved_need_share", "unserved", "recommended", "over", UNSERVED_OVER)),
    (
        "Delivery of sessions",
        "delivery",
        ("delivery_share", "held_sessions", "planned_sessions", "under", DELIVERY_UNDER),
    ),
    ("Cycles past their end without a decision", None, ("overdue_cycle_share", None, "cycles", "over", OVERDUE_OVER)),
    ("Outcomes with a conclusion", None, ("conclusive_cycle_share", None, "cycles", None, None)),
    (
        "Families contacted, of students recommended support",
        None,
        ("family_contact_share", "families_contacted", "recommended", None, None),
    ),
    (
        "Referrals that the screener also places below the cut",
        None,
        ("referral_agreement", None, "referrals", None, None),
    ),
)


def _signal(
    row: Record, share: str, count: str | None, of: str | None, side: str | None, limit: float | None
) -> Record:
    value = row[share]
    counts = {**row, "unserved": None if row["served"] is None else row["recommended"] - row["served"]}
    is_beyond = value is not None and limit is not None and (value > limit if side == "over" else value < limit)
    return {
        "share": value,
        "count": counts[count] if count else None,
        "of": counts[of] if of else None,
        "beyond": f"{side} {percent(limit)}" if is_beyond else None,
        "unit": {"cycles": "cycles", "referrals": "referrals"}.get(of or ""),
    }


def _cycles(rows: pl.DataFrame) -> list[Record]:
    """Delivery and outcomes by intervention, by name."""
    return [
        {
            "intervention": (row["intervention"] or "Not named").replace("_", " "),
            "cycles": row["cycles"],
            "open": row["open_cycles"],
            "overdue": row["overdue_cycles"],
            "delivery": rate(row, "held_sessions", "planned_sessions", "delivery_share"),
            "students": row["students"],
            "concluded": row["concluded"],
            "adequate": row["adequate"],
            "outcomes": row["outcomes"],
        }
        for row in rows.sort("intervention", nulls_last=True).to_dicts()
    ]
