"""Versions of facts: their keys and hashes, what a file changes, and what is current (SEMANTICS 1)."""

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
import polars_hash  # noqa: F401 registers the hash namespace of expressions

from schemas.contract import columns
from schemas.events import EVENT_TYPES, FAMILIES, PAYLOADS, UNHASHED, Key
from transforms.rows import in_order, is_among

CONTENT_ENVELOPE = ("school_id", "occurred_on")
"""Envelope columns that are content: a new date in a season slot is a correction."""
_UNIT = "\x1f"
_ORDER: dict[str, Any] = {"by": ["natural_key", "export_at", "content_hash"], "descending": [False, False, True]}
"""Of one fact: by export time; at equal times the lowest content hash comes last and is current."""


def keyed_hash(text: pl.Expr, secret: bytes) -> pl.Expr:
    """HMAC-SHA256 of a text, in hexadecimal: a plain hash of a score could be guessed."""
    return text.chash.hmac_sha256(key=secret.hex())  # type: ignore[attr-defined]


def canonical(name: str, dtype: pl.DataType) -> pl.Expr:
    """A value as text: integers without a point, floats shortest round trip, dates ISO; null stays null."""
    column = pl.col(name)
    if isinstance(dtype, pl.List):
        fields = [
            _number(pl.element().struct.field(f.name)) if f.dtype == pl.Float64 else pl.element().struct.field(f.name)
            for f in dtype.inner.fields  # type: ignore[union-attr]
        ]
        return (
            pl.when(column.list.len() > 0)
            .then(column.list.eval(pl.concat_str([f.fill_null("") for f in fields], separator="\x1e")).list.sort())
            .list.join("\x1d")
        )
    if dtype == pl.Float64:
        return _number(column)
    if dtype == pl.Date:
        return column.dt.to_string("%Y-%m-%d")
    if isinstance(dtype, pl.Datetime):
        return column.dt.to_string("iso:strict")
    return column.cast(pl.String)


def _number(value: pl.Expr) -> pl.Expr:
    return value.cast(pl.String).str.strip_suffix(".0")


def _named(names: Sequence[str], schema: dict[str, pl.DataType]) -> pl.Expr:
    """`name=value` of the columns that are not null, in the order given; nothing where there are none."""
    if not names:
        return pl.lit("")
    return pl.concat_str(
        [pl.lit(f"{name}=") + canonical(name, schema[name]) for name in names], separator=_UNIT, ignore_nulls=True
    )


def content_text(family: str, leave_out: Sequence[str] = ()) -> pl.Expr:
    """What a fact says, as one text: hashed columns in the contract's order, nulls left out."""
    schema = columns(FAMILIES[family])
    return _named([n for n in (*CONTENT_ENVELOPE, *PAYLOADS[family]) if n not in UNHASHED.union(leave_out)], schema)


def stated(facts: pl.DataFrame, family: str, leave_out: Sequence[str] = ()) -> pl.Expr:
    """``content_text`` of these facts; columns that none of them fills are not looked at."""
    return content_text(family, (*leave_out, *_blank(facts)))


def in_words(facts: pl.DataFrame, family: str, leave_out: Sequence[str] = ()) -> pl.Expr:
    """What each of these facts says, as `name=value` parts for people."""
    return stated(facts, family, leave_out).str.replace_all(_UNIT, ", ", literal=True)


def content_hash(facts: pl.DataFrame, family: str, secret: bytes, leave_out: Sequence[str] = ()) -> pl.Expr:
    """What each of these facts says, as a keyed hash.

    Args:
        facts: The rows it is for: columns that say nothing in any of them are left out beforehand.
        family: Their family.
        secret: The home's secret.
        leave_out: Columns their layout does not hash.
    """
    return keyed_hash(stated(facts, family, leave_out), secret)


def event_id(secret: bytes) -> pl.Expr:
    """Keyed hash of an event's type, natural key, content and export time (SEMANTICS 1.3)."""
    parts = ["event_type", "natural_key", "content_hash"]
    text = pl.concat_str([*parts, pl.col("export_at").dt.to_string("iso:strict")], separator=_UNIT)
    return keyed_hash(text, secret)


def key_text(event_type: str) -> pl.Expr:
    """Which fact it is, as one text, without the ordinal."""
    spec = EVENT_TYPES[event_type]
    schema = columns(FAMILIES[spec.family])

    def text(key: Key) -> pl.Expr:
        return pl.lit(spec.kind + _UNIT) + _named([part for part in key.parts if part != "ordinal"], schema)

    return _first(event_type, text)


def counts_ordinal(event_type: str) -> pl.Expr:
    """Whether equal keys within one file are told apart by their ordinal."""
    return _first(event_type, lambda key: pl.lit("ordinal" in key.parts))


def _first(event_type: str, of: Callable[[Key], pl.Expr]) -> pl.Expr:
    *others, last = EVENT_TYPES[event_type].keys
    expression = of(last)
    for key in reversed(others):
        met = pl.all_horizontal(pl.col(name).is_not_null() for name in key.needs)
        expression = pl.when(met).then(of(key)).otherwise(expression)
    return expression


def identify(facts: pl.DataFrame, family: str, secret: bytes, leave_out: Sequence[str] = ()) -> pl.DataFrame:
    """Give each fact of one file its `natural_key` and `content_hash`, and mark exact repeats.

    Adds `is_repeat`: an earlier line or slot of the file states the same fact with the same content.
    Facts whose key ends in an ordinal are counted in the order of their content, so that the order of rows
    in a file changes nothing.

    Args:
        facts: Rows of one family: `event_type`, `subject_key`, `source_line`, `slot`, envelope facts and payload.
        family: Their family.
        secret: The home's secret.
        leave_out: Columns this layout does not hash.
    """
    if facts.is_empty():
        return facts.with_columns(
            natural_key=pl.lit(None, pl.String), content_hash=pl.lit(None, pl.String), is_repeat=pl.lit(False)
        )
    facts = in_order(facts, ["source_line", "slot"])
    keyed = _with_key(facts).with_columns(content_hash=content_hash(facts, family, secret, leave_out))
    keyed = keyed.with_columns(is_repeat=~pl.struct("_key", "content_hash").is_first_distinct())
    rank = (
        pl.when(pl.col("_ordinal") & (pl.col("content_hash").n_unique().over("_key") > 1))
        .then(pl.col("content_hash").rank("dense").over("_key"))
        .otherwise(1)
    )
    if keyed["_ordinal"].any():
        keyed = keyed.with_columns(_key=pl.when(rank > 1).then(_numbered(rank.cast(pl.String))).otherwise("_key"))
    return keyed.with_columns(natural_key=keyed_hash(pl.col("_key"), secret)).drop("_key", "_ordinal")


def _with_key(facts: pl.DataFrame) -> pl.DataFrame:
    """Add `_key`, the text of the natural key without its ordinal, and `_ordinal`, whether it may end in one."""
    base = pl.lit(None, pl.String)
    ordinal = pl.lit(False)
    for each in facts["event_type"].unique().sort().to_list():
        here = pl.col("event_type") == each
        base = pl.when(here).then(key_text(each)).otherwise(base)
        ordinal = pl.when(here).then(counts_ordinal(each)).otherwise(ordinal)
    return facts.with_columns(_key=base, _ordinal=ordinal)


def _numbered(ordinal: pl.Expr) -> pl.Expr:
    return pl.col("_key") + f"{_UNIT}ordinal=" + ordinal


def misnamed(events: pl.DataFrame, secret: bytes) -> pl.DataFrame:
    """Events whose natural key is not that of what they say. All events of a family and district are needed:
    of equal keys told apart by an ordinal no number is left out.

    Args:
        events: One family: `event_type` as a layout states it, `natural_key`, and the columns of its keys.
        secret: The home's secret.
    """
    left = _with_key(events)
    fits = left.filter(pl.col("natural_key") == keyed_hash(pl.col("_key"), secret)).height
    left = left.filter(pl.col("natural_key").ne_missing(keyed_hash(pl.col("_key"), secret)))
    ordinal = 1
    while fits and left.height:
        ordinal += 1
        named = keyed_hash(_numbered(pl.lit(str(ordinal))), secret)
        matching = pl.col("_ordinal") & (pl.col("natural_key") == named)
        fits = left.select(matching.sum()).item()
        left = left.filter(~matching.fill_null(value=False))
    return left.drop("_key", "_ordinal")


def _blank(facts: pl.DataFrame) -> list[str]:
    """Columns that say nothing in this file; lists without any element cannot be looked into."""
    return [
        series.name
        for series in facts
        if series.null_count() == series.len() or (series.dtype == pl.List and not series.list.len().sum())
    ]


def compare(facts: pl.DataFrame, sightings: pl.DataFrame) -> pl.DataFrame:
    """Say what each fact of a file does to the log: adds `change` in appended, corrected, unchanged.

    A fact is unchanged when the sighting just before it, in the order of export time and content hash,
    says the same: 186, 192, 186 is two corrections. A version older than what is known is a correction too.

    Args:
        facts: One family of one file: `natural_key`, `content_hash`, `export_at`, without repeats.
        sightings: What was seen of these keys before: `natural_key`, `content_hash`, `export_at`.
    """
    if sightings.is_empty() and not facts["natural_key"].is_duplicated().any():
        return facts.with_columns(change=pl.lit("appended"))
    version = ["natural_key", "content_hash", "export_at"]
    asked = facts.select(version).unique()
    seen = sightings.select(version).unique()
    ordered = (
        pl.concat([asked.with_columns(_asked=True), seen.with_columns(_asked=False)])
        .group_by(version)
        .agg(_asked=pl.col("_asked").any(), _seen=(~pl.col("_asked")).any())
        .sort(**_ORDER)
        .with_columns(
            _before=pl.col("content_hash").shift(1).over("natural_key"),
            _known=pl.col("_seen").any().over("natural_key"),
        )
        .filter("_asked")
    )
    change = (
        pl.when(pl.col("_seen") | (pl.col("_before") == pl.col("content_hash")).fill_null(False))
        .then(pl.lit("unchanged"))
        .when(pl.col("_known") | pl.col("_before").is_not_null())
        .then(pl.lit("corrected"))
        .otherwise(pl.lit("appended"))
    )
    return facts.join(ordered.select(*version, change=change), on=version, how="left", maintain_order="left")


def current(sightings: pl.LazyFrame, within: Sequence[str] = ("natural_key",)) -> pl.LazyFrame:
    """The version of each fact that stands: `natural_key`, `content_hash`, and whatever else tells facts apart."""
    return sightings.group_by(within).agg(
        pl.col("content_hash").sort_by("export_at", "content_hash", descending=[True, False]).first()
    )


def standing(sightings: pl.LazyFrame, within: Sequence[str] = ("natural_key",)) -> pl.LazyFrame:
    """The version of each fact that stands, and since when: one row per fact.

    `export_at` and `layout` are those of the first export of the run of equal content that stands, so that an export
    that says nothing new changes nothing, and neither does the order of arrival; `last_export_at` is the last.

    Args:
        sightings: The columns of ``within``, `content_hash`, `export_at`, `layout`.
        within: What tells facts apart: districts number their schools and classes alike.
    """
    told = sightings.group_by(within).agg(
        pl.col("content_hash").min(),
        pl.col("export_at").min(),
        pl.col("layout").min(),
        last_export_at=pl.col("export_at").max(),
        _other_hash=pl.col("content_hash").max(),
        _other_layout=pl.col("layout").max(),
    )
    is_steady = (pl.col("content_hash") == pl.col("_other_hash")) & (pl.col("layout") == pl.col("_other_layout"))
    names = [*within, "content_hash", "export_at", "layout", "last_export_at"]
    is_same = (pl.col("content_hash") == pl.col("content_hash").shift(1)).over(within).fill_null(False)
    runs = (
        sightings.join(told.filter(~is_steady).select(within), on=within, how="semi")
        .sort(
            [*within, "export_at", "content_hash", "layout"], descending=[*([False] * len(within)), False, True, False]
        )
        .with_columns(_run=(~is_same).cum_sum().over(within))
        .group_by([*within, "_run"], maintain_order=True)
        .agg(pl.col("content_hash", "export_at", "layout").first(), last_export_at=pl.col("export_at").last())
        .group_by(within, maintain_order=True)
        .last()
    )
    return pl.concat([told.filter(is_steady).select(names), runs.select(names)])


def unretracted(sightings: pl.DataFrame, retractions: pl.DataFrame) -> pl.DataFrame:
    """The sightings that no retraction takes back.

    A retraction takes back the whole run of equal content in which its target was seen, so that an export that says
    the same again does not bring it back; a run that begins after something else was said is a version of its own.
    The arrival order of exports changes nothing. A retraction whose target is not there does nothing.

    Args:
        sightings: `district_id`, `natural_key`, `content_hash`, `export_at`, and whatever else.
        retractions: `district_id`, `target_key`, `target_hash`, `target_at` of those that stand.
    """
    fact = ["district_id", "natural_key"]
    version = [*fact, "content_hash", "export_at"]
    targets = retractions.select(
        "district_id", natural_key="target_key", content_hash="target_hash", export_at="target_at"
    )
    is_touched = is_among(sightings, targets, fact)
    is_same = (pl.col("content_hash") == pl.col("content_hash").shift(1)).over(fact).fill_null(value=False)
    runs = (
        sightings.filter(is_touched)
        .sort([*fact, "export_at", "content_hash"], descending=[False, False, False, True])
        .with_columns(_run=(~is_same).cum_sum().over(fact))
    )
    taken = runs.join(targets, on=version, how="semi").select(*fact, "_run").unique()
    kept = runs.join(taken, on=[*fact, "_run"], how="anti").drop("_run")
    return pl.concat([sightings.filter(~is_touched), kept])


def latest_stated(events: pl.DataFrame) -> pl.DataFrame:
    """Of facts that people state one by one, the last version of each: one row per `district_id` and `natural_key`.

    Nothing but their events shows them, so no sighting is asked.
    """
    fact = ["district_id", "natural_key"]
    is_again = events.select(pl.struct(fact).is_duplicated()).to_series()
    again = events.filter(is_again).sort([*fact, "export_at", "content_hash"], descending=[False, False, False, True])
    return pl.concat([events.filter(~is_again), again.unique(fact, keep="last", maintain_order=True)])
