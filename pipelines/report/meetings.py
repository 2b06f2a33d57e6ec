"""The sheet of a data-team meeting: one printed page per school and window, to talk about instruction and support.

Classes stand by grade and name, cycles by id. A question is asked where there is something to ask; no number decides
which question comes first.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from pipelines.report import curriculum
from pipelines.report.cycles import cycle_anchor, cycles_path, proposals
from pipelines.report.page import Page, class_path, school_path, slug
from pipelines.report.reading import GRADE_ORDER, WINDOWS, Reading, Record
from pipelines.report.words import Rate, counted, grade_name, listed, measure_name, number, percent
from transforms.persistence import CANNOT_SAY, FLAGS

INDEX = "meetings/index.html"
MOST_CLASSES = 8
"""Classes listed one by one; the others are counted by grade, so that the sheet stays one page."""
MOST_CYCLES = 6
THIN = ("LOW_COVERAGE", "SYSTEM_DATA")
"""Levels that wait for data."""
ATTENTIONS: Mapping[str, str] = {"act": "recommended action", "look": "look", "none": "none from this"}
GROWTHS: Mapping[str, str] = {
    "more": "more than expected",
    "as_expected": "as expected",
    "fewer": "fewer than expected",
}


def pages(reading: Reading) -> Iterator[Page]:
    """The list of sheets, and one for each school and window."""
    signals = reading.table("marts.school_signal")
    schools = reading.by_name(signals["school_id"].unique())
    known = set(signals["benchmark_window"])
    windows = [window for window in WINDOWS if window in known]
    if not schools:
        return
    rows = [
        (reading.school(school), [(window, meeting_path(school, window)) for window in windows]) for school in schools
    ]
    yield Page(INDEX, "Meeting sheets", "meetings.html", {"rows": rows}, "meetings")
    judged = reading.split(reading.current.filter("is_primary"), "school_id", "benchmark_window")
    reported = curriculum.reports(reading)
    trail = [("Meeting sheets", INDEX)]
    for school in schools:
        for window, before in zip(windows, (None, *windows), strict=False):
            sheet = _sheet(_Meeting(reading, judged, reported, school, window, before))
            title = f"{reading.school(school)}: {window} meeting"
            yield Page(meeting_path(school, window), title, "meeting.html", sheet, "meetings", trail)


@dataclass(frozen=True)
class _Meeting:
    """One school in one window, beside the window before."""

    reading: Reading
    judged: Mapping[tuple[object, ...], pl.DataFrame]
    """Classes by school and window, each in the measure that decides in its grade."""
    reported: curriculum.Reports
    school: str
    window: str
    before: str | None

    def rows(self, table: str, window: str | None = None) -> pl.DataFrame:
        return self.reading.of(table, school_id=self.school, benchmark_window=window or self.window)

    def classes(self, window: str | None) -> pl.DataFrame:
        found = self.judged.get((self.school, window))
        return self.reading.current.clear() if found is None else found

    def found(self, window: str | None) -> pl.DataFrame:
        """Classes of which something is found beyond single students."""
        return self.classes(window).filter(pl.col("level").is_in(FLAGS))

    def thin(self) -> pl.DataFrame:
        """Classes of which nothing can be said for want of data; one that is only small is not missing anything."""
        return self.classes(self.window).filter(pl.col("level").is_in(THIN))


def meeting_path(school_id: str, window: str) -> str:
    """Sheet of a school and window."""
    return f"meetings/{slug(school_id)}-{window}.html"


def _sheet(meeting: _Meeting) -> Record:
    reading, school, window = meeting.reading, meeting.school, meeting.window
    signals = meeting.rows("marts.school_signal")
    signal = signals.row(0, named=True) if signals.height else dict.fromkeys(signals.columns)
    flags, thin = meeting.found(window), meeting.thin()
    cycles = _cycles(reading, school, window)
    offered = proposals(reading, school, window)
    differs = meeting.rows("marts.tier_reconciliation").height
    return {
        "school_id": school,
        "school": reading.school(school),
        "window": window,
        "before": meeting.before,
        "school_page": school_path(school),
        "cycles_page": cycles_path(school),
        "changes": [
            ("Tested", _coverage(meeting, signal)),
            ("Tiers", _tiers(meeting.rows("projections.tier_placement"))),
            ("Cycles that ended", _ended(meeting)),
            ("Classes", _moved(meeting)),
        ],
        "classes": [_class(row) for row in flags.head(MOST_CLASSES).iter_rows(named=True)],
        "measures": [measure_name(each) for each in flags["measure"].unique().sort()],
        "curriculum": curriculum.told(meeting.reported, flags),
        "more_classes": _by_grade(flags.slice(MOST_CLASSES)),
        "thin": _by_grade(thin),
        "cycles": cycles,
        "offered": {
            "groups": len(offered["groups"]),
            "students": sum(group["students"] for group in offered["groups"]),
            "ungrouped": offered["ungrouped_students"],
        },
        "questions": [
            *_about_levels(flags, window),
            *_about_support(signal, cycles, differs),
            *_about_data(signal, thin),
        ],
    }


def _coverage(meeting: _Meeting, signal: Record) -> str:
    now = Rate(signal["tested"], signal["enrolled"], signal["coverage"])
    if meeting.before is None:
        return f"{now} of the enrolled."
    earlier = meeting.rows("marts.school_signal", meeting.before)
    then = None if earlier.is_empty() else earlier["coverage"].item()
    return f"{now} of the enrolled; {percent(then)} in {meeting.before}."


def _tiers(placed: pl.DataFrame) -> str:
    tier, was = pl.col("tier"), pl.col("tier_before")
    counts = placed.select(
        more=(tier > was).sum(),
        less=(tier < was).sum(),
        same=(tier == was).sum(),
        new=(tier.is_not_null() & was.is_null()).sum(),
        none=tier.is_null().sum(),
        stale=pl.col("is_stale").sum(),
    ).row(0, named=True)
    moved = [
        f"{number(counts['more'])} recommended more support",
        f"{number(counts['less'])} less",
        f"{number(counts['same'])} the same",
    ]
    compared = moved if counts["more"] + counts["less"] + counts["same"] else []
    said = [*compared, f"{number(counts['new'])} placed for the first time"]
    rest = [f"{counted(counts['none'], 'student')} without a tier"] if counts["none"] else []
    rest += [f"{counted(counts['stale'], 'tier')} carried forward without a new test"] if counts["stale"] else []
    return f"{listed(said)}. {(listed(rest) + '.') if rest else ''}".strip()


def _reference(reading: Reading, window: str | None) -> date | None:
    rows = reading.of("projections.window_rule", benchmark_window=window)
    return None if rows.is_empty() else rows["reference_on"].item()


def _ended(meeting: _Meeting) -> str:
    """Cycles that ended after the window before, up to the reference date of this one."""
    reading = meeting.reading
    if reading.table("projections.cycle").is_empty():
        return "Not known: no cycles are supplied."
    begins, ends = (_reference(reading, window) for window in (meeting.before, meeting.window))
    closed_on = pl.col("closed_on")
    since = reading.of("projections.cycle", school_id=meeting.school).filter(
        closed_on.is_not_null(),
        pl.lit(value=True) if begins is None else closed_on > begins,
        pl.lit(value=True) if ends is None else closed_on <= ends,
    )
    if since.is_empty():
        return "None."
    total = since.select(pl.col("adequate", "questionable", "poor", "excluded").sum()).row(0, named=True)
    return (
        f"{counted(since.height, 'cycle')}, {number(since.filter(state='abandoned').height)} of them abandoned."
        f" Students: {total['adequate']} adequate, {total['questionable']} questionable, {total['poor']} poor,"
        f" {total['excluded']} without a conclusion."
    )


def _moved(meeting: _Meeting) -> str:
    """New findings about classes, those that ended, and those of which it cannot be told."""
    now = meeting.found(meeting.window)
    if meeting.before is None:
        return f"{counted(now.height, 'finding')} beyond single students; it is the first window of the year."
    was = meeting.found(meeting.before)
    judged = meeting.classes(meeting.window).filter(~pl.col("level").is_in(CANNOT_SAY))
    new, gone = now.join(was, on="class_id", how="anti"), was.join(now, on="class_id", how="anti")
    ended, lost = gone.join(judged, on="class_id", how="semi"), gone.join(judged, on="class_id", how="anti")
    said = [
        f"New: {_named(new)}.",
        f"Still: {number(now.height - new.height)}.",
        f"No longer: {_named(ended)}.",
        f"Can no longer be said: {_named(lost)}." if lost.height else "",
    ]
    return " ".join(filter(None, said))


def _named(rows: pl.DataFrame) -> str:
    labels = rows["class_label"].drop_nulls().unique().sort().to_list()
    return "none" if rows.is_empty() else listed(labels) if len(labels) <= MOST_CYCLES else f"{len(labels)} classes"


def _class(row: Record) -> Record:
    growth = GROWTHS.get(row["growth_excess"] or "", "not known")
    return {
        "label": row["class_label"],
        "page": class_path(row["class_id"]),
        "measure": measure_name(row["measure"]),
        "level": row["level"],
        "rate": Rate(row["in_need"], row["tested"], row["need_share"], row["interval_low"], row["interval_high"]),
        "coverage": percent(row["coverage"]),
        "came": "it is who arrived" if row["benchmark_window"] == "fall" else growth,
        "attention": ATTENTIONS[row["attention"] or "none"],
    }


def _by_grade(rows: pl.DataFrame) -> str:
    """Classes counted by grade: `Grade 4 (2), Grade 5 (1)`."""
    counts = rows.group_by("grade").len().sort(GRADE_ORDER, nulls_last=True)
    return ", ".join(f"{grade_name(grade)} ({count})" for grade, count in counts.rows())


def _cycles(reading: Reading, school: str, window: str) -> Record:
    """Cycles that had begun by the window's end and wait for something, by what they wait for."""
    until = reading.of("projections.regrouping_proposal", benchmark_window=window)["until_on"].max()
    begun = pl.lit(value=True) if until is None else (pl.col("opened_on") <= until).fill_null(value=True)
    rows = reading.of("projections.cycle", school_id=school).filter(begun).sort("cycle_id")
    reasons = {
        "overdue": pl.col("state") == "overdue",
        "group_plan": pl.col("is_group_plan_first") & (pl.col("closed_on").is_null() | (pl.col("state") == "closed")),
    }
    return {
        name: {
            "count": found.height,
            "listed": [(each, f"{cycles_path(school)}#{cycle_anchor(each)}") for each in ids[:MOST_CYCLES]],
            "more": max(found.height - MOST_CYCLES, 0),
        }
        for name, rule in reasons.items()
        for found in (rows.filter(rule),)
        for ids in (found["cycle_id"].to_list(),)
    }


def _about_levels(flags: pl.DataFrame, window: str) -> Iterator[str]:
    system = flags.filter(pl.col("level").str.starts_with("SYSTEM") & (pl.col("level") != "SYSTEM_DATA"))
    classes = flags.filter(pl.col("level").str.contains("CLASSROOM"))
    if system.height:
        yield (
            f"{_grades(system)}: is the material in use aligned to the grade’s standards, and how much of it was"
            " taught before the window? The whole grade is high, so ask this before anything about one class."
        )
    if system.filter(pl.col("is_district_wide").fill_null(value=False)).height:
        yield "Most schools of the district are alike in this: do the cut score and the curriculum fit the grade?"
    if classes.height:
        topics = sorted({each for text in classes["topics"].drop_nulls() for each in text.split("; ")})
        about = f" Topics that stand out: {', '.join(topics)}." if topics else ""
        yield (
            f"{_grades(classes)}: which concepts does most of the class still need, and when could they be taught to"
            f" everyone?{about}"
        )
    if flags.height and window == "fall":
        yield "Fall describes who arrived: which concepts of the grade before does the first unit lean on?"
    if flags.filter(growth_excess="more").height:
        yield (
            "Where more are in need than from their fall levels: what did these students have since fall in lessons,"
            " time and attendance, and what would help now?"
        )


def _about_support(signal: Record, cycles: Record, differs: int) -> Iterator[str]:
    recommended, served = signal["recommended"], signal["served"]
    if served is None:
        yield "Who is in an intervention cycle is not recorded: who could supply it?"
    elif recommended and recommended > served:
        yield (
            f"{number(recommended - served)} of {number(recommended)} students recommended Tier 2 or 3 were in no"
            " cycle: who starts when, and with whom?"
        )
    planned, held = signal["planned_sessions"], signal["held_sessions"]
    if served is not None and planned and held is None:
        yield f"Whether the {number(planned)} planned sessions were held is not recorded: who could record it?"
    elif planned and held is not None and held < planned:
        yield f"{number(held)} of {number(planned)} planned sessions were held: what stood in the way of the others?"
    if cycles["overdue"]["count"]:
        waiting = counted(cycles["overdue"]["count"], "cycle")
        yield f"{waiting} without a decision: goal met, go on, or change something?"
    if differs:
        yield (
            f"{counted(differs, 'student')} whose team decided another tier than is recommended: does the reason"
            " still hold?"
        )
    if signal["referrals"]:
        yield (
            f"{counted(signal['referrals'], 'referral')} by teachers: what was seen in class that the screener does"
            " not show?"
        )


def _about_data(signal: Record, thin: pl.DataFrame) -> Iterator[str]:
    tested, enrolled = signal["tested"], signal["enrolled"]
    if thin.height or (enrolled and tested < enrolled):
        missing = number(enrolled - tested) if enrolled else "Some"
        about = f" Of classes in {_grades(thin)} nothing can be said until then." if thin.height else ""
        yield f"{missing} enrolled students were not tested: who are they, and can they still be?{about}"
    if signal["families_contacted"] is None:
        yield "Contacts with families are not recorded: what do families say?"
    if signal["no_math_section"]:
        unplaced = counted(signal["no_math_section"], "student")
        yield f"{unplaced} without a math class in the roster: is the roster right?"


def _grades(rows: pl.DataFrame) -> str:
    grades: Sequence[str | None] = rows.select("grade").unique().sort(GRADE_ORDER, nulls_last=True)["grade"].to_list()
    return listed([grade_name(each) for each in grades])
