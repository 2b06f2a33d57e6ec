"""From a decision back to file and line: classes, students, cycles. Subject keys only; nothing from the vault."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl

from pipelines.facts import current_facts, known_people, standing_retractions, standing_tests
from pipelines.links import linked
from pipelines.reproducible import not_reproducible
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
from transforms.screening import shown_keys
from transforms.versions import current, in_words, latest_stated, unretracted
from transforms.withdrawals import withdrawn
from warehouse.home import Home
from warehouse.log import READING, Log, loaded
from warehouse.projections import PARTITION, Projections
from warehouse.publish import ask

Sections = dict[str, pl.DataFrame]

WINDOW = [*PARTITION, "benchmark_window"]
ORIGIN = ["is_current", "is_retracted", "file", "source_line", "layout", "export_at", "recorded_at", "event_id"]
"""Where a version of a fact came from, whether it stands, and what `tierline retract` and `student split` call it."""
KNOWN = "What was known when"
FILES = "Files"
RIGHTS = "Statements, requests and disclosures"
ERASED = "Not reproducible"
_SCORED = ["event_type", "occurred_on", "score", "standard_error", "percentile"]
_KNOWN = [
    "known_from",
    "known_until",
    "state",
    "occurred_on",
    "score",
    "percentile",
    "file",
    "source_line",
    "export_at",
]
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
        sections = _KINDS[kind](trail, key)
        if any(rows.height for rows in sections.values()):
            sections[ERASED] = not_reproducible(trail.ledger)
        for title, rows in sections.items():
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
        self.people = known_people(log, [district_id], self.readings)
        self.shown = self.people.shown.drop("district_id")

    def rows(self, contract: type[Projection], condition: pl.Expr) -> pl.DataFrame:
        return self.projections.read(contract, [self.district_id]).filter(condition).drop("input_id").collect()

    def shown_as(self, subject_key: str) -> str:
        """The key that stands for this one."""
        return str(next(iter(self.shown.filter(pl.col("subject_key") == subject_key)["shown_key"]), subject_key))

    def about(self, subjects: pl.Series) -> pl.Expr:
        """Events about these students, under whichever key their file was given, and facts that are theirs since."""
        merged = self.shown.filter(pl.col("shown_key").is_in(subjects.implode()))["subject_key"]
        keys = pl.concat([subjects, merged]).unique()
        moved = self.people.moved
        is_theirs = pl.col("to_key").is_in(keys.implode())
        came, went = (moved.filter(each)["natural_key"].implode() for each in (is_theirs, ~is_theirs))
        own = pl.col("subject_key").is_in(keys.implode()) & ~pl.col("natural_key").is_in(went)
        return own | pl.col("natural_key").is_in(came)

    def seen(self, family: str, keys: pl.DataFrame) -> pl.DataFrame:
        """Sightings of these facts: district, natural key, content, export and reading."""
        sighted = self.log.sighted(family, [self.district_id], self.readings).drop("layout")
        return sighted.join(keys.lazy().select("natural_key").unique(), on="natural_key", how="semi").collect()

    def versions(self, family: str, condition: pl.Expr) -> pl.DataFrame:
        """Every version of facts of a family, oldest export first, with what it says and where it came from."""
        events = (
            self.log.events(family, [self.district_id], self.readings)
            .filter(condition)
            .unique(["event_id", "batch_id", "attempt"])
            .collect()
        )
        retractions = standing_retractions(self.log, family, [self.district_id], self.readings)
        left = unretracted(self.seen(family, events), retractions)
        standing = current(left.lazy()).with_columns(stands=pl.lit(value=True)).collect()
        content = ["natural_key", "content_hash"]
        kept = left.select(*content, "export_at", is_kept=pl.lit(value=True)).unique()
        is_latest = pl.col("export_at") == pl.col("export_at").filter(~pl.col("is_retracted")).max().over(content)
        return (
            self.people.of(events.with_columns(said=in_words(events, family, ("occurred_on", "strands"))))
            .join(standing, on=content, how="left")
            .join(kept, on=[*content, "export_at"], how="left")
            .join(
                self.ledger.select("batch_id", "attempt", "file", "recorded_at"), on=["batch_id", "attempt"], how="left"
            )
            .with_columns(is_retracted=pl.col("is_kept").is_null())
            .with_columns(
                is_current=pl.col("stands").fill_null(value=False) & is_latest & ~pl.col("is_retracted"),
            )
            .sort("subject_key", "occurred_on", *content[:1], "export_at", "content_hash", nulls_last=True)
        )

    def identity(self, subjects: pl.Series) -> pl.DataFrame:
        """Every merge, its reversal and every split that names these students, in the order they became known."""
        merged = self.shown.filter(pl.col("shown_key").is_in(subjects.implode()))["subject_key"]
        keys = pl.concat([subjects, merged]).unique().implode()
        named = pl.any_horizontal(pl.col("loser_key", "winner_key", "from_key", "to_key").is_in(keys))
        events = self.log.events("identity", [self.district_id], self.readings).filter(named).collect()
        when = self.ledger.select(*READING, "file", "recorded_at")
        return (
            events.join(when, on=READING)
            .select(
                "district_id",
                "event_type",
                "loser_key",
                "winner_key",
                "from_key",
                "to_key",
                "moved_key",
                "stated_by",
                "file",
                "recorded_at",
            )
            .sort("recorded_at", "event_type", "loser_key", "winner_key", "moved_key", nulls_last=True)
        )

    def linked(self, subject_key: str) -> pl.DataFrame:
        """The same student in other districts, as far as an agreement lets their history follow."""
        links = linked(self.log, self.log.ledger_rows())
        return links.filter(pl.col("district_id") == self.district_id, pl.col("subject_key") == subject_key)

    def rights(self, subjects: pl.Series) -> pl.DataFrame:
        """Statements attached to these students' records, what was asked and answered, and disclosures."""
        merged = self.shown.filter(pl.col("shown_key").is_in(subjects.implode()))["subject_key"]
        is_theirs = pl.col("subject_key").is_in(pl.concat([subjects, merged]).implode())
        events = self.log.events("rights", [self.district_id], self.readings).filter(is_theirs).collect()
        names = ["district_id", "event_type", "occurred_on", "row_id", "decision", "basis", "note_chars", "recorded_at"]
        when = self.ledger.select(*READING, "recorded_at")
        is_statement = pl.col("event_type") == "StatementAttached"
        return events.join(when, on=READING).sort(~is_statement, "recorded_at", "row_id").select(names)

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

    def known_when(self, versions: pl.DataFrame) -> pl.DataFrame:
        """What these tests were known to say from when until when: one row for each time that it became another.

        Columns of ``versions`` and `natural_key`, `known_from`, `known_until` (null: to this day) and `state`: known,
        or why nothing was: withdrawn by full extracts, or retracted.
        """
        fact = pl.col("natural_key").is_in(versions["natural_key"].unique().implode())
        seen = self.seen("screening", versions)
        stated = self.log.events("log", [self.district_id], self.readings).filter(target_family="screening").collect()
        tests = standing_tests(self.log, self.district_id, self.readings, fact)
        scopes, gaps = self.log.extracts([self.district_id], self.readings)
        when = self.ledger.select(*READING, "recorded_at")
        dated = {
            name: rows.join(when, on=READING)
            for name, rows in (("seen", seen), ("stated", stated), ("scopes", scopes), ("gaps", gaps))
        }
        times = pl.concat([versions["recorded_at"], *(dated[each]["recorded_at"] for each in ("stated", "scopes"))])
        none = {"natural_key": pl.String, "content_hash": pl.String, "state": pl.String}
        parts = [pl.DataFrame(schema=none | {"known_from": versions.schema["recorded_at"]})]
        for moment in times.unique().sort():
            then = {name: rows.filter(pl.col("recorded_at") <= moment) for name, rows in dated.items()}
            taken = latest_stated(then["stated"]).filter(~pl.col("is_restored").fill_null(value=False))
            left = unretracted(then["seen"], taken)
            last = left.group_by("natural_key").agg(last_export_at=pl.col("export_at").max())
            gone = withdrawn(tests.drop("last_export_at").join(last, on="natural_key"), then["scopes"], then["gaps"])
            stands = current(left.lazy()).collect().join(gone, on="natural_key", how="anti")
            state = (
                pl.when(pl.col("content_hash").is_not_null())
                .then(pl.lit("known"))
                .when(pl.col("natural_key").is_in(gone["natural_key"].implode()))
                .then(pl.lit("withdrawn"))
                .otherwise(pl.lit("retracted"))
            )
            known = then["seen"].select("natural_key").unique().join(stands, on="natural_key", how="left")
            parts.append(known.select("natural_key", "content_hash", state=state, known_from=pl.lit(moment)))
        return _spans(pl.concat(parts), versions)

    def files(self, *cited: pl.DataFrame) -> pl.DataFrame:
        """The files cited, and where the bytes that were loaded are kept; null where who asks cannot see them."""
        batches = pl.concat([rows.select("batch_id") for rows in cited]).unique()
        rows = (
            self.ledger.filter(pl.col("status") == "loaded")
            .join(batches, on="batch_id", how="semi")
            .unique("batch_id", keep="first", maintain_order=True)
        )
        paths = [
            self.home.archived(self.district_id, batch, file) for batch, file in rows.select("batch_id", "file").rows()
        ]
        kept = [path.relative_to(self.home.root).as_posix() if _is_seen(path) else None for path in paths]
        return rows.select(
            "district_id",
            "file",
            "layout",
            "export_at",
            "recorded_at",
            kept_as=pl.Series(kept, dtype=pl.String),
        )


def _is_seen(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return False


def _spans(known: pl.DataFrame, versions: pl.DataFrame) -> pl.DataFrame:
    """Of what was known at each time the rows where it became another, with the version that said so."""
    content = ["natural_key", "content_hash"]
    is_other = pl.struct("content_hash", "state").ne_missing(pl.struct("content_hash", "state").shift(1))
    is_first = pl.col("natural_key").ne_missing(pl.col("natural_key").shift(1))
    changed = (
        known.sort("natural_key", "known_from")
        .filter(is_other | is_first)
        .with_columns(known_until=pl.col("known_from").shift(-1).over("natural_key"))
    )
    told = changed.join(versions, on=content, how="left").filter(
        (pl.col("recorded_at") <= pl.col("known_from")) | pl.col("recorded_at").is_null()
    )
    latest = told.sort("natural_key", "known_from", "recorded_at").unique(
        ["natural_key", "known_from"], keep="last", maintain_order=True
    )
    whose = [*PARTITION, "subject_key", "measure", "test"]
    of_fact = versions.select("natural_key", *whose).unique("natural_key", keep="first", maintain_order=True)
    return latest.drop(whose).join(of_fact, on="natural_key", how="left", maintain_order="left")


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
        KNOWN: chosen.join(trail.known_when(versions).drop(PARTITION), on="test")
        .sort(*WINDOW, "measure", "subject_key", "natural_key", "known_from")
        .select(*WINDOW, "measure", "subject_key", "test", *_KNOWN),
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
        if family not in ("screening", "identity", "rights")
    ]
    results = trail.rows(ScreeningResult, mine).sort("school_year", "measure", "occurred_on", nulls_last=True)
    outcomes = trail.rows(CycleOutcome, mine)
    cycles = trail.rows(Cycle, pl.col("cycle_id").is_in(outcomes["cycle_id"].implode()))
    opened = cycles.select(*PARTITION, "cycle_id", "school_id", "intervention", "opened_on", "closed_on", "state")
    return {
        RIGHTS: trail.rights(pl.Series([subject])),
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
        KNOWN: trail.known_when(versions)
        .sort("measure", "natural_key", "known_from")
        .select(*PARTITION, "measure", "natural_key", *_KNOWN),
        "Who is one student": trail.identity(pl.Series([subject])),
        "The same student in other districts": trail.linked(subject),
        "Other records": _records(others),
        FILES: trail.files(versions, *others),
    }


def _records(versions: Sequence[pl.DataFrame]) -> pl.DataFrame:
    names = [*PARTITION, "event_type", "subject_key", "occurred_on", "said", "reason", *ORIGIN, "batch_id"]
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
