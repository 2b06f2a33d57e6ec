"""Policy and alias files to events, and events back to the policy of a day: what a window was judged by stays told."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime

import polars as pl

from pipelines.statements import Statement, record
from schemas.events import ALL_YEARS
from schemas.policy import DistrictPolicy, HomePolicy, UnreadablePolicy
from transforms.policies import NO_CALENDAR, History, closed_differs, history, last_closed
from transforms.versions import standing
from warehouse.log import POLICY, Log, exports, loaded
from warehouse.vault import Vault

ALIAS = "LayoutAliasAdded"
LINKS = ("DistrictLinksSet", "")
"""The one such fact of a district, and what tells it from others of its kind."""
NO_ALIASES = "{}"
"""Document of a layout whose columns no longer have headers of their own here."""
Aliases = Mapping[str, Mapping[str, Sequence[str]]]


def histories(log: Log, policies: Mapping[str, DistrictPolicy], ledger: pl.DataFrame) -> dict[str, History]:
    """What each district had decided by the time of ``ledger``.

    A district without any policy on record has the one given here, from the first day on.
    """
    current = _current(log, sorted(policies), ledger)
    told = {district: history(current.filter(pl.col("district_id") == district)) for district in policies}
    return {
        district: told[district] or History([(policy.valid_from, policy)], policy.calendars)
        for district, policy in policies.items()
    }


def _current(log: Log, districts: Sequence[str], ledger: pl.DataFrame) -> pl.DataFrame:
    readings = loaded(ledger).filter(pl.col("layout") == POLICY)
    fact = ["district_id", "natural_key"]
    stands = standing(log.sighted("rules", districts, readings), fact)
    return (
        log.events("rules", districts, readings)
        .join(stands.select(*fact, "content_hash"), on=[*fact, "content_hash"], how="semi")
        .unique([*fact, "content_hash"])
        .sort(fact)
        .collect()
    )


def record_policy(
    log: Log,
    vault: Vault,
    secret: bytes,
    district_id: str,
    policy: DistrictPolicy,
    aliases: Aliases,
    agency: HomePolicy,
    ledger: pl.DataFrame,
    now: Callable[[], datetime],
) -> int:
    """Append what the policy and alias files say and the log does not: how many facts changed.

    The district's lease is held.

    Raises:
        UnreadablePolicy: the file would change what a closed window was judged by without saying that it means to,
            or for the reason of an earlier such change, or is older than the policy on record.
    """
    current = _current(log, [district_id], ledger)
    before = history(current)
    changed = _changed(current, before, policy, aliases, agency)
    touched = None
    if before is not None:
        touched = _touched(district_id, before, policy, changed, ledger, now().astimezone(policy.zone).date())
    if touched is not None:
        _refuse(district_id, touched, policy, log, ledger)
    if not changed:
        return 0
    earlier = ledger.filter(pl.col("layout") == POLICY).height  # told apart from the same file set before another
    text = "\0".join([district_id, POLICY, str(earlier), *(f"{key}{document}" for key, document in changed.items())])
    is_retroactive = touched is not None
    statement = Statement(
        POLICY,
        f"policy/{district_id}.toml",
        "rules",
        _rows(changed, policy, is_retroactive=is_retroactive),
        note=policy.reason if is_retroactive else None,
    )
    record(log, vault, secret, district_id, hashlib.sha256(text.encode()).hexdigest(), statement, ledger, now)
    return len(changed)


def aliases_on_record(log: Log, district_id: str, layout: str, ledger: pl.DataFrame) -> list[dict[str, list[str]]]:
    """Every set of headers that a layout's columns ever had in this district, by column."""
    readings = loaded(ledger).filter(pl.col("layout") == POLICY)
    events = log.events("rules", [district_id], readings).filter(pl.col("aliased_layout") == layout)
    return [json.loads(document) for document in events.select("document").unique().collect()["document"].sort()]


def policy_news(
    log: Log, district_id: str, policy: DistrictPolicy, aliases: Aliases, agency: HomePolicy, ledger: pl.DataFrame
) -> str | None:
    """A name for what the policy and alias files say and the log does not.

    None where it says nothing new, or where no policy is on record yet: the first is set with the first file.
    """
    current = _current(log, [district_id], ledger)
    changed = _changed(current, history(current), policy, aliases, agency)
    if current.is_empty() or not changed:
        return None
    return hashlib.sha256(repr(sorted(changed.items())).encode()).hexdigest()


def _changed(
    current: pl.DataFrame, before: History | None, policy: DistrictPolicy, aliases: Aliases, agency: HomePolicy
) -> dict[tuple[str, str], str]:
    """What the files say that the log does not: document by event type and first day, school year or layout."""
    told = {
        (kind, valid_from.isoformat() if valid_from else year or layout or ""): document
        for kind, valid_from, year, layout, document in current.select(
            "event_type", "valid_from", "calendar_year", "aliased_layout", "document"
        ).rows()
    }
    said = {("PolicySet", policy.valid_from.isoformat()): policy.document}
    said |= {("CalendarSet", year): NO_CALENDAR for year in (before.calendars if before else ())}
    said |= {("CalendarSet", year): document for year, document in policy.calendars.items()}
    said |= {key: NO_ALIASES for key in told if key[0] == ALIAS}
    said |= {(ALIAS, layout): json.dumps(named, sort_keys=True) for layout, named in aliases.items() if named}
    if agency.cross_district_links or LINKS in told:
        said[LINKS] = agency.document
    return {key: document for key, document in said.items() if told.get(key) != document}


def _touched(
    district_id: str,
    before: History,
    policy: DistrictPolicy,
    changed: Mapping[tuple[str, str], str],
    ledger: pl.DataFrame,
    today: date,
) -> str | None:
    """What would change for windows that are closed, in words; None where nothing would."""
    since = before.policies[-1][0]
    if policy.valid_from < since:
        raise UnreadablePolicy(
            f"policy/{district_id}.toml: valid_from is before {since.isoformat()}, when the policy on record begins."
            " Give the day from which this policy is for, or that day to correct it."
        )
    years = exports(ledger)["school_years"].drop_nulls().str.split(";").explode().unique()
    tested = sorted(set(years.to_list()) - {ALL_YEARS})
    closed = last_closed(policy, tested, today)
    rules = ("PolicySet", policy.valid_from.isoformat()) in changed and before.latest.ruling != policy.ruling
    if closed and rules and policy.valid_from <= closed:
        return f"its rules changed for windows that are closed, the last on {closed.isoformat()}"
    moved = [year for kind, year in changed if kind == "CalendarSet" and year in tested]
    for year in moved:
        if closed_differs(before.calendars.get(year, NO_CALENDAR), changed[("CalendarSet", year)], policy, year, today):
            return f"windows or no_school_days of {year} changed for windows that are closed"
    return None


def _refuse(district_id: str, touched: str, policy: DistrictPolicy, log: Log, ledger: pl.DataFrame) -> None:
    """Let a change of closed windows pass only if the file means it, for a reason that no earlier change had.

    A reason of its own for each change: `retroactive = true` that somebody left in the file lets nothing pass.
    """
    undo = "Set valid_from to a later day, put windows and no_school_days back,"
    if not policy.retroactive:
        raise UnreadablePolicy(
            f"policy/{district_id}.toml: {touched}. {undo} or set retroactive = true with a reason to judge them anew."
        )
    readings = loaded(ledger).filter(pl.col("layout") == POLICY).select("batch_id", "attempt")
    given = log.notes.scan(district_id=[district_id]).join(readings.lazy(), on=["batch_id", "attempt"], how="semi")
    if _plain(policy.reason) in {_plain(text) for text in given.select("text").unique().collect()["text"]}:
        raise UnreadablePolicy(
            f"policy/{district_id}.toml: {touched}, and its reason is that of an earlier change. {undo} or give this"
            " change a reason of its own. Remove retroactive once the change is on record."
        )


def _plain(text: str | None) -> str:
    return " ".join((text or "").casefold().split())


def _rows(changed: Mapping[tuple[str, str], str], policy: DistrictPolicy, *, is_retroactive: bool) -> pl.DataFrame:
    kind, about = pl.col("event_type"), pl.Series([each for _, each in changed], dtype=pl.String)
    return pl.DataFrame({"event_type": [kind for kind, _ in changed]}).select(
        kind,
        valid_from=pl.when(kind == "PolicySet").then(pl.lit(policy.valid_from)),
        calendar_year=pl.when(kind == "CalendarSet").then(about),
        aliased_layout=pl.when(kind == ALIAS).then(about),
        document=pl.Series(list(changed.values())),
        is_retroactive=pl.when(kind.is_in(["PolicySet", "CalendarSet"])).then(pl.lit(is_retroactive)),
    )
