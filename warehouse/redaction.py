"""A copy of a file without some of its records: their lines stay, empty, so that every other keeps its number."""

import bisect
import io
import zipfile
from collections.abc import Collection, Mapping

import fastexcel
import polars as pl

from warehouse.lines import decoded

UTF16 = "utf-16"
_NOT_IN_XML = "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x{fffe}\\x{ffff}]"
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_LINKS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml"


def physical_lines(data: bytes, records: Collection[int], starts: Collection[int]) -> list[int]:
    """The lines of some records of delimited text or JSON Lines, where a record may have several.

    Args:
        data: The whole file.
        records: Where they start; the first line of the file is 1.
        starts: Where any record starts: what follows a record up to the next one is part of it.
    """
    end = decoded(data)[0].count(b"\n") + 2
    known = sorted({*starts, *records, end})
    return [line for first in sorted(set(records)) for line in range(first, known[bisect.bisect_right(known, first)])]


def without(data: bytes, lines: Collection[int]) -> bytes:
    """Delimited text or JSON Lines with nothing on these lines."""
    text, encoding = decoded(data)
    rows = text.split(b"\n")
    for line in lines:
        rows[line - 1] = b""
    left = b"\n".join(rows)
    return left.decode(errors="replace").encode(UTF16) if encoding == UTF16 else left


def workbook_without(data: bytes, lines: Mapping[str, Collection[int]]) -> bytes:
    """A workbook without some rows of its sheets: its cells as text, and nothing else that workbooks hold.

    Formulas, comments, caches of pivot tables and hidden sheets, which nobody reads here, are not in it.

    Args:
        data: The whole workbook.
        lines: By sheet, numbers of the rows that go; the first row is 1.
    """
    book = fastexcel.read_excel(data)
    first, *_ = book.sheet_names
    sheets = [book.load_sheet(name, header_row=None, skip_rows=0, dtypes="string") for name in book.sheet_names]
    shown = [each for each in sheets if each.visible == "visible" or each.name == first]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in _frame([each.name for each in shown]).items():
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
        for number, sheet in enumerate(shown, 1):
            text = _sheet(pl.DataFrame(sheet), lines.get(sheet.name, ()))
            archive.writestr(zipfile.ZipInfo(f"xl/worksheets/sheet{number}.xml"), text, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def _sheet(cells: pl.DataFrame, gone: Collection[int]) -> str:
    rows = cells.with_row_index("row", offset=1).filter(~pl.col("row").is_in(list(gone)))
    written = [_cell(name, number) for number, name in enumerate(cells.columns)]
    text = rows.select(pl.format('<row r="{}">{}</row>', "row", pl.concat_str(written) if written else pl.lit("")))
    return f'{_HEAD}<worksheet xmlns="{_MAIN}"><sheetData>{"".join(text.to_series())}</sheetData></worksheet>'


def _cell(name: str, number: int) -> pl.Expr:
    """A cell of text; nothing where it is empty."""
    text = pl.col(name).str.replace_all(_NOT_IN_XML, "").str.replace_many(_ESCAPES)
    start = pl.format('<c r="{}{}" t="inlineStr"><is><t xml:space="preserve">', pl.lit(_letters(number)), "row")
    return pl.concat_str(start, text, pl.lit("</t></is></c>")).fill_null("")


def _letters(number: int) -> str:
    name = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def _frame(sheets: list[str]) -> dict[str, str]:
    """The parts of a workbook beside its sheets."""
    numbers = range(1, len(sheets) + 1)
    parts = "".join(
        f'<Override PartName="/xl/worksheets/sheet{number}.xml" ContentType="{_KIND}.worksheet+xml"/>'
        for number in numbers
    )
    named = "".join(
        f'<sheet name="{_escaped(name)}" sheetId="{number}" r:id="r{number}"/>'
        for number, name in zip(numbers, sheets, strict=True)
    )
    links = "".join(
        f'<Relationship Id="r{number}" Type="{_LINKS}/worksheet" Target="worksheets/sheet{number}.xml"/>'
        for number in numbers
    )
    relations = f'{_HEAD}<Relationships xmlns="{_PACKAGE}/relationships">'
    return {
        "[Content_Types].xml": f'{_HEAD}<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_KIND}.sheet.main+xml"/>{parts}</Types>',
        "_rels/.rels": f'{relations}<Relationship Id="r1" Type="{_LINKS}/officeDocument" Target="xl/workbook.xml"/>'
        "</Relationships>",
        "xl/workbook.xml": f'{_HEAD}<workbook xmlns="{_MAIN}" xmlns:r="{_LINKS}"><sheets>{named}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f"{relations}{links}</Relationships>",
    }


def _escaped(text: str) -> str:
    for plain, written in _ESCAPES.items():
        text = text.replace(plain, written)
    return text
