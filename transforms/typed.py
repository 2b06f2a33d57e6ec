"""A file's cells as one table: for every column of its layout a typed value and the rule its cell breaks."""

from collections.abc import Iterable, Sequence

import polars as pl

from schemas.exports import Binding, Block, Column, Strand
from transforms import cells
from transforms.cells import CODES, Reading

_STRAND_PARTS = ("name", "score", "standard_error", "label")
_TEXT = Column()
_NUMBER = Column(type="number")


class Typed:
    """The typed rows of one file.

    ``rows`` holds ``source_line``, the values (``r.name`` of the row, ``0.name`` of a slot) and, under the same
    name behind ``!``, the code of the rule a cell breaks.
    """

    def __init__(self, rows: pl.DataFrame, binding: Binding, reading: Reading) -> None:
        self.binding = binding
        self.layout = binding.layout
        self.reading = reading
        self.specs: dict[str, Column] = {}
        """What the layout says of each value the file has."""
        self.headers: dict[str, str] = {}
        """What a rejection calls each value: the header as written, else our name."""
        self._strands: dict[str, list[dict[str, str | None]]] = {}
        self.rows = rows.lazy().select("source_line", *self._cells()).collect()
        worst = self.rows.select(pl.col("^!.*$").max())
        self.broken = {name[1:] for name in worst.columns if worst[name][0]}
        """Values some row breaks a rule in."""

    def key(self, number: int, name: str) -> str | None:
        """Where a slot finds one of our columns: its own, else the row's."""
        return next((key for key in (f"{number}.{name}", f"r.{name}") if key in self.specs), None)

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

    def _cells(self) -> list[pl.Expr]:
        made: list[pl.Expr] = []
        for name, column in self.layout.columns.items():
            made += self._cell(f"r.{name}", column, self._row_text(name), self._where(column), column.required)
            self._named(f"r.{name}", self.binding.positions.get(name), name)
        made += self._strand_cells("r", self.layout.strands, self.binding.strands)
        for number, slot in enumerate(self.binding.slots):
            in_block = isinstance(slot.fact, Block)
            for name, column in slot.fact.columns.items():
                plain = column.model_copy(update={"pattern": None}) if in_block else column
                text: pl.Expr | None = None
                if name in slot.captured:
                    text = pl.lit(slot.captured[name] or None, dtype=pl.String)
                elif name in slot.positions:
                    text = pl.col(f"c{slot.positions[name]}")
                elif column.required:  # only JSON Lines may lack it, and then no line has it
                    text = pl.lit(None, dtype=pl.String)
                made += self._cell(f"{number}.{name}", plain, text, self._where(column), False)
                self._named(f"{number}.{name}", slot.positions.get(name), name)
            made += self._strand_cells(str(number), slot.fact.strands, slot.strands)
        return made

    def _cell(
        self, key: str, column: Column, text: pl.Expr | None, where: pl.Expr | None, required: bool
    ) -> list[pl.Expr]:
        """Value and code of one column; nothing where the file does not have it."""
        if text is None:
            return []
        self.specs[key] = column
        text = text if where is None else pl.when(where).then(text)
        cell = cells.read(text, column, self.reading)
        broken = cell.broken
        if required and key.removeprefix("r.") not in self.layout.people:
            lacking = cell.value.is_null() & (broken == 0)
            lacking = lacking if where is None else lacking & where
            broken = pl.when(lacking).then(pl.lit(CODES["missing_value"], dtype=pl.UInt8)).otherwise(broken)
        made = [cell.value.alias(key), broken.alias(f"!{key}")]
        return [*made, text.alias(f"text.{key}")] if column.type == "note" else made

    def _row_text(self, name: str) -> pl.Expr | None:
        column = self.layout.columns[name]
        if column.join:
            parts = [self._row_value(each).cast(pl.String) for each in column.join]
            return pl.concat_str(parts, separator=" / ", ignore_nulls=True).replace("", None)
        at = self.binding.positions.get(name)
        return None if at is None else pl.col(f"c{at}")

    def _row_value(self, name: str) -> pl.Expr:
        text = self._row_text(name)
        return pl.lit(None) if text is None else cells.read(text, self.layout.columns[name], self.reading).value

    def _where(self, column: Column) -> pl.Expr | None:
        if not column.where:
            return None
        return pl.all_horizontal(among(self._row_value(name), values) for name, values in column.where.items())

    def _strand_cells(self, prefix: str, strands: Sequence[Strand], places: Sequence[dict[str, int]]) -> list[pl.Expr]:
        made: list[pl.Expr] = []
        for number, (strand, place) in enumerate(zip(strands, places, strict=True)):
            keys: dict[str, str | None] = {"fixed": strand.strand}
            for part, at in place.items():
                keys[part] = f"{prefix}.strand {number} {part}"
                column = _NUMBER if part in ("score", "standard_error") else _TEXT
                made += self._cell(f"{keys[part]}", column, pl.col(f"c{at}"), None, False)
                self._named(f"{keys[part]}", at, part)
            self._strands.setdefault(prefix, []).append(keys)
        return made

    def _named(self, key: str, at: int | None, name: str) -> None:
        """What a rejection calls the column: the header as written, else our name."""
        self.headers[key] = name if at is None else self.binding.header[at]


def among(value: pl.Expr, values: Iterable[str]) -> pl.Expr:
    return value.cast(pl.String).is_in(list(values)).fill_null(False)
