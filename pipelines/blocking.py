"""Which rows of a file are an erased student's, and copies of files without them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import polars as pl

from schemas.exports import Binding, layouts
from transforms.exports import Parsed
from transforms.identity import best_match
from transforms.recognition import Held, recognise
from transforms.versions import keyed_hash
from warehouse.redaction import without, workbook_without
from warehouse.tabular import is_workbook, read_header, sheet_names

Aliases = Mapping[str, Mapping[str, Collection[str]]]
NO_LINES = pl.DataFrame(schema={"source_line": pl.Int64})


def id_digest(district_id: str, secret: bytes) -> pl.Expr:
    """Keyed hash of `id_type` and `id`: what the block list keeps of an id."""
    return keyed_hash(pl.concat_str(pl.lit(f"erased\x1f{district_id}"), "id_type", "id", separator="\x1f"), secret)


def fact_digest(district_id: str, secret: bytes) -> pl.Expr:
    """Keyed hash of `natural_key`: what the block list keeps of a fact that was moved to an erased student."""
    return keyed_hash(pl.concat_str(pl.lit(f"erased fact\x1f{district_id}"), "natural_key", separator="\x1f"), secret)


@dataclass(frozen=True)
class BlockList:
    """The erased students of one district."""

    district_id: str
    secret: bytes
    digests: pl.Series = field(default_factory=lambda: pl.Series(dtype=pl.String))
    roster: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(schema=dict.fromkeys(("id_type", "id", "subject_key"), pl.String))
    )
    """Known ids of rostered students."""

    def __bool__(self) -> bool:
        return bool(self.digests.len())

    def lines(self, parsed: Parsed) -> pl.DataFrame:
        """Rows that name an erased student, whatever else becomes of them: `source_line`.

        An id counts under its own type and, in the column by which the file's students are found in the roster, under
        the type found there: vendors call the district's ids by names of their own.
        """
        if not self:
            return NO_LINES
        ids = parsed.named.select("source_line", "column", "id_type", "id")
        students = parsed.identifiers.select(
            "id_type",
            "id",
            subject_key=pl.concat_str("own_id_type", "own_id", separator="\x1f"),
            id_column="column",
        )
        column, id_type, _, _ = best_match(students, self.roster)
        if column is not None:
            found = ids.filter(pl.col("column") == column).with_columns(id_type=pl.lit(id_type))
            ids = pl.concat([ids, found])
        distinct = ids.select("id_type", "id").unique().with_columns(digest=id_digest(self.district_id, self.secret))
        blocked = distinct.filter(pl.col("digest").is_in(self.digests.implode()))
        return ids.join(blocked, on=["id_type", "id"], how="semi").select("source_line").unique().sort("source_line")

    def facts(self, named: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        """Rows with a fact that was moved to an erased student: `source_line`."""
        if not self:
            return NO_LINES
        keys = pl.concat(
            [NO_LINES.with_columns(natural_key=pl.lit(None, pl.String))]
            + [rows.select("source_line", "natural_key") for rows in named.values()]
        )
        digest = fact_digest(self.district_id, self.secret)
        return keys.filter(digest.is_in(self.digests.implode())).select("source_line").unique()


def tables_in(data: bytes, name: str) -> list[tuple[str, str]]:
    """Every table in the bytes of a file: its sheet, or "", and the name it is known by."""
    if not is_workbook(data):
        return [("", name)]
    sheets = sheet_names(data)
    own = max((sheet for sheet in sheets if name.endswith(f"!{sheet}")), key=len, default=None)
    if len(sheets) < 2 or own is None:
        return [(each, name) for each in sheets[:1]]
    return [(sheet, f"{name.removesuffix(own)}{sheet}") for sheet in sheets]


def bound(data: bytes, name: str, aliases: Aliases) -> Binding | None:
    """How the header of a table binds; None where no layout fits."""
    found = recognise(read_header(data, name), name, layouts(), aliases)  # type: ignore[arg-type]
    return None if isinstance(found, Held) else found.binding


def copy_without(data: bytes, gone: Mapping[str, Collection[int]]) -> bytes:
    """The bytes of a file without some lines of its tables, by sheet; those of a file without sheets under ""."""
    return workbook_without(data, gone) if is_workbook(data) else without(data, gone.get("", ()))
