"""From a decision back to file and line: classes, students, cycles. Subject keys only; nothing from the vault."""

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from pipelines.facts import current_facts, standing_tests
from schemas.events import FAMILIES
from schemas.exports import layouts
from schemas.projections import (
    ClassDecision,
    ClassMembership,
    Cycle,
    CycleOutcome,
    NeedLevel,
    Projection,
    ScreeningResult,
    TierPlacement,
)
from transforms.cycle_facts import read, session_rows
from transforms.cycle_places import place, until_next
from transforms.identity import winners
from transforms.screening import shown_keys
from transforms.versions import current, in_words
from transforms.withdrawals import withdrawn
from warehouse.home import Home
from warehouse.log import Log, loaded
from warehouse.projections import PARTITION, Projections
from warehouse.publish import ask

Sections = dict[str, pl.DataFrame]

WINDOW = [*PARTITION, "benchmark_window"]
ORIGIN = ["is_current", "file", "source_line", "layout", "export_at", "recorded_at"]
"""Where a version of a fact came from, and whether it stands."""
FILES = "Files"
_SCORED = ["event_type", "occurred_on", "score", "standard_error", "percentile"]
_NEED = ["measure", "status", "score", "standard_error", "percentile", "need_level", "is_in_need", "rule"]
_MEETINGS = ("SessionScheduled", "SessionHeld", "SessionCancelled", "AttendanceRecorded")
_WORDS = """
select district_id, school_year, benchmark_window, measure, class_id, reason as words
from marts.classroom_flag
where class_id = ?
"""


def explain(home: Home, kind: str, key: str) -> Sections:
    """The chain behind a class, a student or a cycle; empty where nothing is known by this id.

    Args:
        home: The home.
        kind: class, student or cycle.
        key: Class id or cycle id as the source names it, or a subject key.
    """
    found: dict[str, list[pl.DataFrame]] = {}
    log = Log(home)
    ledger = log.ledger_rows()
    for district in ledger["district_id"].unique().sort():
        trail = _Trail(home, log, ledger.filter(pl.col("district_id") == district), district)
        for title, rows in _KINDS[kind](trail, key).items():
            found.setdefault(title, []).append(rows)
    return {title: rows for title, parts in found.items() if (rows := pl.concat(parts)).height}


def narrowed(sections: Sections, only: Mapping[str, str]) -> Sections:
    """The rows of these windows, measures or school years, and the files they cite."""
    if not only:
        return sections
    kept: Sections = {}
    for title, rows in sections.items():
        if title != FILES:
            asked = [pl.col(column) == value for column, value in only.items() if column in rows.columns]
            kept[title] = rows.filter(asked) if asked else rows
    cited = pl.concat([rows.select("file") for rows in kept.values() if "file" in rows.columns])
    kept[FILES] = sections[FILES].join(cited, on="file", how="semi")
    return {title: rows for title, rows in kept.items() if rows.height}


class _Trail:
    """Reads one district's projections and every version behind them."""

    def __init__(self, home: Home, log: Log, ledger: pl.DataFrame, district_id: str) -> None:
        self.home = home
        self.log = log
        self.ledger = ledger
        self.district_id = district_id
        self.readings = loaded(ledger)
        self.projections = Projections(home.projections)
        merges = log.events("identity", [district_id], self.readings)
        self.shown = winners(merges.select("district_id", "loser_key", "winner_key").collect()).drop("district_id")

    def rows(self, contract: type[Projection], condition: pl.Expr) -> pl.DataFrame:
        return self.projections.read(contract, [self.district_id]).filter(condition).drop("input_id").collect()

    def shown_as(self, subject_key: str) -> str:
        """The key that stands for this one."""
        return str(next(iter(self.shown.filter(pl.col("subject_key") == subject_key)["shown_key"]), subject_key))

    def about(self, subjects: pl.Series) -> pl.Expr:
        """Events about these students, under whichever key their file was given."""
        merged = self.shown.filter(pl.col("shown_key").is_in(subjects.implode()))["subject_key"]
        return pl.col("subject_key").is_in(pl.concat([subjects, merged]).unique().implode())

    def versions(self, family: str, condition: pl.Expr) -> pl.DataFrame:
        """Every version of facts of a family, oldest export first, with what it says and where it came from."""
        events = (
            self.log.events(family, [self.district_id], self.readings)
            .filter(condition)
            .unique(["event_id", "batch_id", "attempt"])
            .collect()
        )
        standing = (
            current(
                self.log.sighted(family, [self.district_id], self.readings).join(
                    events.lazy().select("natural_key").unique(), on="natural_key", how="semi"
                )
            )
            .with_columns(stands=pl.lit(value=True))
            .collect()
        )
        content = ["natural_key", "content_hash"]
        is_latest = pl.col("export_at") == pl.col("export_at").max().over(content)
        return (
            events.with_columns(said=in_words(events, family, ("occurred_on", "strands")))
            .join(standing, on=content, how="left")
            .join(
                self.ledger.select("batch_id", "attempt", "file", "recorded_at"), on=["batch_id", "attempt"], how="left"
            )
            .join(self.shown, on="subject_key", how="left")
            .with_columns(
                subject_key=pl.coalesce("shown_key", "subject_key"),
                is_current=pl.col("stands").fill_null(value=False) & is_latest,
            )
            .sort("subject_key", "occurred_on", *content[:1], "export_at", "content_hash", nulls_last=True)
        )

    def tests(self, subjects: pl.Series) -> pl.DataFrame:
        """Every version of every test of these students; `test` is the key it is shown under.

        `vanished_from` is the full extract by which a test was withdrawn.
        """
        versions = (
            self.versions("screening", self.about(subjects))
            .join(self._vanished(subjects), on="natural_key", how="left", maintain_order="left")
            .with_columns(is_current=pl.col("is_current") & pl.col("vanished_from").is_null())
        )
        richness = {layout.id: layout.richness for layout in layouts().values()}
        shown = shown_keys(versions.lazy().filter("is_current").unique("natural_key"), richness).collect()
        return versions.join(shown.rename({"shown_key": "test"}), on="natural_key", how="left", maintain_order="left")

    def _vanished(self, subjects: pl.Series) -> pl.DataFrame:
        """Tests of these students that are withdrawn since full extracts lack them: `natural_key`, `vanished_from`."""
        extracts = self.log.extracts([self.district_id], self.readings)
        tests = standing_tests(self.log, self.district_id, self.readings, self.about(subjects))
        files = self.ledger.select("batch_id", vanished_from="file").unique("batch_id")
        return withdrawn(tests, *extracts).join(files, on="batch_id").select("natural_key", "vanished_from")

    def files(self, *cited: pl.DataFrame) -> pl.DataFrame:
        """The files cited, and where the bytes that were loaded are kept; null where they no longer are."""
        batches = pl.concat([rows.select("batch_id") for rows in cited]).unique()
        rows = (
            self.ledger.filter(pl.col("status") == "loaded")
            .join(batches, on="batch_id", how="semi")
            .unique("batch_id", keep="first", maintain_order=True)
        )
        paths = [
            self.home.archived(self.district_id, batch, file) for batch, file in rows.select("batch_id", "file").rows()
        ]
        kept = [path.relative_to(self.home.root).as_posix() if path.exists() else None for path in paths]
        return rows.select(
            "district_id",
            "file",
            "layout",
            "export_at",
            "recorded_at",
            kept_as=pl.Series(kept, dtype=pl.String),
        )


def _class(trail: _Trail, class_id: str) -> Sections:
    here = pl.col("class_id") == class_id
    decisions = trail.rows(ClassDecision, here).sort(*WINDOW, "measure")
    members = trail.rows(ClassMembership, here)
    if decisions.is_empty() and members.is_empty():
        return {}
    needs = trail.rows(NeedLevel, pl.col("subject_key").is_in(members["subject_key"].implode()))
    flags = ["is_mobile", "in_two_classes", "is_alternate_assessment"]
    students = members.join(needs, on=[*WINDOW, "subject_key"], how="left").sort(*WINDOW, "measure", "subject_key")
    versions = trail.tests(members["subject_key"].unique())
    chosen = students.select(*WINDOW, test="natural_key").drop_nulls("test").unique()
    tests = chosen.join(versions.drop(PARTITION), on="test").sort(
        *WINDOW, "measure", "subject_key", "natural_key", "export_at"
    )
    return {
        "Decisions": _worded(trail.home, decisions, class_id),
        "Students": students.select(*WINDOW, "subject_key", *_NEED, *flags, test="natural_key"),
        "Chosen tests, every version": tests.select(
            *WINDOW, "measure", "subject_key", "test", *_SCORED, *ORIGIN, "batch_id"
        ),
        FILES: trail.files(tests),
    }


def _worded(home: Home, decisions: pl.DataFrame, class_id: str) -> pl.DataFrame:
    """Decisions with the words of the published flag, where one is published."""
    words = ask(home.warehouse, _WORDS, [class_id])
    first = [*WINDOW, "measure", "class_id", "class_label", "level", "words"]
    if words is None:
        worded = decisions.with_columns(words=pl.lit(None, pl.String))
    else:
        worded = decisions.join(words, on=[*WINDOW, "measure", "class_id"], how="left", maintain_order="left")
    return worded.select(*first, pl.exclude(first))


def _student(trail: _Trail, key: str) -> Sections:
    subject = trail.shown_as(key)
    mine = pl.col("subject_key") == subject
    versions = trail.tests(pl.Series([subject]))
    others = [
        trail.versions(family, trail.about(pl.Series([subject])))
        for family in FAMILIES
        if family not in ("screening", "identity")
    ]
    results = trail.rows(ScreeningResult, mine).sort("school_year", "measure", "occurred_on", nulls_last=True)
    outcomes = trail.rows(CycleOutcome, mine)
    cycles = trail.rows(Cycle, pl.col("cycle_id").is_in(outcomes["cycle_id"].implode()))
    opened = cycles.select(*PARTITION, "cycle_id", "school_id", "intervention", "opened_on", "closed_on", "state")
    return {
        "Placements": trail.rows(TierPlacement, mine).sort(WINDOW),
        "Need levels": trail.rows(NeedLevel, mine)
        .sort(*WINDOW, "measure")
        .select(*WINDOW, *_NEED, "rule_version", test="natural_key"),
        "Classes": trail.rows(ClassMembership, mine).sort(WINDOW),
        "Tests": results.select(
            *PARTITION,
            "measure",
            "benchmark_window",
            "window_source",
            "occurred_on",
            "score",
            "standard_error",
            "percentile",
            "invalid_reason",
            "is_chosen",
            "chosen_reason",
            test="natural_key",
        ),
        "Cycles": outcomes.join(opened, on=[*PARTITION, "cycle_id", "school_id"], how="left", nulls_equal=True).sort(
            *PARTITION, "joined_on", "cycle_id", nulls_last=True
        ),
        "Versions of tests": versions.select(
            *PARTITION, "measure", "test", *_SCORED, *ORIGIN, "vanished_from", "batch_id"
        ),
        "Other records": _records(others),
        FILES: trail.files(versions, *others),
    }


def _records(versions: Sequence[pl.DataFrame]) -> pl.DataFrame:
    names = [*PARTITION, "event_type", "subject_key", "occurred_on", "said", *ORIGIN, "batch_id"]
    rows = pl.concat([each.select(*names, "natural_key") for each in versions])
    return rows.sort("occurred_on", "event_type", "subject_key", "natural_key", "export_at").select(names)


def _cycle(trail: _Trail, cycle_id: str) -> Sections:
    here = pl.col("cycle_id") == cycle_id
    cycles = trail.rows(Cycle, here)
    if cycles.is_empty():
        return {}
    session, cycle, probe = _keys_of_cycle(trail, cycles["school_year"].unique().to_list(), cycle_id)
    versions = {
        "Members": trail.versions("cycle", pl.col("natural_key").is_in(cycle.implode())),
        "Sessions": trail.versions("session", pl.col("natural_key").is_in(session.implode())),
        "Probes": trail.versions("session", pl.col("natural_key").is_in(probe.implode())),
    }
    return {
        "Cycle": cycles.sort(*PARTITION, "school_id"),
        "Outcomes": trail.rows(CycleOutcome, here).sort(*PARTITION, "school_id", "subject_key"),
        **{title: _records([rows]) for title, rows in versions.items()},
        FILES: trail.files(*versions.values()),
    }


def _keys_of_cycle(trail: _Trail, years: Sequence[str], cycle_id: str) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Natural keys of the sessions and attendance, of the records of members, and of the probes that count."""
    facts = current_facts(trail.log, [trail.district_id], trail.ledger, ("cycle", "session"))
    dated = {family: rows.filter(pl.col("school_year").is_in(list(years))) for family, rows in facts.items()}
    lazy = {family: rows.lazy() for family, rows in dated.items()}
    placed = read(lazy, {trail.district_id: trail.home.policy(trail.district_id)})
    ours = placed.cycle.filter(pl.col("cycle_id") == cycle_id).select("cycle_no", "measure")
    sessions = session_rows(lazy["session"])
    met = sessions.filter(~pl.col("is_tutoring"), pl.col("event_type").is_in(_MEETINGS))
    days = placed.probe.join(placed.member, on="member_no").join(ours, on="cycle_no")
    probes = sessions.filter(pl.col("event_type") == "ProbeScored").join(
        days, on=["subject_key", "measure", "on"], how="semi"
    )
    records = place(dated["cycle"].rename({"occurred_on": "on"}), until_next(placed.cycle), "").rows
    return (
        _of(place(met, placed.cycle, "").rows, ours),
        _of(records, ours),
        probes["natural_key"].unique(),
    )


def _of(rows: pl.DataFrame, ours: pl.DataFrame) -> pl.Series:
    return rows.join(ours, on="cycle_no", how="semi")["natural_key"].unique()


_KINDS: Mapping[str, Callable[[_Trail, str], Sections]] = {"class": _class, "student": _student, "cycle": _cycle}
