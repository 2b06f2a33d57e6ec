"""A file's cells as one table: for every column of its layout a typed value and the rule its cell breaks."""

from collections.abc import Iterable, Sequence

import polars as pl

from schemas.exports import Binding, Block, Column, Strand
from transforms import cells
from transforms.cells import CODES, Reading

_STRAND_PARTS = ("name", "score", "standard_error", "label")
_TEXT = Column()
_NUMBER = Column(type="number")
_MISSING = pl.lit(CODES["missing_value"], dtype=pl.UInt8)
_CHEAP = ("text", "id", "person", "note")
"""Types read cell by cell; of the others each distinct text is read once, since exports repeat themselves."""


class Typed:
    """The typed rows of one file.

    ``rows`` holds ``source_line``, the values (``r.name`` of the row, ``0.name`` of a slot), the text of notes
    (``text.r.name``) and, where some cell breaks a rule, its code under the value's name behind ``!``.
    """

    def __init__(self, rows: pl.DataFrame, binding: Binding, reading: Reading) -> None:
        self.binding = binding
        self.layout = binding.layout
        self.reading = reading
        self.specs: dict[str, Column] = {}
        """What the layout says of each value the file has."""
        self.headers: dict[str, str] = {}
        """What a rejection calls each value: the header as written, else our name."""
        self.broken: set[str] = set()
        """Values some row breaks a rule in."""
        self._strands: dict[str, list[dict[str, str | None]]] = {}
        self._given = rows
        self._made: dict[str, pl.Series] = {"source_line": rows["source_line"]}
        self._read_row()
        self._read_slots()
        self.rows = pl.DataFrame(self._made)

    def key(self, number: int, name: str) -> str | None:
        """Where a slot finds one of our columns: its own, else the row's."""
        return next((key for key in (f"{number}.{name}", f"r.{name}") if key in self.specs), None)

    def code(self, key: str) -> pl.Expr:
        """Code of the rule each cell breaks."""
        return pl.col(f"!{key}") if key in self.broken else pl.lit(0, dtype=pl.UInt8)

    def strand_lists(self, rows: pl.DataFrame, prefix: str, dtype: pl.DataType) -> pl.DataFrame:
        """The strands of each row that have a score, an error or a label, in the layout's order."""
        parts: list[pl.LazyFrame] = []
        for number, keys in enumerate(self._strands.get(prefix, [])):
            values = [pl.col(keys[part]) if keys.get(part) else pl.lit(None) for part in _STRAND_PARTS]  # type: ignore[arg-type]
            name = values[0] if keys.get("name") else pl.lit(keys["fixed"])
            strand = pl.struct(
                strand=name.cast(pl.String),
                score=values[1].cast(pl.Float64),
                standard_error=values[2].cast(pl.Float64),
                label=values[3].cast(pl.String),
            )
            given = [pl.col(key) for part, key in keys.items() if key and part in _STRAND_PARTS[1:]]
            if given:
                some = pl.any_horizontal(each.is_not_null() for each in given)
                order = pl.lit(number, dtype=pl.UInt16).alias("order")
                parts.append(rows.lazy().filter(some).select("source_line", order, strand.alias("strands")))
        if not parts:
            return pl.DataFrame(schema={"source_line": pl.Int64(), "strands": dtype})
        stacked = pl.concat(parts).sort("source_line", "order")
        return stacked.group_by("source_line", maintain_order=True).agg("strands").collect()

    def _read_row(self) -> None:
        """Columns of the row; those made of others come last."""
        composed = {name for name, column in self.layout.columns.items() if column.join or column.where}
        for name in sorted(self.layout.columns, key=composed.__contains__):
            column = self.layout.columns[name]
            at = self.binding.positions.get(name)
            text = self._joined(column) if column.join else None if at is None else self._given[f"c{at}"]
            self._add(f"r.{name}", column, text, required=column.required and name not in self.layout.people)
            self._named(f"r.{name}", at, name)
        self._read_strands("r", self.layout.strands, self.binding.strands)

    def _read_slots(self) -> None:
        for number, slot in enumerate(self.binding.slots):
            for name, column in slot.fact.columns.items():
                of_header = column.model_copy(update={"pattern": None}) if isinstance(slot.fact, Block) else column
                at = slot.positions.get(name)
                text = None if at is None else self._given[f"c{at}"]
                if name in slot.captured:
                    text = self._same(slot.captured[name] or None)
                elif at is None and column.required:  # only JSON Lines may lack it, and then no line has it
                    text = self._same(None)
                self._add(f"{number}.{name}", of_header, text)
                self._named(f"{number}.{name}", at, name)
            self._read_strands(str(number), slot.fact.strands, slot.strands)

    def _read_strands(self, prefix: str, strands: Sequence[Strand], places: Sequence[dict[str, int]]) -> None:
        for number, (strand, place) in enumerate(zip(strands, places, strict=True)):
            keys: dict[str, str | None] = {"fixed": strand.strand}
            for part, at in place.items():
                key = keys[part] = f"{prefix}.strand {number} {part}"
                self._add(key, _NUMBER if part in ("score", "standard_error") else _TEXT, self._given[f"c{at}"])
                self._named(key, at, part)
            self._strands.setdefault(prefix, []).append(keys)

    def _add(self, key: str, column: Column, text: pl.Series | None, required: bool = False) -> None:
        """Read one column; nothing where the file does not have it."""
        if text is None:
            return
        frame = pl.DataFrame({"text": text})
        if column.where:
            frame = frame.with_columns(self._where(column).alias("where"))
            frame = frame.with_columns(text=pl.when("where").then("text"))
        frame = _read(frame, column, self.reading)
        if required:
            lacking = pl.col("value").is_null() & (pl.col("broken") == 0)
            lacking = lacking & pl.col("where") if column.where else lacking
            frame = frame.with_columns(broken=pl.when(lacking).then(_MISSING).otherwise("broken"))
        self.specs[key] = column
        self._made[key] = frame["value"]
        if frame["broken"].max():
            self.broken.add(key)
            self._made[f"!{key}"] = frame["broken"]
        if column.type == "note":
            self._made[f"text.{key}"] = frame["text"]

    def _same(self, text: str | None) -> pl.Series:
        return pl.repeat(text, self._given.height, dtype=pl.String, eager=True)

    def _joined(self, column: Column) -> pl.Series | None:
        parts = [pl.col(f"r.{name}").cast(pl.String) for name in column.join if f"r.{name}" in self.specs]
        if not parts:
            return None
        together = pl.concat_str(parts, separator=" / ", ignore_nulls=True).replace("", None)
        return pl.DataFrame(self._made).select(together.alias("text"))["text"]

    def _where(self, column: Column) -> pl.Series:
        conditions = [
            among(pl.col(f"r.{name}"), values) if f"r.{name}" in self.specs else pl.lit(False)
            for name, values in column.where.items()
        ]
        return pl.DataFrame(self._made).with_columns(pl.all_horizontal(conditions).alias("where"))["where"]

    def _named(self, key: str, at: int | None, name: str) -> None:
        self.headers[key] = name if at is None else self.binding.header[at]


def among(value: pl.Expr, values: Iterable[str]) -> pl.Expr:
    """Where a value, as text, is one of these."""
    return value.cast(pl.String).is_in(list(values)).fill_null(False)


def _read(frame: pl.DataFrame, column: Column, reading: Reading) -> pl.DataFrame:
    """``frame`` with the ``value`` of each ``text`` and the code it breaks as ``broken``."""
    cell = cells.read(pl.col("text"), column, reading)
    if column.type not in _CHEAP or column.split or column.pattern:
        distinct = frame.select(pl.col("text").unique())
        if distinct.height * 2 <= frame.height:
            known = distinct.with_columns(value=cell.value, broken=cell.broken)
            return frame.join(known, on="text", how="left", nulls_equal=True, maintain_order="left")
    return frame.with_columns(value=cell.value, broken=cell.broken)
