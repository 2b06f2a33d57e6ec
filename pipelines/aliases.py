"""A file nobody has loaded yet: which layout it is, what its renamed columns are called now, and how it would load.

Names of headers and counts only; no cell is shown, and nothing is written but an alias file that was asked for.
"""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.loading import read_aliases
from pipelines.reading import (
    Aliases,
    HeldFile,
    KnownFile,
    export_time,
    know,
    parse_file,
    refuse_other_year,
    refuse_strangers,
)
from schemas.contract import columns
from schemas.events import Sighting
from schemas.exports import Column, Layout, layouts
from schemas.policy import DistrictPolicy
from transforms.batches import FileFacts, Stamp, name_facts, park, settle
from transforms.cells import Reading, latest_day
from transforms.exports import WORKBOOKS, Parsed, unhashed
from transforms.identity import best_match
from transforms.proposals import (
    MOST_COLUMNS,
    VALUES_FIT,
    Candidate,
    Gap,
    Proposal,
    judge,
    nearest,
    propose,
)
from transforms.recognition import Held, Recognised, clean, shown
from warehouse.home import Home
from warehouse.landing import Landed, Refused, open_landed
from warehouse.tabular import UnreadableExport, read_header, read_table
from warehouse.vault import Vault

NO_DISTRICT = "unknown"


class AliasRefused(Exception):
    """An alias that would misread a file; says which column, and counts, never a cell."""


@dataclass(frozen=True)
class Asked:
    """What a person said beside the name of the file."""

    district: str | None = None
    layout: str | None = None
    """The layout meant, where several are as near."""
    named: tuple[tuple[str, str], ...] = ()
    """(our column, header of the file) for what nobody can tell from the names."""


@dataclass(frozen=True)
class Looked:
    """One file, member of an archive or sheet, and what is known of it."""

    landed: Landed
    told: dict[str, Any]
    """For people and scripts: names of headers and counts."""
    proposal: Proposal | None = None
    aliases: Mapping[str, Sequence[str]] | None = None
    """What the alias file of the layout would say, with what it says today; None where there is nothing to add."""


def layouts_of(home: Home, file: Path, asked: Asked = Asked()) -> list[dict[str, Any]]:
    """Which layout a file has and how its header differs, one entry for each member of an archive."""
    return look_at(home, file, asked)[1]


def look_at(home: Home, file: Path, asked: Asked) -> tuple[list[Looked], list[dict[str, Any]]]:
    """Every table of a file; and what is told of each, and of what was not opened.

    Raises:
        AliasRefused: a person named a layout, column or header that there is not.
        UnreadablePolicy: an alias file or policy of the home cannot be used.
    """
    district = asked.district or _district_of(home, file)
    landed, refused = open_landed(file, file.name, district or NO_DISTRICT)
    aliases = read_aliases(home)
    looked = [_look(home, each, aliases, asked, district) for each in landed]
    return looked, [*(each.told for each in looked), *(_unopened(each) for each in refused)]


def write_aliases(home: Home, looked: Sequence[Looked]) -> list[str]:
    """Write what was proposed to the alias files of the home; what they said before stays, comments included.

    Raises:
        AliasRefused: a column that is needed has no header yet, a header would be read as two columns, values are
            not of their column's type, or no row could be read.
    """
    for each in looked:
        if each.proposal is not None:
            _refuse_unsound(each)
    written = []
    for each in looked:
        if each.proposal is not None and each.aliases:
            path = _alias_path(home, each.proposal.layout)
            _write(path, _merged(read_aliases(home).get(each.proposal.layout.id, {}), each.aliases), each.proposal)
            written.append(path.relative_to(home.root).as_posix())
    return list(dict.fromkeys(written))


def alias_toml(aliases: Mapping[str, Sequence[str]]) -> str:
    """The text of an alias file."""
    lines = [f"{name} = {json.dumps(list(headers), ensure_ascii=False)}" for name, headers in aliases.items()]
    return "\n".join(["[columns]", *lines]) + "\n"


def _look(home: Home, landed: Landed, aliases: Aliases, asked: Asked, district: str | None) -> Looked:
    known = know(landed, aliases)
    policy = _policy(home, district)
    if isinstance(known.recognised, Held) and known.recognised.rule == "unreadable":
        return Looked(landed, _entry(landed.name, rule="unreadable", message=known.recognised.message))
    try:
        header = read_header(landed.read(), landed.name)
        if len(header) > MOST_COLUMNS:
            raise UnreadableExport(
                f"{landed.name}: the header has {len(header):,} columns, and no export has more than"
                f" {MOST_COLUMNS:,}. Export the file again, without empty columns."
            )
        proposal = _proposal(landed, header, known, aliases, asked, policy)
    except UnreadableExport as error:
        return Looked(landed, _entry(landed.name, rule="unreadable", message=str(error)))
    told = _told(landed.name, known, proposal)
    if proposal is None or not proposal.is_near:
        return Looked(landed, told, proposal)
    new = proposal.aliases
    mine = _merged(aliases.get(proposal.layout.id, {}), new)
    if new:
        told |= {"alias_file": f"policy/aliases/{proposal.layout.id}.toml", "alias_toml": alias_toml(mine)}
    tried = know(landed, {**aliases, proposal.layout.id: mine}) if new else known
    if isinstance(tried.recognised, Recognised):
        told["trial"] = trial(home, tried, district, policy)
    return Looked(landed, told, proposal, mine if new else None)


def _proposal(
    landed: Landed,
    header: Sequence[str],
    known: KnownFile,
    aliases: Aliases,
    asked: Asked,
    policy: DistrictPolicy,
) -> Proposal | None:
    meant = asked.layout or (known.layout.id if known.layout else None)
    if meant is not None and meant not in layouts():
        raise AliasRefused(f"No layout is called {meant}. `tierline layouts` lists them.")
    compared = layouts() if meant is None else {meant: layouts()[meant]}
    near = nearest(header, landed.name, compared, aliases)
    if not near.fits:
        return None
    layout = near.fits[0].layout
    rows = read_table(landed.read(), landed.name, near.positions).rows
    reading = Reading(
        latest=latest_day(export_time(known, policy).date()),
        time_zone=policy.time_zone,
        serials=any(part.endswith(WORKBOOKS) for part in landed.name.lower().split("!")),
        missing=layout.missing,
    )
    found = propose(near, landed.name, rows, reading)
    if asked.layout:
        found = replace(found, tied=())
    return _with_named(found, asked.named, near.names, rows, reading)


def _with_named(
    found: Proposal,
    named: Sequence[tuple[str, str]],
    names: tuple[str, ...],
    rows: pl.DataFrame,
    reading: Reading,
) -> Proposal:
    """What a person named goes before what the names say."""
    gaps = list(found.gaps)
    for name, header in named:
        at = next((number for number, gap in enumerate(gaps) if name in gap.columns or name == gap.expected), None)
        if at is None:
            lacking = ", ".join(dict.fromkeys(column for gap in gaps for column in gap.columns)) or "none"
            raise AliasRefused(f"{found.layout.id} lacks no column {shown(name)} here. Those it lacks: {lacking}.")
        if clean(header) not in names:
            raise AliasRefused(f'The file has no column "{shown(header)}". Write it as the file does.')
        position = names.index(clean(header))
        if f"c{position}" not in rows.columns:
            raise AliasRefused(
                f'"{shown(header)}" is read by {found.layout.id} already. A header that is two columns would be read'
                " twice: name another, or none."
            )
        column = _column(found.layout, gaps[at].columns[0])
        gaps[at] = Gap(
            gaps[at].expected,
            gaps[at].columns,
            gaps[at].needed,
            gaps[at].candidates,
            judge(clean(header), position, column, rows, reading),
        )
    return replace(found, gaps=tuple(gaps))


def _column(layout: Layout, name: str) -> Column:
    everywhere = (layout.columns, *(fact.columns for fact in (*layout.facts, *layout.blocks)))
    return next(columns[name] for columns in everywhere if name in columns)


def _refuse_unsound(each: Looked) -> None:
    proposal = each.proposal
    assert proposal is not None
    ours = f"{each.landed.name}: "
    if not proposal.is_near:
        raise AliasRefused(f"{ours}{each.told['message']}")
    if proposal.tied:
        raise AliasRefused(
            f"{ours}{' and '.join(proposal.tied)} are equally near. Say which it is: --layout {proposal.tied[0]}"
        )
    for gap in proposal.gaps:
        if gap.needed and gap.chosen is None:
            raise AliasRefused(ours + _unsettled(gap))
        if gap.chosen and gap.chosen.fit_share is not None and gap.chosen.fit_share < VALUES_FIT:
            values, fits = gap.chosen.values or 0, gap.chosen.values_fit or 0
            kind = _column(proposal.layout, gap.columns[0]).type
            raise AliasRefused(
                f'{ours}"{gap.chosen.header}" cannot be {gap.columns[0]}: {values - fits:,} of {values:,} values are'
                f" no {kind}. Nothing was written."
            )
    _refuse_two_columns(ours, proposal, each.aliases or {})
    ledger = each.told.get("trial") or {}
    if each.aliases and ledger.get("data_rows") and not (ledger.get("parsed") or ledger.get("out_of_scope")):
        raise AliasRefused(f"{ours}with these headers none of {ledger['data_rows']:,} rows could be read.")


def _unsettled(gap: Gap) -> str:
    column = gap.columns[0]
    if not gap.candidates:
        return f'no header is near "{gap.expected}", which holds {column}. Name it: --alias {column}="HEADER"'
    alike = ", ".join(f'"{each.header}"' for each in gap.candidates[:3])
    return f'{column} may be {alike}. Say which it is: --alias {column}="{gap.candidates[0].header}"'


def _refuse_two_columns(ours: str, proposal: Proposal, aliases: Mapping[str, Sequence[str]]) -> None:
    """A header that is read as two things is a mistake; the layout's own columns of one header are not."""
    read_as = {gap.chosen.header: gap.expected for gap in proposal.gaps if gap.chosen}
    chosen = [gap.chosen.header for gap in proposal.gaps if gap.chosen]
    twice = sorted({name for name in chosen if chosen.count(name) > 1})
    if twice:
        raise AliasRefused(f'{ours}"{twice[0]}" would be read as two columns. Name another header for one of them.')
    for gap in proposal.gaps:
        mine = {header for name in gap.columns for header in aliases.get(name, ())}
        others = {header for name, headers in aliases.items() if name not in gap.columns for header in headers}
        both = sorted(mine & others & set(read_as))
        if both:
            raise AliasRefused(
                f'{ours}"{both[0]}" is an alias of another column already. Remove it there first:'
                f" policy/aliases/{proposal.layout.id}.toml."
            )


def trial(home: Home, file: KnownFile, district: str | None, policy: DistrictPolicy) -> dict[str, Any]:
    """The ledger of a file as an empty log would have it; nothing is written, no key is made.

    Rows of students whom the district's roster does not know are parked, as a run would do.
    """
    assert isinstance(file.recognised, Recognised)
    try:
        binding, parsed, damaged, records = parse_file(file, district or NO_DISTRICT, policy)
        layout = binding.layout
        refuse_other_year(parsed, records, policy)
        read = _provisional(parsed, damaged)
        match: dict[str, Any] = {}
        pairs = _in_roster(home, district, parsed, layout)
        if pairs is not None:
            column, rate, found = pairs
            refuse_strangers(column, rate, records, policy)
            match = {"match_column": column, "match_rate": round(rate, 4)}
            read = park(read, found)
    except HeldFile as held:
        return {"status": "held", "held_rule": held.rule, "message": str(held), "data_rows": held.data_rows}
    stamp = Stamp(
        batch_id=file.batch_id,
        attempt=1,
        district_id=district or NO_DISTRICT,
        export_at=export_time(file, policy),
        layout=layout.id,
        secret=secrets.token_bytes(32),
        year="2000",
        unhashed=tuple(sorted(unhashed(layout))),
    )
    facts = name_facts(read, stamp)
    names = ("natural_key", "content_hash", "export_at")
    unseen = pl.DataFrame(schema={name: columns(Sighting)[name] for name in names})
    changes = settle(read, facts, dict.fromkeys(facts, unseen), stamp)
    broken = pl.concat([parsed.rejected.select("column", "rule"), damaged.select("column", "rule")])
    counted = broken.group_by("column", "rule").len("cells").sort("column", "rule", nulls_last=True)
    return {
        "status": "would load",
        "data_rows": read.outcomes.height,
        **{name: changes.rows.get(name, 0) for name in ("parsed", "rejected", "out_of_scope", "parked")},
        "duplicate_in_file": changes.rows.get("duplicate_in_file", 0),
        "facts": {name: changes.facts[name] for name in ("appended", "empty", "rejected")},
        "rejected_by": counted.to_dicts(),
        **match,
    }


def _provisional(parsed: Parsed, damaged: pl.DataFrame) -> FileFacts:
    """Facts under the file's own ids in place of keys: they never leave this process."""
    own = pl.concat_str("own_id_type", "own_id", separator="\0")
    facts = {family: rows.with_columns(subject_key=own) for family, rows in parsed.facts.items()}
    lost = damaged.select("source_line", outcome=pl.lit("rejected")).unique()
    slots = parsed.rejected.filter(pl.col("slot").is_not_null()).select("source_line", "slot").unique()
    return FileFacts(facts, pl.concat([parsed.outcomes, lost]), parsed.slots, slots)


def _in_roster(
    home: Home, district: str | None, parsed: Parsed, layout: Layout
) -> tuple[str | None, float, pl.Series] | None:
    """Id column, share of the students in the district's roster, and those; None where nobody is looked for."""
    if district is None or layout.kind == "roster" or not (home.vault / "vault.sqlite").exists():
        return None
    ids = parsed.identifiers.select(
        "id_type", "id", subject_key=pl.concat_str("own_id_type", "own_id", separator="\0"), id_column="column"
    )
    vault = Vault(home.vault)
    try:
        roster = vault.roster_ids(district)
    finally:
        vault.close()
    if ids.is_empty() or roster.is_empty():
        return None
    column, _, rate, pairs = best_match(ids, roster)
    return column, rate, pairs["subject_key"]


def _district_of(home: Home, file: Path) -> str | None:
    """The district in whose landing folder a file lies, else the only one there is."""
    try:
        return file.absolute().relative_to(home.landing).parts[0]
    except (ValueError, IndexError):
        known = home.districts()
        return known[0] if len(known) == 1 else None


def _policy(home: Home, district: str | None) -> DistrictPolicy:
    """The district's policy; without a district, days as UTC has them."""
    if district is not None and (home.policies / f"{district}.toml").exists():
        return home.policy(district)
    return DistrictPolicy(time_zone="Etc/UTC")


def _merged(before: Mapping[str, Sequence[str]], new: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    names = dict.fromkeys((*before, *new))
    return {name: tuple(dict.fromkeys((*before.get(name, ()), *new.get(name, ())))) for name in names}


def _alias_path(home: Home, layout: Layout) -> Path:
    return home.policies / "aliases" / f"{layout.id}.toml"


def _write(path: Path, aliases: Mapping[str, Sequence[str]], proposal: Proposal) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text("utf-8") if path.exists() else f"# Headers that {proposal.layout.title} has here.\n"
    remarks = [line for line in before.splitlines() if line.lstrip().startswith("#")]
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text("\n".join([*remarks, alias_toml(aliases)]), "utf-8")
    part.replace(path)


# What is told


def _entry(file: str, **found: Any) -> dict[str, Any]:
    blank: Mapping[str, Any] = {
        "layout": None,
        "title": None,
        "rule": None,
        "message": None,
        "nearest": None,
        "score": None,
        "tied": [],
        "matched": [],
        "renamed": [],
        "likely": [],
        "missing": [],
        "new": [],
        "gaps": [],
        "alias_file": None,
        "alias_toml": None,
        "trial": None,
    }
    return {"file": file, **blank, **found}


def _told(file: str, known: KnownFile, proposal: Proposal | None) -> dict[str, Any]:
    about: dict[str, Any] = {}
    if proposal is not None:
        about = {"nearest": proposal.layout.id, "score": proposal.score, "tied": list(proposal.tied)}
        if not proposal.is_near:
            # A file without a header has a row of cells in its place: of what is near to nothing no name is shown.
            return _entry(file, rule="unknown_layout", message=_far(proposal), **about)
        about |= {
            "matched": [{"column": name, "found": shown(header)} for name, header in proposal.matched],
            "new": list(proposal.new),
            "gaps": [_gap(each) for each in proposal.gaps],
            "likely": [
                {"expected": each.expected, "found": each.chosen.header} for each in proposal.gaps if each.chosen
            ],
        }
    found = known.recognised
    if isinstance(found, Held):
        return _entry(
            file,
            rule=found.rule,
            message=found.message,
            missing=[gap.expected for gap in proposal.gaps if gap.needed] if proposal else [],
            **about,
        )
    binding = found.binding
    return _entry(
        file,
        layout=binding.layout.id,
        title=binding.layout.title,
        renamed=[{"expected": today, "found": header} for today, header in binding.renamed],
        missing=[clean(name) for name in binding.missing],
        **{**about, "nearest": None},
    )


def _far(proposal: Proposal) -> str:
    return (
        f"No layout is near. The nearest is {proposal.layout.id}, at {proposal.score:.2f} of 1. If it is an export"
        " that Tierline does not know, describe it in a layout of its own: docs/add-a-layout.md."
    )


def _gap(gap: Gap) -> dict[str, Any]:
    return {
        "expected": gap.expected,
        "columns": list(gap.columns),
        "is_needed": gap.needed,
        "chosen": gap.chosen.header if gap.chosen else None,
        "candidates": [_candidate(each) for each in gap.candidates],
    }


def _candidate(each: Candidate) -> dict[str, Any]:
    return {
        "header": each.header,
        "name_likeness": round(each.name_likeness, 2),
        "values": each.values,
        "values_fit": each.values_fit,
        "is_in_place": each.is_in_place,
    }


def _unopened(refused: Refused) -> dict[str, Any]:
    return _entry(refused.name, rule=refused.rule, message=refused.message)
