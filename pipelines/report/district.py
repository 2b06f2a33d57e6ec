"""The overview of a district: what is read as student, classroom, system, or not enough data, and since when."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from pipelines.report.charts import COLOURS, Figure, figure, rates_over_time, stacked
from pipelines.report.page import Page, class_path, school_path
from pipelines.report.rates import coverage, need, rate, with_rate
from pipelines.report.reading import GRADE_ORDER, WINDOW_ORDER, Reading, Record
from pipelines.report.words import (
    LEVELS,
    READINGS,
    Rate,
    counted,
    grade_name,
    listed,
    measure_name,
    number,
    percent,
    year_name,
)

_GROUP = pl.col("level").replace_strict({code: each.group for code, each in LEVELS.items()}, return_dtype=pl.String)


def pages(reading: Reading) -> Iterator[Page]:
    """The first page of the site, and the list of schools."""
    flags = reading.flags.filter("is_primary").with_columns(group=_GROUP)
    current = flags.filter(pl.col("school_year") == reading.school_year)
    window = reading.windows[-1] if reading.windows else None
    latest = current.filter(pl.col("benchmark_window").eq_missing(pl.lit(window, pl.String)))
    schools = _schools(reading, latest, window)
    context = {
        "window": window,
        "measures": [measure_name(each) for each in latest["measure"].unique().sort()],
        "classes": latest.height,
        "school_count": latest["school_id"].n_unique(),
        "readings": _readings(latest),
        "lead": _lead(latest, window, has_classes=reading.table("projections.class_membership").height > 0),
        "acts": _looked_at(reading, latest, "act"),
        "looks": _looked_at(reading, latest, "look"),
        "over_time": _levels_over_time(flags) if latest.height else None,
        "need_over_time": _need_over_time(flags) if latest.height else None,
        "grades": _grades(current, reading.windows),
        "windows": reading.windows,
        "tiers": _tiers(reading),
        "schools": schools,
    }
    yield Page("index.html", "Overview", "district.html", context, "overview")
    listing = {"schools": schools, "window": window}
    yield Page("schools/index.html", "Schools", "schools.html", listing, "schools", [("Overview", "index.html")])


def _lead(latest: pl.DataFrame, window: str | None, *, has_classes: bool) -> str:
    """The answer in a few sentences."""
    if not has_classes:
        return "No roster of this school year is loaded, so no class is known. Load one, and each class is looked at."
    if window is None:
        return "No screening window of this school year has a class to judge yet."
    counts = {group: latest.filter(pl.col("group") == group) for group in READINGS}
    classes, system, unknown = (counts[each] for each in ("classroom", "system", "unknown"))
    grades = system.select("school_id", "grade").unique().height
    said = [
        f"In {window}, {counted(latest.height, 'class', 'classes')} of"
        f" {counted(latest['school_id'].n_unique(), 'school')} were looked at."
    ]
    found = []
    if classes.height:
        found.append(f"{counted(classes.height, 'class', 'classes')} read as a classroom matter")
    if system.height:
        found.append(
            f"{counted(grades, 'grade')} of a school as a system matter"
            f" ({counted(system.height, 'class', 'classes')} in {'it' if grades == 1 else 'them'})"
        )
    said.append(
        f"{listed(found).capitalize()}." if found else "No class and no grade stands out: look at single students."
    )
    if unknown.height:
        said.append(f"About {counted(unknown.height, 'class', 'classes')} the data do not allow an answer.")
    return " ".join(said)


def _readings(latest: pl.DataFrame) -> list[Record]:
    counted_ = latest.group_by("group").agg(classes=pl.len(), schools=pl.col("school_id").n_unique())
    found = {row["group"]: row for row in counted_.to_dicts()}
    return [
        {
            "group": group,
            "mark": mark,
            "label": label,
            "means": means,
            "classes": found.get(group, {}).get("classes", 0),
            "schools": found.get(group, {}).get("schools", 0),
        }
        for group, (mark, label, means) in READINGS.items()
    ]


def _looked_at(reading: Reading, latest: pl.DataFrame, attention: str) -> list[Record]:
    """Classes with this attention, by school, grade and class."""
    return [
        {
            "school": reading.school(row["school_id"]),
            "school_path": school_path(row["school_id"]),
            "label": row["class_label"],
            "path": class_path(row["class_id"]),
            "level": row["level"],
            "need": need(row),
            "coverage": coverage(row),
            "is_persistent": row["is_persistent"],
            "is_entering_need": row["is_entering_need"],
        }
        for row in latest.filter(pl.col("attention") == attention)
        .sort(pl.col("school_id").cast(pl.Enum(reading.schools)), maintain_order=True)
        .to_dicts()
    ]


def _periods(rows: pl.DataFrame) -> pl.DataFrame:
    """Adds `when`, such as `Fall 2025-26`, and `period`, which sorts."""
    years = {each: year_name(each) for each in rows["school_year"].unique()}
    return rows.with_columns(
        when=pl.format("{} {}", pl.col("benchmark_window").str.to_titlecase(), pl.col("school_year").replace(years))
    ).sort("school_year", WINDOW_ORDER, maintain_order=True)


def _levels_over_time(flags: pl.DataFrame) -> Figure:
    """How many classes are read as what, in every window."""
    keys = ["school_year", "benchmark_window"]
    counts = _periods(flags.group_by(*keys, "group").agg(count=pl.len()))
    whens = counts["when"].unique(maintain_order=True).to_list()
    labels = {group: f"{mark} {label}" for group, (mark, label, _) in READINGS.items()}
    wide = counts.pivot("group", index="when", values="count", maintain_order=True)
    table = [[row["when"], *(row.get(group) or 0 for group in READINGS)] for row in wide.to_dicts()]
    last = table[-1]
    said = listed([f"{count} {READINGS[group][1].lower()}" for group, count in zip(READINGS, last[1:], strict=True)])
    drawn = counts.select(
        x="when",
        count="count",
        part=pl.col("group").replace(labels),
        sign=pl.col("group").replace({group: mark for group, (mark, _, _) in READINGS.items()}),
        place=pl.col("group").replace_strict({group: i for i, group in enumerate(READINGS)}, return_dtype=pl.Int8),
    ).sort("x", "place")
    draw = stacked(drawn, whens, [labels[each] for each in READINGS], [COLOURS[each] for each in READINGS], "Classes")
    return figure(
        "levels-over-time",
        "How classes are read, window by window",
        f"Bars of the number of classes in each of {counted(len(whens), 'window')}. In {last[0]}: {said}.",
        draw,
        ["Window", *(READINGS[each][1] for each in READINGS)],
        table,
    )


def _need_over_time(flags: pl.DataFrame) -> Figure:
    """Students in need of those tested, by the measure that decides."""
    keys = ["school_year", "benchmark_window"]
    sums = flags.group_by(keys).agg(pl.col("in_need", "tested", "enrolled").sum()).filter(pl.col("tested") > 0)
    rows = _periods(with_rate(sums, "in_need", "tested")).with_columns(coverage=pl.col("tested") / pl.col("enrolled"))
    dicts = rows.to_dicts()
    first, last = dicts[0], dicts[-1]
    table = [
        [
            row["when"],
            str(rate(row, "in_need", "tested", "share")),
            rate(row, "in_need", "tested", "share", "low", "high").interval,
            str(rate(row, "tested", "enrolled", "coverage")),
        ]
        for row in dicts
    ]
    return figure(
        "need-over-time",
        "Students in need, of those tested",
        f"Points with intervals for {counted(len(dicts), 'window')}, beside lines at 10 and 20 percent."
        f" {first['when']}: {percent(first['share'])}; {last['when']}: {percent(last['share'])}.",
        rates_over_time(rows.select("when", "share", "low", "high"), [row["when"] for row in dicts]),
        ["Window", "In need", "Interval", "Coverage"],
        table,
    )


def _grades(current: pl.DataFrame, windows: list[str]) -> list[Record]:
    """In need of tested by grade and window."""
    sums = current.group_by("benchmark_window", "grade").agg(pl.col("in_need", "tested").sum())
    rows = with_rate(sums, "in_need", "tested").sort(GRADE_ORDER, "grade", nulls_last=True)
    rates: dict[str | None, dict[str, Rate]] = {}
    for row in rows.to_dicts():
        rates.setdefault(row["grade"], {})[row["benchmark_window"]] = rate(
            row, "in_need", "tested", "share", "low", "high"
        )
    unknown = Rate(None, None, None)
    return [
        {"grade": grade_name(grade), "rates": [found.get(window, unknown) for window in windows]}
        for grade, found in rates.items()
    ]


def _tiers(reading: Reading) -> list[Record]:
    """Students by recommended tier, window by window."""
    counts = ["students", "placed", "untested", "tier_1", "tier_2", "tier_3", "team_differs"]
    sums = reading.table("marts.tier_summary").group_by("benchmark_window").agg(pl.col(counts).sum())
    return [
        {
            "window": row["benchmark_window"].capitalize(),
            "tiers": [Rate(row[f"tier_{each}"], row["placed"], _share(row[f"tier_{each}"], row["placed"]))
                      for each in (1, 2, 3)],
            "untested": number(row["untested"]),
            "team_differs": number(row["team_differs"]),
        }
        for row in sums.sort(WINDOW_ORDER).to_dicts()
    ]  # fmt: skip


def _share(count: int, of: int) -> float | None:
    return count / of if of else None


def _schools(reading: Reading, latest: pl.DataFrame, window: str | None) -> list[Record]:
    """Every school by its name: what its classes are read as, and the system signals."""
    groups = latest.group_by("school_id", "group").agg(count=pl.len())
    classes: dict[str, dict[str, int]] = {}
    for row in groups.to_dicts():
        classes.setdefault(row["school_id"], {})[row["group"]] = row["count"]
    found = reading.table("marts.school_signal").filter(
        pl.col("benchmark_window").eq_missing(pl.lit(window, pl.String))
    )
    signals = {row["school_id"]: row for row in found.to_dicts()}
    return [_school(reading, each, classes.get(each, {}), signals.get(each)) for each in reading.schools]


def _school(reading: Reading, school_id: str, classes: dict[str, int], signal: Record | None) -> Record:
    row: dict[str, Any] = signal or {}
    unserved = row.get("unserved_need_share")
    served, recommended = row.get("served"), row.get("recommended")
    return {
        "name": reading.school(school_id),
        "path": school_path(school_id),
        "classes": [classes.get(group, 0) for group in READINGS],
        "coverage": Rate(row.get("tested"), row.get("enrolled"), row.get("coverage")),
        "unserved": Rate(None if served is None else recommended - served, recommended, unserved),
        "delivery": Rate(row.get("held_sessions"), row.get("planned_sessions"), row.get("delivery_share")),
    }
