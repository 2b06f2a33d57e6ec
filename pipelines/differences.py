"""What changed between two times, and through which files: flags, tiers and outcomes, as each time knew them."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.facts import current_facts, known_people, standing_tests
from pipelines.refresh import READS, Plausible, refresh
from pipelines.rules import histories
from schemas.events import FAMILIES
from schemas.policy import DistrictPolicy
from schemas.projections import ClassDecision, ClassMembership, Cycle, CycleOutcome, Projection, TierPlacement
from transforms.differences import changed_facts, differing, facts_of
from transforms.withdrawals import withdrawn
from warehouse.log import POLICY, READING, Known, Log, loaded
from warehouse.projections import PARTITION, Projections

WINDOW = [*PARTITION, "benchmark_window"]
KEY = [*WINDOW, "measure", "school_id", "class_id", "cycle_id", "subject_key"]
"""What tells changes apart; null where a kind of change has no such column."""
_CHANGE = ["what", *KEY]


@dataclass(frozen=True)
class _Kind:
    contract: type[Projection]
    key: Sequence[str]
    said: str


_KINDS: Mapping[str, _Kind] = {
    "flag": _Kind(ClassDecision, [*WINDOW, "measure", "school_id", "class_id"], "level"),
    "tier": _Kind(TierPlacement, [*WINDOW, "subject_key"], "tier"),
    "assigned_tier": _Kind(TierPlacement, [*WINDOW, "subject_key"], "assigned_tier"),
    "outcome": _Kind(CycleOutcome, [*PARTITION, "school_id", "cycle_id", "subject_key"], "response"),
}


@dataclass(frozen=True)
class _Time:
    """One of the two times: its tables and its facts."""

    ledger: pl.DataFrame
    projections: Projections
    facts: pl.DataFrame
    withdrawn: pl.DataFrame
    """`district_id`, `natural_key`, `batch_id`."""
    shown: pl.DataFrame
    plans: Mapping[tuple[str, str], str]
    """Policy of each district and school year, as text."""

    def read(self, contract: type[Projection], districts: Sequence[str]) -> pl.DataFrame:
        return self.projections.read(contract, districts).collect()


def differences(
    log: Log,
    policies: Mapping[str, DistrictPolicy],
    districts: Sequence[str],
    times: tuple[datetime, datetime],
    *,
    by: Known = "recorded",
    kept: Projections | None = None,
    plausible: Plausible | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Every flag, tier and outcome that the later time says otherwise, and the files that came between.

    Both times are rebuilt from the log, in a folder that goes again. A change is `is_direct` where a fact about its
    students, class or cycle changed, or the policy of its year; its files are then those that touched these facts.
    Else it changed because others did, by whom it is judged, and its files are all that changed the district-year.

    Args:
        log: The home's log.
        policies: Policy of every district of the home that has one.
        districts: Which of them are compared.
        times: The earlier and the later.
        by: As in ``warehouse.log.Log.ledger_rows``.
        kept: The home's own projections: what is the same at both times is taken from them and not computed.
        plausible: What a run asks of new projections; ``kept`` was asked the same.
        progress: Told what is under way.

    Returns:
        Keys, what was said before and after, and `files`: each with its time of recording and the number of changed
        facts behind this change that it touched.
    """
    with tempfile.TemporaryDirectory(prefix="tierline-diff-") as folder:
        known = []
        nearest = kept or Projections(str(Path(folder) / "none"))
        for number, moment in enumerate(reversed(times)):  # what is kept is nearer to the later one
            progress(f"{moment:%Y-%m-%d %H:%M}")
            projections = nearest = nearest.copied(Path(folder) / str(number))
            refresh(log, projections, policies, as_of=moment, by=by, plausible=plausible)
            known.append(_known(log, policies, districts, projections, log.ledger_rows(districts, moment, by)))
        after, before = known
        changes = _changes(before, after, districts)
        changed = changed_facts(before.facts, after.facts)
        news = after.ledger.join(before.ledger, on=READING, how="anti").filter(pl.col("status") == "loaded")
        touched = _touched(log, changed, before, after, news, districts)
        return _told(changes, *_through(changes, changed, touched, before, after, news, districts))


def _known(
    log: Log,
    policies: Mapping[str, DistrictPolicy],
    districts: Sequence[str],
    projections: Projections,
    ledger: pl.DataFrame,
) -> _Time:
    readings = loaded(ledger)
    told = histories(log, {district: policies[district] for district in districts}, ledger)
    starts = {district: each.latest.year_starts_month for district, each in told.items()}
    families = [family for family in FAMILIES if family not in ("identity", "rules", "log")]
    years = projections.partitions.scan(district_id=districts).select(PARTITION).unique().collect().rows()
    return _Time(
        ledger,
        projections,
        facts_of(current_facts(log, districts, ledger, families, starts)),
        pl.concat([_withdrawn(log, each, readings) for each in districts]),
        known_people(log, districts, readings).shown,
        {(district, year): repr(told[district].of_year(year)) for district, year in years},
    )


def _withdrawn(log: Log, district_id: str, readings: pl.DataFrame) -> pl.DataFrame:
    """Tests that full extracts lack: `district_id`, `natural_key`, and `batch_id` of the extract that decided."""
    extracts = log.extracts([district_id], readings)
    named = extracts[0]["layout"].unique()
    return withdrawn(standing_tests(log, district_id, readings, pl.col("layout").is_in(named.implode())), *extracts)


def _changes(before: _Time, after: _Time, districts: Sequence[str]) -> pl.DataFrame:
    """`what`, ``KEY``, `before`, `after`."""
    found = []
    for what, kind in _KINDS.items():
        was, now = (each.read(kind.contract, districts) for each in (before, after))
        rows = differing(was, now, kind.key, kind.said)
        lacking = [pl.lit(None, pl.String).alias(name) for name in KEY if name not in kind.key]
        found.append(rows.with_columns(pl.lit(what).alias("what"), *lacking).select(*_CHANGE, "before", "after"))
    return pl.concat(found).with_row_index("change")


def _touched(
    log: Log, changed: pl.DataFrame, before: _Time, after: _Time, news: pl.DataFrame, districts: Sequence[str]
) -> pl.DataFrame:
    """Which readings between the times made each changed fact what it is: `fact`, ``READING``."""
    facts = changed.with_row_index("fact")
    fact = ["district_id", "natural_key"]
    readings = loaded(news)
    seen = log.sightings.scan(district_id=districts).join(readings.lazy().select(READING), on=READING, how="semi")
    said = (
        facts.join(seen.select(*fact, "content_hash", *READING).unique().collect(), on=[*fact, "content_hash"])
        .join(news.select(*READING, "recorded_at"), on=READING)
        .sort("recorded_at")
        .unique("fact", keep="first")  # who says it again changes nothing
    )
    taken = log.events("log", districts, readings).select("district_id", *READING, natural_key="target_key").collect()
    links = log.events("identity", districts, readings).collect()
    moved = links.select("district_id", *READING, natural_key="moved_key").drop_nulls()
    gone = after.withdrawn.join(before.withdrawn, on=fact, how="anti").join(news.select(READING), on="batch_id")
    named = [facts.join(each, on=fact) for each in (taken, moved, gone)]
    merged = pl.concat(
        [links.select("district_id", *READING, subject=name).drop_nulls() for name in ("loser_key", "winner_key")]
    )
    shown = pl.concat([before.shown, after.shown]).unique()
    merged = pl.concat(
        [
            merged,
            merged.join(shown, left_on=["district_id", "subject"], right_on=["district_id", "subject_key"]).select(
                "district_id", *READING, subject="shown_key"
            ),
        ]
    ).unique()
    other = facts.filter(pl.col("subject_key").ne_missing(pl.col("subject_before")))
    linked = [
        other.join(merged, left_on=["district_id", name], right_on=["district_id", "subject"])
        for name in ("subject_key", "subject_before")
    ]
    return pl.concat([each.select("fact", *READING) for each in (said, *named, *linked)]).unique()


def _through(
    changes: pl.DataFrame,
    changed: pl.DataFrame,
    touched: pl.DataFrame,
    before: _Time,
    after: _Time,
    news: pl.DataFrame,
    districts: Sequence[str],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Changes with a changed fact or policy of their own: `change`; and files: `change`, `file`, `recorded_at`,
    `facts`."""
    facts = changed.with_row_index("fact")
    about = pl.concat(
        [facts.with_columns(subject="subject_key"), facts.with_columns(subject="subject_before")]
    ).drop_nulls("subject")
    students = _students(changes, before, after, districts)
    own = [
        students.join(about, left_on=["district_id", "subject_key"], right_on=["district_id", "subject"])
        .filter(pl.col("family").is_in(READS[_KINDS[what].contract]))
        .filter(pl.col("what") == what)
        .select("change", "fact")
        for what in _KINDS
    ]
    placed = changes.select("change", "district_id", "class_id", "cycle_id")
    own += [
        placed.drop_nulls(name).join(facts.drop_nulls(name), on=["district_id", name]).select("change", "fact")
        for name in ("class_id", "cycle_id")
    ]
    groups = pl.concat([each.read(Cycle, districts) for each in (before, after)])
    groups = groups.select("district_id", "cycle_id", "group_id").drop_nulls().unique()
    own.append(
        placed.join(groups, on=["district_id", "cycle_id"])
        .join(facts.drop_nulls("group_id"), on=["district_id", "group_id"])
        .select("change", "fact")
    )
    behind = pl.concat(own).unique()
    ruled = [key for key in before.plans.keys() | after.plans.keys() if before.plans.get(key) != after.plans.get(key)]
    schema = dict.fromkeys(PARTITION, pl.String)
    other_rules = changes.join(pl.DataFrame(sorted(ruled), schema, orient="row"), on=PARTITION).select(
        "change", "district_id"
    )
    rules = news.filter(pl.col("layout") == POLICY).select("district_id", *READING)
    direct = pl.concat([behind.select("change"), other_rules.select("change")]).unique()
    indirect = changes.join(direct, on="change", how="anti").select("change", *PARTITION)
    anything = facts.select(*PARTITION, "fact").join(indirect, on=PARTITION).select("change", "fact")
    files = pl.concat(
        [
            pl.concat([behind, anything]).join(touched, on="fact").select("change", "fact", *READING),
            other_rules.join(rules, on="district_id").select("change", pl.lit(None, pl.UInt32).alias("fact"), *READING),
        ]
    ).join(news.select(*READING, "file", "recorded_at"), on=READING)
    counted = files.group_by("change", "file", "recorded_at").agg(facts=pl.col("fact").drop_nulls().n_unique())
    return direct, counted.sort("change", "recorded_at", "file")


def _students(changes: pl.DataFrame, before: _Time, after: _Time, districts: Sequence[str]) -> pl.DataFrame:
    """Whom each change is about: the student, or who is or was in the class: `change`, `what`, district, student."""
    one = changes.drop_nulls("subject_key").select("change", "what", "district_id", "subject_key")
    members = pl.concat([each.read(ClassMembership, districts) for each in (before, after)])
    of_class = members.select(*WINDOW, "class_id", "subject_key").drop_nulls("class_id").unique()
    many = changes.drop("subject_key").join(of_class, on=[*WINDOW, "class_id"])
    return pl.concat([one, many.select(one.columns)])


def _told(changes: pl.DataFrame, direct: pl.DataFrame, files: pl.DataFrame) -> list[dict[str, Any]]:
    cited = files.group_by("change", maintain_order=True).agg(files=pl.struct("file", "recorded_at", "facts"))
    rows = changes.join(direct.with_columns(is_direct=pl.lit(value=True)), on="change", how="left").join(
        cited, on="change", how="left"
    )
    return (
        rows.with_columns(pl.col("is_direct").fill_null(value=False), pl.col("files").fill_null([]))
        .sort("change")
        .drop("change")
        .to_dicts()
    )
