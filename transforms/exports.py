"""Vendor rows to facts, ids for the vault, and rejected rows: one select of typed cells, then filters."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from schemas.contract import columns
from schemas.events import EVENT_TYPES, FAMILIES, PAYLOADS
from schemas.exports import Binding, Block, Layout
from transforms import cells
from transforms.cells import CODES, RULES, Reading
from transforms.typed import Typed, among

LINE = {"source_line": pl.Int64()}
OWN = {"own_id_type": pl.String(), "own_id": pl.String()}
IDENTIFIERS = {**LINE, **OWN, "column": pl.String(), "id_type": pl.String(), "id": pl.String()}
NOTES = {**LINE, "slot": pl.Int32(), "text": pl.String()}
REJECTED = {**LINE, "slot": pl.Int32(), "column": pl.String(), "rule": pl.String()}
OUTCOMES = {**LINE, "outcome": pl.String()}
FINDINGS = {"rule": pl.String(), "rows": pl.Int64()}
WORKBOOKS = (".xlsx", ".xlsm", ".xls")
_FACT = {
    **LINE,
    "slot": pl.Int32(),
    "event_type": pl.String(),
    **OWN,
    "school_id": pl.String(),
    "school_year": pl.String(),
    "occurred_on": pl.Date(),
}


@dataclass(frozen=True)
class Context:
    """What a file's rows mean depends on, beside its layout."""

    district_id: str
    file_name: str
    export_at: datetime
    time_zone: str
    year_starts: tuple[int, int] = (7, 1)
    section_vocabulary: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parsed:
    """Everything one file says, and every row it does not say it in."""

    facts: dict[str, pl.DataFrame]
    """Per family: line, slot, event type, own id, school, year, day, then the payload of the family.

    A column named in ``persons`` holds the raw id of a person, to be replaced by a key.
    """
    identifiers: pl.DataFrame
    """Every id of every student row."""
    vault_rows: pl.DataFrame
    """Own id, class and the layout's vault columns, where there are any."""
    notes: pl.DataFrame
    persons: dict[str, str]
    """Payload column to the id type of the raw ids it holds."""
    rejected: pl.DataFrame
    """Every broken cell of what was rejected; slot is null where the whole row was."""
    unread: pl.DataFrame
    """Own id of every row that was rejected or has a rejected slot; null where the row names no student."""
    outcomes: pl.DataFrame
    """parsed, rejected or out_of_scope: every data row once."""
    slots: int
    facts_empty: int
    facts_rejected: int
    findings: pl.DataFrame
    named: pl.DataFrame
    """Every id of every row, whatever becomes of it; empty unless asked for."""


def wanted(binding: Binding) -> set[int]:
    """Header positions that are read."""
    found = set(binding.positions.values())
    for strand in binding.strands:
        found |= set(strand.values())
    for slot in binding.slots:
        found |= set(slot.positions.values())
        for strand in slot.strands:
            found |= set(strand.values())
    return found


def fact_schema(family: str) -> dict[str, pl.DataType]:
    """Columns and types of a family's parsed facts."""
    contract = columns(FAMILIES[family])
    return _FACT | {name: contract[name] for name in PAYLOADS[family]}


def unhashed(layout: Layout) -> frozenset[str]:
    """Payload columns that are stored and never compared."""
    ours = [layout.columns, *(fact.columns for fact in (*layout.facts, *layout.blocks))]
    return frozenset(name for each in ours for name, column in each.items() if not column.hashed)


def parse(rows: pl.DataFrame, binding: Binding, context: Context, *, name_all: bool = False) -> Parsed:
    """Read every row once; ``name_all`` also lists the ids of rows that are rejected or out of scope.

    A cell that cannot be understood rejects its row where it is a column of the row or the layout has one
    slot, else only its slot. Scope is decided first: a broken cell in another subject's row is out of
    scope. Blank student ids reject a row that means a student.
    """
    return _Parse(rows, binding, context).parsed(name_all=name_all)


def without(parsed: Parsed, lines: pl.DataFrame) -> Parsed:
    """What a file says without the rows of erased students: they are of the outcome `erased`, and nothing else is kept.

    Args:
        parsed: The file.
        lines: `source_line` of these rows.
    """

    def left(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.join(lines, on="source_line", how="anti", maintain_order="left")

    is_erased = pl.col("source_line").is_in(lines["source_line"].implode())
    return replace(
        parsed,
        facts={family: left(rows) for family, rows in parsed.facts.items()},
        identifiers=left(parsed.identifiers),
        vault_rows=left(parsed.vault_rows),
        notes=left(parsed.notes),
        rejected=left(parsed.rejected),
        unread=left(parsed.unread),
        outcomes=parsed.outcomes.with_columns(outcome=pl.when(is_erased).then(pl.lit("erased")).otherwise("outcome")),
    )


class _Parse:
    """One file being read."""

    def __init__(self, rows: pl.DataFrame, binding: Binding, context: Context) -> None:
        self.binding = binding
        self.layout = binding.layout
        self.context = context
        reading = Reading(
            latest=cells.latest_day(context.export_at.astimezone(ZoneInfo(context.time_zone)).date()),
            time_zone=context.time_zone,
            vocabulary=context.section_vocabulary,
            serials=any(part.endswith(WORKBOOKS) for part in context.file_name.lower().split("!")),
            missing=self.layout.missing,
        )
        self.cells = Typed(rows, binding, reading)
        self.specs = self.cells.specs
        self.headers = self.cells.headers
        self.broken = self.cells.broken
        self.typed = self.cells.rows
        self._judge()

    def parsed(self, *, name_all: bool = False) -> Parsed:
        slots = range(len(self.binding.slots))
        counts = self.typed.select(
            pl.lit(0, dtype=pl.UInt32).alias("start"),
            *[(pl.col(f"state.{n}") == state).sum().alias(f"{state}.{n}") for n in slots for state in ("empty", "bad")],
        )
        frames = [self._facts(n) for n in slots]
        families = [EVENT_TYPES[slot.fact.event].family for slot in self.binding.slots]
        facts = {
            family: _stack([frame for frame, own in zip(frames, families, strict=True) if own == family], {})
            for family in dict.fromkeys(families)
        }
        return Parsed(
            facts={family: frame.select(list(fact_schema(family))) for family, frame in facts.items()},
            identifiers=self._identifiers((pl.col("outcome") == "parsed") & pl.col("own_id").is_not_null()),
            vault_rows=self._vault_rows(),
            notes=self._notes(),
            persons=self._persons(),
            rejected=self._rejected(),
            unread=self._unread(),
            outcomes=self.typed.select("source_line", "outcome"),
            slots=len(slots),
            facts_empty=sum(counts[f"empty.{n}"][0] for n in slots),
            facts_rejected=sum(counts[f"bad.{n}"][0] for n in slots),
            findings=self._findings(frames),
            named=self._identifiers(pl.lit(value=name_all)),
        )

    # Outcomes

    def _judge(self) -> None:
        """Decide each row's outcome and each slot's state: fact, empty or bad."""
        numbers = range(len(self.binding.slots))
        self.typed = self.typed.with_columns(
            *[self._meant(n).alias(f"meant.{n}") for n in numbers],
            *[self._filled(n).alias(f"filled.{n}") for n in numbers],
        )
        own, kind = self._person()
        students = pl.any_horizontal([pl.col(f"meant.{n}") & self._means_student(n) for n in numbers] or [pl.lit(True)])
        student = students if self.layout.people else pl.lit(False)
        self.typed = self.typed.with_columns(
            own_id=pl.when(student).then(own),
            own_id_type=pl.when(student).then(kind),
            nameless=student & own.is_null(),
            **{f"bad.{n}": self._slot_bad(n) for n in numbers},
        )
        bad = [pl.col(f"!{key}") > 0 for key in self.broken if key.startswith("r.")]
        bad += [pl.col("nameless"), *[pl.col("bad.0") for _ in numbers if len(numbers) == 1]]
        outcome = pl.when(pl.any_horizontal(bad)).then(pl.lit("rejected")).otherwise(pl.lit("parsed"))
        scope = self.layout.scope
        if scope:
            value = pl.col(f"r.{scope.column}").str.to_lowercase()
            inside = value.is_in([word.lower() for word in scope.values])
            unreadable = value.is_null() | (self.cells.code(f"r.{scope.column}") > 0)
            outcome = (
                pl.when(unreadable)
                .then(pl.lit("rejected"))
                .when(~inside)
                .then(pl.lit("out_of_scope"))
                .otherwise(outcome)
            )
        self.typed = self.typed.with_columns(outcome=outcome)
        parsed = pl.col("outcome") == "parsed"
        self.typed = self.typed.with_columns(
            pl.when(~parsed)
            .then(None)
            .when(f"bad.{n}")
            .then(pl.lit("bad"))
            .when(pl.col(f"meant.{n}") & pl.col(f"filled.{n}"))
            .then(pl.lit("fact"))
            .otherwise(pl.lit("empty"))
            .alias(f"state.{n}")
            for n in numbers
        )

    def _person(self) -> tuple[pl.Expr, pl.Expr]:
        """The id a row names a person by, and its type."""
        people = [name for name in self.layout.people if f"r.{name}" in self.specs]
        if not people:
            return pl.lit(None, dtype=pl.String), pl.lit(None, dtype=pl.String)
        types = [
            pl.when(pl.col(f"r.{name}").is_not_null()).then(pl.lit(self.layout.columns[name].id_type))
            for name in people
        ]
        return pl.coalesce([pl.col(f"r.{name}") for name in people]), pl.coalesce(types)

    def _meant(self, number: int) -> pl.Expr:
        conditions = self.binding.slots[number].fact.when
        found = [(self.cells.key(number, name), values) for name, values in conditions.items()]
        return pl.all_horizontal(
            [pl.lit(True), *[among(pl.col(key), values) if key else pl.lit(False) for key, values in found]]
        )

    def _filled(self, number: int) -> pl.Expr:
        slot = self.binding.slots[number]
        names = slot.fact.filled_by
        if not names and isinstance(slot.fact, Block):
            names = tuple(name for name in slot.fact.columns if name not in slot.captured)
        keys = [key for name in names if (key := self.cells.key(number, name))]
        if not names:
            return pl.lit(True)
        return pl.any_horizontal([pl.lit(False), *[pl.col(key).is_not_null() for key in keys]])

    def _means_student(self, number: int) -> pl.Expr:
        """Whether the slot's fact is about a student. A session of a group is not, one without a group is."""
        keys = EVENT_TYPES[self.binding.slots[number].fact.event].keys
        if not any("subject_key" in key.parts for key in keys):
            return pl.lit(False)
        if any(key.needs == ("group_id",) and "subject_key" not in key.parts for key in keys):
            group = self.cells.key(number, "group_id")
            return pl.lit(True) if group is None else pl.col(group).is_null()
        return pl.lit(True)

    def _slot_rules(self, number: int) -> dict[str, pl.Expr]:
        """Code of each of the slot's own columns that some row breaks."""
        rules: dict[str, pl.Expr] = {}
        own = self.binding.slots[number].fact.columns
        for key in self.specs:
            prefix, _, name = key.partition(".")
            if prefix != str(number):
                continue
            code = self.cells.code(key)
            if name in own and own[name].required:
                lacking = pl.col(key).is_null() & pl.col(f"filled.{number}") & (code == 0)
                code = pl.when(lacking).then(pl.lit(CODES["missing_value"], dtype=pl.UInt8)).otherwise(code)
            elif key not in self.broken:
                continue
            rules[key] = pl.when(pl.col(f"meant.{number}")).then(code).otherwise(pl.lit(0, dtype=pl.UInt8))
        return rules

    def _slot_bad(self, number: int) -> pl.Expr:
        return pl.any_horizontal([pl.lit(False), *[code > 0 for code in self._slot_rules(number).values()]])

    def _rejected(self) -> pl.DataFrame:
        whole = self.typed.filter(pl.col("outcome") == "rejected")
        found = [_broken(whole, self.headers[key], pl.col(f"!{key}"), None) for key in self.broken if key[0] == "r"]
        if self.layout.people:
            first = self.layout.people[0]
            header = self.headers[f"r.{first}"]
            nameless = pl.col("nameless").cast(pl.UInt8) * CODES["missing_student_id"]
            found.append(_broken(whole, header, nameless, None))
        if self.layout.scope:
            key = f"r.{self.layout.scope.column}"
            unknown = (pl.col(key).is_null() & (self.cells.code(key) == 0)).cast(pl.UInt8) * CODES["missing_value"]
            found.append(_broken(whole, self.headers[key], unknown, None))
        for number in range(len(self.binding.slots)):
            alone = len(self.binding.slots) == 1
            rows = whole if alone else self.typed.filter(pl.col(f"state.{number}") == "bad")
            for key, code in self._slot_rules(number).items():
                found.append(_broken(rows, self.headers[key], code, None if alone else number))
        return _stack(found, REJECTED, by=["source_line", "slot", "column", "rule"]).unique(maintain_order=True)

    def _unread(self) -> pl.DataFrame:
        own, kind = self._person()
        numbers = range(len(self.binding.slots))
        lost = [pl.col("outcome") == "rejected", *[pl.col(f"state.{n}") == "bad" for n in numbers]]
        return self.typed.filter(pl.any_horizontal(lost)).select("source_line", own_id_type=kind, own_id=own)

    # Facts

    def _facts(self, number: int) -> pl.DataFrame:
        fact = self.binding.slots[number].fact
        family = EVENT_TYPES[fact.event].family
        schema = fact_schema(family)
        student = self._means_student(number)
        own = {name: pl.when(student).then(pl.col(name)) for name in OWN}
        day = self._column(number, "occurred_on", pl.Date())
        declared = self._column(number, "school_year", pl.String())
        derived = cells.school_year(day, self.context.year_starts)
        rows = self.typed.lazy().filter(pl.col(f"state.{number}") == "fact")
        built = rows.select(
            "source_line",
            pl.lit(number, dtype=pl.Int32).alias("slot"),
            pl.lit(fact.event).alias("event_type"),
            *[expr.alias(name) for name, expr in own.items()],
            self._column(number, "school_id", pl.String()).alias("school_id"),
            pl.coalesce(declared, derived).alias("school_year"),
            day.alias("occurred_on"),
            *[self._column(number, name, schema[name]).alias(name) for name in PAYLOADS[family] if name != "strands"],
            (declared != derived).fill_null(False).alias("year disagrees"),
        ).collect()
        if "strands" not in schema:
            return built
        prefix = str(number) if fact.strands else "r"
        parsed = self.typed.filter(pl.col(f"state.{number}") == "fact")
        lists = self.cells.strand_lists(parsed, prefix, schema["strands"])
        if lists["source_line"].equals(built["source_line"]):  # a join copies every list; most files need none
            return built.with_columns(lists["strands"])
        return built.join(lists, on="source_line", how="left", maintain_order="left")

    def _column(self, number: int, name: str, dtype: pl.DataType) -> pl.Expr:
        """A slot's own column, else its constant, else the row's. Vault columns and ids never become facts."""
        fact = self.binding.slots[number].fact
        own, row = f"{number}.{name}", f"r.{name}"
        taken = not fact.only or name in fact.only or name not in PAYLOADS[EVENT_TYPES[fact.event].family]
        if self._is_fact(own):
            return pl.col(own).cast(dtype, strict=False)
        if name in fact.constants:
            return pl.lit(fact.constants[name]).cast(dtype)
        if taken and self._is_fact(row):
            return pl.col(row).cast(dtype, strict=False)
        if name == "note_chars" and taken and (note := self._note(number)):
            return pl.col(note).cast(dtype, strict=False)
        if name == "test_family":
            return pl.lit(self.layout.test_family, dtype=dtype)
        return pl.lit(None, dtype=dtype)

    def _is_fact(self, key: str) -> bool:
        return key in self.specs and not self.specs[key].vault and self.specs[key].type != "id"

    def _note(self, number: int) -> str | None:
        """The column of free text a slot's fact has."""
        family = EVENT_TYPES[self.binding.slots[number].fact.event].family
        only = self.binding.slots[number].fact.only
        if "note_chars" not in PAYLOADS[family] or (only and "note_chars" not in only):
            return None
        texts = [key for key, column in self.specs.items() if column.type == "note"]
        return next((key for prefix in (f"{number}.", "r.") for key in texts if key.startswith(prefix)), None)

    def _findings(self, frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
        counted: dict[str, int] = {}
        disagree = [frame.filter("year disagrees").select("source_line") for frame in frames]
        counted["school_year_disagrees"] = _stack(disagree, LINE)["source_line"].n_unique()
        for frame in frames:
            if "vendor_test_id" in frame.columns:
                takers = pl.col("own_id").n_unique().over("vendor_test_id")
                shared = (takers > 1) & pl.col("vendor_test_id").is_not_null()
                counted["shared_test_id"] = counted.get("shared_test_id", 0) + frame.select(shared.sum()).item()
            if "window_label" in frame.columns and "occurred_on" in frame.columns:
                seasons = pl.col("window_label").is_in(["fall", "winter", "spring"])
                differs = (seasons & (pl.col("window_label") != cells.season(pl.col("occurred_on")))).sum()
                counted["label_date_disagree"] = counted.get("label_date_disagree", 0) + frame.select(differs).item()
        found = {rule: rows for rule, rows in counted.items() if rows}
        return pl.DataFrame({"rule": list(found), "rows": list(found.values())}, schema=FINDINGS).sort("rule")

    # Vault

    def _identifiers(self, which: pl.Expr) -> pl.DataFrame:
        rows = self.typed.filter(which)
        found = []
        for key, column in self.specs.items():
            if column.type != "id":
                continue
            each = rows.filter(pl.col(key).is_not_null())
            kind, value = pl.lit(column.id_type), pl.col(key)
            if column.pairs:
                pair = pl.col(key).str.extract_all(column.pairs)
                each = each.with_columns(pair.alias("pair")).explode("pair").drop_nulls("pair")
                groups = pl.col("pair").str.extract_groups(column.pairs)
                kind = pl.lit(f"{column.id_type}:") + groups.struct.field("type").str.strip_chars().str.to_lowercase()
                value = groups.struct.field("id").str.strip_chars()
            header = pl.lit(self.headers[key])
            found.append(each.select("source_line", *OWN, column=header, id_type=kind, id=value))
        return _stack(found, IDENTIFIERS, by=["source_line", "column", "id_type", "id"])

    def _vault_rows(self) -> pl.DataFrame:
        kept = {name: column for name, column in self.layout.columns.items() if column.vault}
        values = [
            (pl.col(f"r.{name}") if f"r.{name}" in self.specs else pl.lit(None, dtype=cells.dtype_of(column))).alias(
                name
            )
            for name, column in kept.items()
        ]
        named = pl.col("r.class_id") if "r.class_id" in self.specs else pl.lit(None, dtype=pl.String)
        rows = self.typed.filter(pl.col("outcome") == "parsed")
        rows = rows.select("source_line", *OWN, named.alias("class_id"), *values)
        return rows.filter(pl.any_horizontal([pl.lit(False), *[pl.col(name).is_not_null() for name in kept]]))

    def _notes(self) -> pl.DataFrame:
        found = []
        for number in range(len(self.binding.slots)):
            if note := self._note(number):
                rows = self.typed.filter((pl.col(f"state.{number}") == "fact") & pl.col(f"text.{note}").is_not_null())
                slot = pl.lit(number, dtype=pl.Int32)
                found.append(rows.select("source_line", slot=slot, text=pl.col(f"text.{note}")))
        return _stack(found, NOTES)

    def _persons(self) -> dict[str, str]:
        return {
            key.partition(".")[2]: column.id_type or "person"
            for key, column in self.specs.items()
            if column.type == "person"
        }


def _broken(rows: pl.DataFrame, header: str, code: pl.Expr, slot: int | None) -> pl.DataFrame:
    """Line and rule of the rows in which one column is broken."""
    return (
        rows.lazy()
        .select("source_line", code=code)
        .filter(pl.col("code") > 0)
        .select(
            "source_line",
            slot=pl.lit(slot, dtype=pl.Int32),
            column=pl.lit(header),
            rule=pl.col("code").cast(pl.Int64).replace_strict(dict(enumerate(RULES)), return_dtype=pl.String),
        )
        .collect()
    )


def _stack(frames: Sequence[pl.DataFrame], schema: dict[str, Any], by: Sequence[str] = ()) -> pl.DataFrame:
    """The frames one below the other, in the order of the file."""
    if not frames:
        return pl.DataFrame(schema=schema)
    if len(frames) == 1 and not by:
        return frames[0]
    stacked = pl.concat(frames)
    order = list(by) or ["source_line", *(["slot"] if "slot" in stacked.columns else [])]
    return stacked.sort(order, maintain_order=True)
