"""Tables that will be opened in a spreadsheet."""

import polars as pl

FORMULA = r"(^|[;\t\r\n])(\s*[=+\-@＝＋－＠]|[\t\r])"
"""How a cell begins that a spreadsheet takes for a formula (OWASP, CSV Injection). Where semicolons separate, as in
much of Europe, a cell begins after each of them, and quotes do not help."""


def neutralised(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The same rows with an apostrophe before every text that a spreadsheet would run as a formula.

    Numbers, dates and booleans are not text and stay as they are: -5 is a number, "-5" in a column of text is not.
    """
    return rows.with_columns(pl.col(pl.String).str.replace_all(FORMULA, "${1}'${2}"))
