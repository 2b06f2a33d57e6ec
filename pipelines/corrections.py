"""Corrections that a person states by command: two keys are one student, facts are another's, events are taken back.

Each is a batch of the log like a file's, so that it is known from its day on and can be taken back itself. Keys, counts
and codes are told; what a person types stands in the notes store alone.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from pipelines.erasure import at_work
from pipelines.facts import known_people, standing_retractions
from pipelines.loading import Loader, Sources
from pipelines.statements import NotPossible, Statement, record
from schemas.events import FAMILIES, RETRACTION_REASONS
from schemas.projections import ClassMembership, NeedLevel
from transforms.identity import People, people
from transforms.versions import latest_stated, unretracted
from warehouse.home import Home
from warehouse.log import STATEMENT, Log, loaded
from warehouse.projections import PARTITION, Projections

NEW = "new"
"""Written for the key of a student whom nobody has named yet."""
REFERENCE_CHARS = 12
"""Fewest characters by which an event or a fact may be named: as many as a terminal shows."""
FACTS = tuple(family for family in FAMILIES if family not in ("identity", "rules", "log"))
"""Families whose events can be moved and taken back; the others have commands or files of their own."""
WINDOW = [*PARTITION, "benchmark_window"]
_VERSION = ["natural_key", "content_hash", "export_at"]
_TARGET = ["target_key", "target_hash", "target_at"]


@dataclass(frozen=True)
class Desk:
    """One district's log while its lease is held."""

    loader: Loader
    district_id: str
    ledger: pl.DataFrame

    @property
    def readings(self) -> pl.DataFrame:
        """Readings that exist."""
        return loaded(self.ledger)

    @property
    def known(self) -> People:
        """Who is one student."""
        return known_people(self.loader.log, [self.district_id], self.readings)

    def events(self, family: str, condition: pl.Expr) -> pl.DataFrame:
        """Events of a family that meet a condition."""
        scan = self.loader.log.events(family, [self.district_id], self.readings)
        return scan.filter(condition).collect()

    def state(self, command: str, family: str, rows: pl.DataFrame, reason: str | None, note: str | None) -> str:
        """Write it and return its batch id."""
        earlier = self.ledger.filter(pl.col("layout") == STATEMENT).height  # the same may be stated again later
        text = "\0".join([self.district_id, STATEMENT, str(earlier), command, repr(rows.rows())])
        batch_id = hashlib.sha256(text.encode()).hexdigest()
        statement = Statement(STATEMENT, f"tierline {command}", family, rows, reason, note)
        loader = self.loader
        record(loader.log, loader.vault, loader.secret, self.district_id, batch_id, statement, self.ledger, loader.now)
        return batch_id


@contextmanager
def at_desk(home: Home, district_id: str, sources: Sources | None) -> Iterator[Desk]:
    """One district's log, to state something in it.

    Raises:
        VaultError: another run held the district too long.
        HomeMismatch: the log was written with another secret.
    """
    with at_work(home):
        loader = Loader(home, sources)
        try:
            with loader.vault.lease(district_id):
                yield Desk(loader, district_id, loader.ledger(district_id))
        finally:
            loader.vault.close()


# Who is one student


def merge(home: Home, one: str, other: str, reason: str, sources: Sources | None = None) -> dict[str, Any]:
    """State that two subject keys are one student; the smaller is shown (METHOD 5.3, SEMANTICS 1.8).

    Returns:
        The keys, what the merge makes true twice at one time as the projections last stood, and the batch.

    Raises:
        NotPossible: a key is unknown, the keys are of two districts, or they are one student already.
    """
    with at_desk(home, district_of(home, one, other), sources) as desk:
        shown = _shown(desk.known, desk.district_id, one, other)
        if shown[one] == shown[other]:
            raise NotPossible(f"{one} and {other} are one student already, shown as {shown[one]}.")
        batch_id = desk.state("student merge", "identity", _pair("StudentMerged", one, other), None, reason)
        conflicts = _conflicts(home, desk.district_id, shown[one], shown[other])
        told = {"district_id": desk.district_id, "shown_as": min(shown.values()), "merged": max(one, other)}
        return {**told, "batch_id": batch_id, "conflicts": conflicts.to_dicts()}


def unmerge(home: Home, one: str, other: str, reason: str, sources: Sources | None = None) -> dict[str, Any]:
    """Take a merge of two keys back: everything is as if it had not been stated.

    Raises:
        NotPossible: a key is unknown, or no merge of just these two stands.
    """
    with at_desk(home, district_of(home, one, other), sources) as desk:
        rows = desk.events("identity", pl.col("loser_key").is_not_null())
        stands = latest_stated(rows).filter(~pl.col("is_reversed").fill_null(value=False))
        pair = (pl.col("loser_key") == max(one, other)) & (pl.col("winner_key") == min(one, other))
        if stands.filter(pair).is_empty():
            raise NotPossible(_no_such_merge(stands, desk.known, desk.district_id, one, other))
        reversed_pair = _pair("StudentMergeReversed", one, other).with_columns(is_reversed=True)
        batch_id = desk.state("student unmerge", "identity", reversed_pair, None, reason)
        shown = _shown(people(stands.filter(~pair)), desk.district_id, one, other)
        told: dict[str, Any] = {
            "district_id": desk.district_id,
            "shown_as": sorted(set(shown.values())),
            "batch_id": batch_id,
        }
        return told | {"is_one_still": len(set(shown.values())) == 1}


def split(
    home: Home, here: str, there: str, references: Sequence[str], reason: str, sources: Sources | None = None
) -> dict[str, Any]:
    """State that facts shown under one key are another student's, in all their versions; `new` mints a key.

    Splitting them back undoes it. A correction of such a fact that arrives later follows it.

    Args:
        home: The home.
        here: Key under which the facts are shown.
        there: Key of the student whose facts they are, or `new`.
        references: Event ids or natural keys, or their first twelve characters or more.
        reason: Why, as typed.
        sources: What equality tests inject.

    Raises:
        NotPossible: a key or reference is unknown, or a fact is not shown under ``here``.
    """
    named = (here,) if there == NEW else (here, there)
    with at_desk(home, district_of(home, *named), sources) as desk:
        found = pl.concat([_referred(desk, each)[1] for each in references]).unique("natural_key").sort("natural_key")
        known = desk.known
        shown = _shown(known, desk.district_id, *named)
        if there != NEW and shown[here] == shown[there]:
            raise NotPossible(f"{here} and {there} are one student. Take their merge back with `student unmerge`.")
        others = known.of(found).filter(pl.col("subject_key").ne_missing(shown[here]))
        if others.height:
            raise NotPossible(f"{others.height} of {found.height} facts are not shown under {here}. Nothing was moved.")
        target = _minted(desk, found) if there == NEW else there
        rows = found.select(
            event_type=pl.lit("StudentSplit"),
            moved_key="natural_key",
            from_key=pl.lit(shown[here]),
            to_key=pl.lit(target),
            stated_by=pl.lit("person"),
        )
        batch_id = desk.state("student split", "identity", rows, None, reason)
        told: dict[str, Any] = {
            "district_id": desk.district_id,
            "from": shown[here],
            "to": target,
            "facts": found.height,
        }
        return told | {"batch_id": batch_id}


def _pair(event_type: str, one: str, other: str) -> pl.DataFrame:
    pair = {"event_type": [event_type], "loser_key": [max(one, other)], "winner_key": [min(one, other)]}
    return pl.DataFrame(pair).with_columns(stated_by=pl.lit("person"))


def _no_such_merge(stands: pl.DataFrame, known: People, district_id: str, one: str, other: str) -> str:
    shown = _shown(known, district_id, one, other)
    if shown[one] != shown[other]:
        return f"{one} and {other} are two students already."
    direct = stands.filter(pl.any_horizontal(pl.col("loser_key", "winner_key").is_in([one, other])))
    pairs = "; ".join(
        f"{loser} {winner}" for loser, winner in direct.select("loser_key", "winner_key").sort(pl.all()).rows()
    )
    return f"{one} and {other} are one student by other merges. Take back one that links them: {pairs}."


def _minted(desk: Desk, found: pl.DataFrame) -> str:
    """A key for a student whom no file has named; the facts that are moved stand for an id."""
    named = hashlib.sha256("\0".join(found["natural_key"]).encode()).hexdigest()
    ids = pl.DataFrame({"id_type": ["tierline_split"], "id": [named]})
    return str(desk.loader.vault.subject_keys(desk.district_id, ids)["subject_key"].item())


def _shown(known: People, district_id: str, *keys: str) -> dict[str, str]:
    """The key that stands for each of these."""
    asked = pl.DataFrame({"district_id": [district_id] * len(keys), "key": keys, "natural_key": None})
    shown = known.of(asked.select(pl.col("district_id"), pl.col("natural_key").cast(pl.String), subject_key="key"))
    return dict(zip(keys, shown["subject_key"], strict=True))


def district_of(home: Home, *keys: str) -> str:
    """The district that has all of these subject keys.

    Raises:
        NotPossible: one is in no district, or they are in several.
    """
    log = Log(home)
    readings = loaded(log.ledger_rows())
    wanted = pl.col("subject_key").is_in(keys)
    found = [
        log.families[family].scan().filter(wanted).select("district_id", "subject_key", "batch_id", "attempt")
        for family in FACTS
    ]
    places = pl.concat(found).join(readings.lazy(), on=["batch_id", "attempt"], how="semi")
    by_key = places.select("district_id", "subject_key").unique().collect()
    unknown = sorted(set(keys) - set(by_key["subject_key"]))
    if unknown:
        raise NotPossible(f"No event names {' or '.join(unknown)}. `tierline explain student` shows the keys it knows.")
    districts = by_key["district_id"].unique().sort().to_list()
    if len(districts) > 1:
        raise NotPossible(
            f"These keys are of {' and '.join(districts)}. Subject keys belong to one district. {_how(home)}"
        )
    return str(districts[0])


def _how(home: Home) -> str:
    """How students of two districts become one."""
    if home.agency().cross_district_links:
        return "Here a state id links their students: give both the same one in their rosters, or correct a wrong one."
    return (
        "No history follows a student from one district to another unless policy/home.toml says"
        " cross_district_links = true and names the agreement between them."
    )


def _conflicts(home: Home, district_id: str, one: str, other: str) -> pl.DataFrame:
    """What two students have at one time and one student cannot: two classes, two tests of a measure in a window.

    As the projections last stood: `conflict`, school year, window, and which two: class ids or natural keys.
    """
    projections = Projections(home.projections)
    both = pl.col("subject_key").is_in([one, other])
    classes = projections.read(ClassMembership, [district_id]).filter(both, pl.col("class_id").is_not_null())
    tests = projections.read(NeedLevel, [district_id]).filter(both, pl.col("natural_key").is_not_null())
    found = [
        classes.select(
            *WINDOW, "subject_key", measure=pl.lit(None, pl.String), which="class_id", conflict=pl.lit("in_two_classes")
        ),
        tests.select(*WINDOW, "subject_key", "measure", which="natural_key", conflict=pl.lit("tests_in_one_window")),
    ]
    return (
        pl.concat(found, how="diagonal")
        .group_by("conflict", *WINDOW, "measure")
        .agg(which=pl.col("which").unique().sort(), students=pl.col("subject_key").n_unique())
        .filter(pl.col("which").list.len() > 1, pl.col("students") > 1)
        .select("conflict", *WINDOW, "measure", which=pl.col("which").list.join("; "))
        .sort("conflict", *WINDOW, "measure", nulls_last=True)
        .collect()
    )


# What is taken back


def retract(
    home: Home,
    reference: str,
    reason: str,
    *,
    note: str | None = None,
    undo: bool = False,
    sources: Sources | None = None,
) -> dict[str, Any]:
    """Take an event back, or give it again: the version before it then stands (METHOD 5.1).

    An event id names one version of a fact; a natural key the fact in every version known so far. A version that an
    export states after something else was said is an event of its own, and stands.

    Args:
        home: The home.
        reference: Event id or natural key, or its first twelve characters or more.
        reason: A code of ``RETRACTION_REASONS``.
        note: What a person typed; kept with the notes.
        undo: Take the retraction back instead.
        sources: What equality tests inject.

    Raises:
        NotPossible: the reason is not in the list, or no such event stands.
    """
    if reason not in RETRACTION_REASONS:
        raise NotPossible(f"{reason} is not a reason of the list: {', '.join(RETRACTION_REASONS)}.")
    with at_desk(home, _district_with(home, reference), sources) as desk:
        family, found = _referred(desk, reference)
        taken = standing_retractions(desk.loader.log, family, [desk.district_id], desk.readings)
        how: Literal["semi", "anti"] = "semi" if undo else "anti"
        targets = found.join(taken, left_on=_VERSION, right_on=_TARGET, how=how)
        if targets.is_empty():
            why = "No retraction of it stands" if undo else "It is retracted already"
            raise NotPossible(f"{why}. `tierline explain student` shows every version.")
        rows = targets.select(
            "subject_key",
            event_type=pl.lit("EventRestored" if undo else "EventRetracted"),
            target_family=pl.lit(family),
            target_key="natural_key",
            target_hash="content_hash",
            target_at="export_at",
            is_restored=pl.lit(True if undo else None, pl.Boolean),
        )
        batch_id = desk.state("retract --undo" if undo else "retract", "log", rows, reason, note)
        told: dict[str, Any] = {
            "district_id": desk.district_id,
            "family": family,
            "events": targets.height,
            "batch_id": batch_id,
        }
        return told | {"versions_left": _versions_left(desk, family, targets, rows, taken, undo=undo)}


def _versions_left(
    desk: Desk, family: str, targets: pl.DataFrame, rows: pl.DataFrame, taken: pl.DataFrame, *, undo: bool
) -> int:
    """How many of the facts still have a version that stands."""
    then = taken.join(rows, on=_TARGET, how="anti").select("district_id", *_TARGET)
    if not undo:
        then = pl.concat([then, rows.select(pl.lit(desk.district_id).alias("district_id"), *_TARGET)])
    seen = desk.loader.log.sighted(family, [desk.district_id], desk.readings)
    mine = seen.filter(pl.col("natural_key").is_in(targets["natural_key"].unique().implode())).collect()
    return unretracted(mine, then)["natural_key"].n_unique()


def _referred(desk: Desk, reference: str) -> tuple[str, pl.DataFrame]:
    """The family and the events that a reference names, one row per version.

    Raises:
        NotPossible: it is too short, names nothing or several facts.
    """
    columns = ["event_id", *_VERSION, "district_id", "subject_key"]
    for family in FACTS:
        found = desk.events(family, _names(reference)).select(columns).unique().sort("event_id")
        if found.is_empty():
            continue
        if found["natural_key"].n_unique() > 1:
            raise NotPossible(f"{reference} begins several events. Write more of it.")
        by_id = found.filter(pl.col("event_id").str.starts_with(reference))
        return family, by_id if by_id.height else found
    raise NotPossible(f"No event or fact of {desk.district_id} is called {reference}.")


def _district_with(home: Home, reference: str) -> str:
    log = Log(home)
    ledger = log.ledger_rows()
    districts = ledger["district_id"].unique().sort().to_list()
    for family in FACTS:
        found = log.events(family, districts, loaded(ledger)).filter(_names(reference)).select("district_id").unique()
        known = found.collect()["district_id"]
        if known.len():
            return str(known.sort()[0])
    raise NotPossible(f"No event or fact is called {reference}. `tierline explain student` shows event ids.")


def _names(reference: str) -> pl.Expr:
    if len(reference) < REFERENCE_CHARS:
        raise NotPossible(f"{reference} is too short to name an event. Write at least {REFERENCE_CHARS} characters.")
    return pl.any_horizontal(pl.col("event_id", "natural_key").str.starts_with(reference))
