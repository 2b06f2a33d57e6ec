"""Which layout a header is and how it differs from the one we know: from header and file name, never from cells."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from schemas.exports import Binding, Block, Column, Layout, Slot, Strand

LONGEST_SHOWN = 80
"""Characters of a header name in messages; headers come from files nobody has checked."""
NAMES_SHOWN = 5

Aliases = Mapping[str, Mapping[str, Sequence[str]]]


@dataclass(frozen=True)
class Recognised:
    """The header is a layout we know."""

    binding: Binding


@dataclass(frozen=True)
class Held:
    """The file waits for a person. Carries header names only."""

    rule: str
    """unknown_layout, missing_column, renamed_column or ambiguous_layout."""
    message: str
    nearest: str | None = None
    missing: tuple[str, ...] = ()
    likely: tuple[tuple[str, str], ...] = ()
    """(our header expected, header in the file it probably is)."""


@dataclass(frozen=True)
class Unplaced:
    """A column that the layout reads and the header has not."""

    name: str
    """Our column."""
    column: Column
    expected: str
    """What the header is called, as far as the layout can say."""
    headers: tuple[str, ...]
    """Every name the layout knows it by."""
    needed: bool
    within: tuple[int, int] | None = None
    """Positions of the block it belongs to."""


@dataclass
class Fit:
    """One layout laid over the header."""

    layout: Layout
    positions: dict[str, int] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=list)
    strands: tuple[dict[str, int], ...] = ()
    known: set[int] = field(default_factory=set)
    needed: int = 0
    lacking: list[tuple[str, Column | None]] = field(default_factory=list)
    """Our column and what the layout says of it, for each required one that is absent."""
    optional: list[str] = field(default_factory=list)
    renamed: list[tuple[str, str]] = field(default_factory=list)
    forbidden: tuple[str, ...] = ()
    unplaced: list[Unplaced] = field(default_factory=list)
    """Every column without a header, needed or not; those of aliases included."""

    @property
    def matches(self) -> bool:
        return not self.lacking and not self.forbidden

    def closeness(self, named: int) -> float:
        present = (self.needed - len(self.lacking)) / max(1, self.needed)
        return present * len(self.known) / max(1, named + len(self.lacking))


def recognise(
    header: Sequence[str],
    file_name: str,
    layouts: Mapping[str, Layout],
    aliases: Aliases = {},  # noqa: B006 - never changed
) -> Recognised | Held:
    """The layout of a header, or why the file is held.

    Of several layouts that match, the one that knows the most headers wins, then the one whose file names
    match; a tie left after that is held. ``aliases`` are a district's own headers: layout, column, headers.
    """
    names = tuple(clean(name) for name in header)
    fits = [lay_over(layout, names, aliases.get(layout.id, {})) for layout in layouts.values()]
    matching = [fit for fit in fits if fit.matches]
    if not matching:
        return _held(fits, names)
    most = max(len(fit.known) for fit in matching)
    best = [fit for fit in matching if len(fit.known) == most]
    if len(best) > 1:
        best = [fit for fit in best if named_like(fit.layout, file_name)] or best
    if len(best) > 1:
        ids = sorted(fit.layout.id for fit in best)
        return Held(
            "ambiguous_layout",
            f"The header fits {_listed(ids)} equally well. Name the file as the vendor does, or keep the vendor's "
            "own columns, so that one of them fits better.",
            nearest=ids[0],
        )
    return Recognised(_binding(best[0], names))


@lru_cache(maxsize=100_000)
def clean(name: str) -> str:
    """A header name on one line, without control characters, its inner blanks collapsed."""
    printable = "".join(letter if letter.isprintable() else " " for letter in name.replace("\ufeff", ""))
    return " ".join(printable.split())


def shown(name: str) -> str:
    """A header name that may stand in a message: cleaned, at most 80 characters."""
    return clean(name)[:LONGEST_SHOWN]


def lay_over(layout: Layout, names: tuple[str, ...], aliases: Mapping[str, Sequence[str]]) -> Fit:
    """How a layout, with the aliases of its columns, lies over the cleaned names of a header."""
    fit = Fit(layout)
    first = _first_positions(names)
    folded = _first_positions(tuple(name.casefold() for name in names))
    for name, column in layout.columns.items():
        _place(fit, fit.positions, name, column, aliases.get(name, ()), first, folded)
    fit.strands = _strand_positions(layout.strands, first, fit)
    for fact in layout.facts:
        slot_positions: dict[str, int] = {}
        for name, column in fact.columns.items():
            _place(fit, slot_positions, name, column, aliases.get(name, ()), first, folded)
        strands = _strand_positions(fact.strands, first, fit)
        fit.slots.append(Slot(fact=fact, positions=slot_positions, strands=strands))
    if layout.blocks:
        _place_blocks(fit, names, aliases)
    fit.known.update(_places(layout.also, names))
    fit.forbidden = tuple(names[at] for at in _places(layout.absent, names))
    return fit


def _first_positions(names: tuple[str, ...]) -> dict[str, int]:
    first: dict[str, int] = {}
    for at, name in enumerate(names):
        if name:
            first.setdefault(name, at)
    return first


def _place(
    fit: Fit,
    positions: dict[str, int],
    name: str,
    column: Column,
    extra: Sequence[str],
    first: Mapping[str, int],
    folded: Mapping[str, int],
) -> None:
    """Bind one column; what it is called today, then its aliases, then the same without regard to case."""
    if not column.headers:
        return
    headers = [clean(each) for each in (*column.headers, *extra)]
    # JSON Lines has no header: a column that no line has is a cell that is blank in every line.
    in_header = fit.layout.format == "table"
    scoping = fit.layout.scope and fit.layout.scope.column == name
    needed = (column.required and in_header) or column.header_required or scoping
    fit.needed += bool(needed)
    at = next((first[each] for each in headers if each in first), None)
    found = next((each for each in headers if each in first), None)
    if at is None:
        at = next((folded[each.casefold()] for each in headers if each.casefold() in folded), None)
        found = None
    if at is None:
        fit.unplaced.append(Unplaced(name, column, headers[0], tuple(headers), bool(needed)))
        if needed:
            fit.lacking.append((name, column))
        elif in_header:
            fit.optional.append(headers[0])
        return
    positions[name] = at
    fit.known.add(at)
    if found != headers[0]:
        spelled = next(each for each, where in first.items() if where == at)
        if (headers[0], spelled) not in fit.renamed:
            fit.renamed.append((headers[0], spelled))


def _strand_positions(strands: Sequence[Strand], first: Mapping[str, int], fit: Fit) -> tuple[dict[str, int], ...]:
    found = []
    for strand in strands:
        parts = {"name": strand.name, "score": strand.score, "standard_error": strand.standard_error}
        parts["label"] = strand.label
        places = {part: first[clean(each)] for part, each in parts.items() if each and clean(each) in first}
        fit.optional += [clean(each) for each in parts.values() if each and clean(each) not in first]
        fit.known |= set(places.values())
        found.append(places)
    return tuple(found)


def _place_blocks(fit: Fit, names: tuple[str, ...], aliases: Mapping[str, Sequence[str]]) -> None:
    """Bind every block by position: a name that repeats from block to block belongs to the block it stands in."""
    openings = [
        (at, block, match)
        for at, name in enumerate(names)
        for block in fit.layout.blocks
        if name and (match := re.search(block.opens, name))
    ]
    fit.needed += 1
    if not openings:
        fit.lacking.append((fit.layout.blocks[0].opens, None))
        return
    starts = sorted({at for at, _, _ in openings})
    ends = dict(zip(starts, [*starts[1:], len(names)], strict=True))
    for at, block, match in openings:
        fit.slots.append(_block_slot(fit, block, names, (at, ends[at]), match, aliases))


def _block_slot(
    fit: Fit,
    block: Block,
    names: tuple[str, ...],
    within: tuple[int, int],
    match: re.Match[str],
    aliases: Mapping[str, Sequence[str]],
) -> Slot:
    at, end = within
    positions: dict[str, int] = {}
    captured: dict[str, str] = {}
    span = range(at, end)
    inside = {name: place for place, name in reversed([(place, names[place]) for place in span]) if name}
    for name, column in block.columns.items():
        place: int | None = None
        if column.capture:
            captured[name] = (match.groupdict().get(column.capture) or "").strip()
            continue
        if column.position:
            place = at
        elif column.pattern:
            place = next((each for each in span if names[each] and re.search(column.pattern, names[each])), None)
        if place is None:
            headers = (*column.headers, *aliases.get(name, ()))
            place = next((inside[clean(each)] for each in headers if clean(each) in inside), None)
        needed = column.required or column.header_required
        fit.needed += needed
        if place is not None:
            positions[name] = place
            continue
        wanted = column.headers[0] if column.headers else column.pattern or name
        plain = tuple(clean(each) for each in column.headers) or (re.sub(r"[\\^$]", "", wanted),)
        fit.unplaced.append(Unplaced(name, column, shown(plain[0]), plain, needed, within))
        if needed:
            fit.lacking.append((f"{shown(wanted)} (after {shown(names[at])})", None))
    fit.known |= {at, *positions.values()}
    return Slot(
        fact=block, captured=captured, positions=positions, strands=_strand_positions(block.strands, inside, fit)
    )


def _places(entries: tuple[str, ...], names: tuple[str, ...]) -> list[int]:
    """Where a header is one of these entries, or fits a pattern among them."""
    plain, patterns = _matchers(entries)
    return [
        at for at, name in enumerate(names) if name and (name in plain or any(each.search(name) for each in patterns))
    ]


@lru_cache
def _matchers(entries: tuple[str, ...]) -> tuple[frozenset[str], tuple[re.Pattern[str], ...]]:
    patterns = tuple(re.compile(each.removeprefix("re:")) for each in entries if each.startswith("re:"))
    return frozenset(clean(each) for each in entries if not each.startswith("re:")), patterns


def named_like(layout: Layout, file_name: str) -> bool:
    return any(re.search(pattern, file_name, re.IGNORECASE) for pattern in layout.file_names)


def _binding(fit: Fit, names: tuple[str, ...]) -> Binding:
    read = {names[at] for at in fit.positions.values()}
    return Binding(
        layout=fit.layout,
        header=tuple(shown(name) for name in names),
        positions=fit.positions,
        slots=tuple(fit.slots),
        strands=fit.strands,
        renamed=tuple((today, shown(found)) for today, found in fit.renamed),
        new=tuple(shown(name) for name in unread(fit, names).values()),
        missing=tuple(dict.fromkeys(fit.optional)),
        repeated=tuple(shown(name) for name in dict.fromkeys(names) if name in read and names.count(name) > 1),
    )


def unread(fit: Fit, names: tuple[str, ...]) -> dict[int, str]:
    """Named headers the layout does not know; a repeated name is known if one of its places is."""
    known = {names[at] for at in fit.known}
    return {at: name for at, name in enumerate(names) if name and name not in known}


def _held(fits: Sequence[Fit], names: tuple[str, ...]) -> Held:
    named = sum(1 for name in names if name)
    nearest = max(fits, key=lambda fit: fit.closeness(named), default=None)
    if nearest is None or not nearest.known:
        return Held("unknown_layout", "No layout knows any of this header. Describe it in a layout of its own.")
    layout = nearest.layout.id
    missing = tuple(_expected(*each) for each in nearest.lacking)
    if nearest.forbidden:
        return Held(
            "unknown_layout",
            f"The header is near {layout}, but that layout never has {_listed(nearest.forbidden)}. "
            "It is another export: describe it in a layout of its own.",
            nearest=layout,
            missing=missing,
        )
    if len(nearest.lacking) * 2 > nearest.needed or len(nearest.known) < 2:
        return Held(
            "unknown_layout",
            f"No layout fits the header. The nearest is {layout}, which also needs {_listed(missing)}. "
            "If it is another export, describe it in a layout of its own.",
            nearest=layout,
            missing=missing,
        )
    likely = _likely(nearest, names)
    told = [_told(nearest, each, dict(likely)) for each in nearest.lacking[:NAMES_SHOWN]]
    if len(nearest.lacking) > NAMES_SHOWN:
        told.append(f"{len(nearest.lacking) - NAMES_SHOWN} more columns are missing.")
    if likely:
        column = next(name for name, each in nearest.lacking if each and _expected(name, each) == likely[0][0])
        told.append(
            f"If the vendor renamed it, add the new header to {layout}.{column} in the district's aliases; "
            "if not, export the file again."
        )
        return Held("renamed_column", " ".join(told), layout, missing, likely)
    told.append("Export the file again with these columns, or add their headers to the district's aliases.")
    return Held("missing_column", " ".join(told), layout, missing)


def _expected(name: str, column: Column | None) -> str:
    return shown(column.headers[0] if column else name)


def _told(fit: Fit, each: tuple[str, Column | None], likely: Mapping[str, str]) -> str:
    name, column = each
    expected = _expected(name, column)
    holds = f", which holds {name}" if column else ""
    told = f'{fit.layout.id}: the file has no column "{expected}"{holds}.'
    return f'{told} It is probably "{likely[expected]}" now.' if expected in likely else told


def _likely(fit: Fit, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """For each missing header the unknown one that looks like it, else the one that stands in its place."""
    unknown = unread(fit, names)
    found: list[tuple[str, str]] = []
    for name, column in fit.lacking:
        if column is None:
            continue
        at = _similar(column, unknown)
        if at is None:
            at = in_place(fit, name, unknown)
        if at is not None:
            found.append((_expected(name, column), shown(unknown.pop(at))))
    return tuple(found)


def _similar(column: Column, unknown: Mapping[int, str]) -> int | None:
    """The unknown header most like one of the column's, at least 70 % alike without case and punctuation."""

    def bare(name: str) -> str:
        return re.sub(r"[\W_]+", "", shown(name).casefold())

    scored = [
        (difflib.SequenceMatcher(None, bare(expected), bare(name)).ratio(), -at)
        for at, name in unknown.items()
        for expected in column.headers
    ]
    best = max(scored, default=(0.0, 0))
    return -best[1] if best[0] >= 0.7 else None


def in_place(fit: Fit, name: str, unknown: Mapping[int, str]) -> int | None:
    """The unknown header between the columns the layout lists before and after, if it is the only candidate."""
    order = list(fit.layout.columns)
    here = order.index(name) if name in order else -1
    if here < 0:
        return None
    before = next((fit.positions[each] for each in reversed(order[:here]) if each in fit.positions), None)
    after = next((fit.positions[each] for each in order[here + 1 :] if each in fit.positions), None)
    following = None if before is None else before + 1
    preceding = None if after is None else after - 1
    candidates = [at for at in (following, preceding) if at is not None and at in unknown]
    alone = following == preceding or len(unknown) == 1
    return candidates[0] if candidates and alone else None


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(f'"{shown(name)}"' for name in names[:NAMES_SHOWN])
    return listed if len(names) <= NAMES_SHOWN else f"{listed} and {len(names) - NAMES_SHOWN} more"
