"""Cells of an export as typed values: every spelling of numbers, dates, grades and codes, as Polars expressions.

A cell that cannot be understood becomes null with a rule beside it; nothing is cast strictly, because Polars
prints the cells of a cast that fails.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta

import polars as pl

from schemas.exports import Column

RULES = (
    "",
    "missing_value",
    "missing_student_id",
    "not_a_number",
    "not_an_integer",
    "out_of_range",
    "not_a_date",
    "not_a_time",
    "unknown_code",
    "not_a_grade",
    "not_a_percentile",
    "not_a_boolean",
    "not_a_school_year",
    "not_understood",
)
"""Rules by code; 0 is a cell that was understood. Names are stable: they stand in stored rejections."""
CODES = {rule: code for code, rule in enumerate(RULES)}

EARLIEST = date(1980, 1, 1)
DAYS_AFTER_EXPORT = 400

_TRUE = ("true", "t", "yes", "y", "1", "1.0")
_FALSE = ("false", "f", "no", "n", "0", "0.0")
_BOOLEANS = dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)

_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_ORDINALS = (
    *("first", "second", "third", "fourth", "fifth", "sixth"),
    *("seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth"),
)
_SUFFIXES = {1: "st", 2: "nd", 3: "rd"}
_KINDERGARTEN = ("k", "kg", "kn", "kdg", "kinder", "kindergarten", "primary", "0", "00", "0.0")
_BEFORE = ("pk", "p", "pr", "prek", "pre-k", "pre k", "prekindergarten", "pre-kindergarten", "preschool", "-1", "-1.0")
_TRANSITIONAL = ("tk", "transitional kindergarten")
_NO_GRADE = ("ug", "ungraded", "other", "ps", "postsecondary", "13", "13.0")

_MISSING_PERCENTILES = ("n/a", "n/a*", "na", "discontinue", "discontinued", "*", "--", "-")
_THOUSANDS = r"^[+-]?\d{1,3}(,\d{3})+(\.\d+)?$"
_DAY = r"^(\d{1,4}[-/]\d{1,2}[-/]\d{1,4})(?:[T ]\s*\d{1,2}:\d{2}.*)?$"
_OFFSET = r"(Z|[+-]\d{2}:?\d{2})$"


def _grades() -> dict[str, str | None]:
    """Spelling to grade. Transitional kindergarten counts as PK: no norm of K fits it."""
    known: dict[str, str | None] = dict.fromkeys((*_BEFORE, *_TRANSITIONAL), "PK")
    known |= dict.fromkeys(_KINDERGARTEN, "K")
    known |= dict.fromkeys(_NO_GRADE)
    for number, (word, ordinal) in enumerate(zip(_WORDS, _ORDINALS, strict=True), start=1):
        short = f"{number}{_SUFFIXES.get(number, 'th')}"
        known |= dict.fromkeys((str(number), f"{number:02}", f"{number}.0", short, word, ordinal), str(number))
    for spelling in list(known):
        known[f"grade {spelling}"] = known[f"{spelling} grade"] = known[spelling]
    return known


_GRADES = _grades()


@dataclass(frozen=True)
class Reading:
    """What a cell's meaning depends on beside its column."""

    latest: date
    """Later days are out of range."""
    time_zone: str = "UTC"
    vocabulary: tuple[str, ...] = ()
    serials: bool = False
    """Five digits may be an Excel day."""
    missing: tuple[str, ...] = field(default=())
    """The layout's spellings of a missing value."""


@dataclass(frozen=True)
class Cell:
    """A typed value and the code of the rule its cell breaks (0 where none)."""

    value: pl.Expr
    broken: pl.Expr


def read(text: pl.Expr, column: Column, reading: Reading) -> Cell:
    """The column's value of each cell. ``text`` is trimmed and null where blank."""
    if column.split is None or column.type == "terms":
        return _one(text, column, reading)
    parts = text.str.split(column.split)
    each = pl.element().str.strip_chars()
    inner = _one(each.replace("", None), column, reading)
    joined = parts.list.eval(inner.value.cast(pl.String)).list.drop_nulls().list.unique().list.sort().list.join(";")
    return Cell(joined.replace("", None), parts.list.eval(inner.broken).list.max().fill_null(0))


def _one(text: pl.Expr, column: Column, reading: Reading) -> Cell:
    given = _without(text, (*reading.missing, *column.missing, *(("0",) if column.type == "id" else ())))
    part = given.str.extract(column.pattern, 1) if column.pattern else given
    value = _TYPES[column.type](_spelled(part, column), column, reading)
    known: pl.Expr = value.is_not_null()
    if column.type in _NULL_IS_KNOWN:
        known = known | _NULL_IS_KNOWN[column.type](part, column)
    broken = pl.when(given.is_not_null() & ~known).then(CODES[_RULE.get(column.type, "not_understood")]).otherwise(0)
    if column.otherwise is not None:
        value = pl.when(given.is_not_null() & ~known).then(literal(column.otherwise, column)).otherwise(value)
        broken = pl.lit(0)
    outside = _outside(value, column, reading)
    if outside is not None:
        broken = pl.when(outside).then(CODES["out_of_range"]).otherwise(broken)
        value = pl.when(~outside).then(value)
    if column.blank is not None:
        value = pl.when(given.is_null()).then(literal(column.blank, column)).otherwise(value)
    return Cell(value, broken.cast(pl.UInt8))


def literal(text: str, column: Column) -> pl.Expr:
    """A layout's own word as a value of the column's type; ``null`` is null."""
    dtype = dtype_of(column)
    if text == "null":
        return pl.lit(None, dtype=dtype)
    if dtype == pl.Boolean:
        return pl.lit(_BOOLEANS[text.lower()])
    if dtype == pl.Date:
        return pl.lit(date.fromisoformat(text))
    if dtype.is_numeric():
        return pl.lit(float(text)).cast(dtype)
    return pl.lit(text)


def dtype_of(column: Column) -> pl.DataType:
    """The Polars type of a column's values."""
    if column.split:
        return pl.String()
    return _DTYPES.get(column.type, pl.String())


def school_year(day: pl.Expr, starts: tuple[int, int]) -> pl.Expr:
    """The ending year of the school year a day lies in."""
    month, first = starts
    begun = (day.dt.month() > month) | ((day.dt.month() == month) & (day.dt.day() >= first))
    if starts == (1, 1):
        begun = pl.lit(False)
    return (day.dt.year() + begun.cast(pl.Int32)).cast(pl.String)


def season(day: pl.Expr) -> pl.Expr:
    """Fall to 15 November, winter to 1 March, spring after (SEMANTICS 6.1), of a year that starts in July."""
    rank = day.dt.month().cast(pl.Int32) * 100 + day.dt.day()
    winter = (rank > 1115) | (rank <= 301)
    return pl.when(winter).then(pl.lit("winter")).when(rank < 701).then(pl.lit("spring")).otherwise(pl.lit("fall"))


def _without(text: pl.Expr, missing: Iterable[str]) -> pl.Expr:
    """Null where the cell spells a missing value, without regard to case."""
    words = sorted({word.strip().lower() for word in missing})
    if not words:
        return text
    cased = any(word != word.upper() for word in words)
    return pl.when(~(text.str.to_lowercase() if cased else text).is_in(words)).then(text)


def _spelled(text: pl.Expr, column: Column) -> pl.Expr:
    """The vendor's words in ours, where the layout translates some cells of a typed column."""
    if not column.values or column.type == "code":
        return text
    mapping = {word.lower(): value for word, value in column.values.items()}
    ours = text.str.to_lowercase().replace_strict(mapping, default=None, return_dtype=pl.String)
    return pl.coalesce(ours, text)


def _number(text: pl.Expr, column: Column, reading: Reading) -> pl.Expr:
    plain = text.cast(pl.Float64, strict=False)
    grouped = pl.when(text.str.contains(_THOUSANDS)).then(text.str.replace_all(",", "", literal=True))
    value = pl.coalesce(plain, grouped.cast(pl.Float64, strict=False))
    return pl.when(value.is_finite()).then(value)


def _integer(text: pl.Expr, column: Column, reading: Reading) -> pl.Expr:
    value = _number(text, column, reading)
    return pl.when(value == value.round()).then(value).cast(pl.Int64, strict=False)


def _percentile(text: pl.Expr, column: Column, reading: Reading) -> pl.Expr:
    """``>99`` is 99 and ``<1`` is 1: the bound is the closest rank the vendor states."""
    bare = pl.coalesce(text.str.extract(r"^[<>]=?\s*(\d+(?:\.\d+)?)$", 1), text.str.strip_suffix("%"))
    return _number(_without(bare, _MISSING_PERCENTILES), column, reading)


def _date(text: pl.Expr, column: Column, reading: Reading) -> pl.Expr:
    day = text.str.extract(_DAY, 1)
    tried = [_in_format(text, each) for each in column.formats]
    tried += [day.str.to_date(each, strict=False) for each in ("%Y-%m-%d", "%m/%d/%Y")]
    if reading.serials:
        serial = text.str.extract(r"^(\d{5})(?:\.\d+)?$", 1).cast(pl.Int64, strict=False)
        tried.append(pl.lit(date(1899, 12, 30)) + pl.duration(days=serial))
    value = pl.coalesce(*tried) if len(tried) > 1 else tried[0]
    return pl.when(value.dt.year() >= 1000).then(value)


def _in_format(text: pl.Expr, form: str) -> pl.Expr:
    if re.search(r"%[HIsfp]", form):
        return text.str.to_datetime(form, strict=False, time_unit="us").dt.date()
    return text.str.to_date(form, strict=False)


def _moment(text: pl.Expr) -> pl.Expr:
    """An ISO instant with its offset; null without one."""
    iso = text.str.replace(" ", "T", literal=True).str.replace("Z$", "+00:00")
    with_offset = pl.when(text.str.contains(_OFFSET)).then(iso)
    tried = [
        with_offset.str.to_datetime(form, strict=False, time_zone="UTC", time_unit="us")
        for form in ("%Y-%m-%dT%H:%M:%S%.f%:z", "%Y-%m-%dT%H:%M%:z")
    ]
    return pl.coalesce(*tried)


def _unzoned(text: pl.Expr) -> pl.Expr:
    """A day with a time and no offset."""
    times = ("%H:%M:%S%.f", "%H:%M", "%I:%M:%S %p", "%I:%M %p")
    forms = [f"{day}T{time}" for day in ("%Y-%m-%d", "%m/%d/%Y") for time in times]
    glued = text.str.replace(r"[T ]+", "T")
    return pl.coalesce(*[glued.str.to_datetime(form, strict=False, time_unit="us") for form in forms])


def _instant(text: pl.Expr, column: Column, reading: Reading) -> pl.Expr:
    """The local day of a UTC instant; a day without a time is local already (SEMANTICS 2.5)."""
    utc = pl.coalesce(_moment(text), _unzoned(text).dt.replace_time_zone("UTC"))
    local = utc.dt.convert_time_zone(reading.time_zone).dt.date()
    return pl.coalesce(local, pl.when(~text.str.contains(":")).then(_date(text, column, reading)))


def _time(text: pl.Expr) -> pl.Expr:
    bare = text.str.replace(r"^(\d{1,2}:\d{2}:\d{2})\.\d+", "${1}")
    forms = ("%H:%M:%S", "%I:%M:%S %p", "%I:%M %p", "%H:%M")
    return pl.coalesce(*[bare.str.to_time(form, strict=False) for form in forms])


def _local_time(text: pl.Expr, column: Column, reading: Reading) -> pl.Expr:
    return _time(text).dt.strftime("%H:%M:%S")


def _local_datetime(text: pl.Expr, column: Column, reading: Reading) -> pl.Expr:
    """Local day and time; a time with an offset is converted, a day alone stays a day."""
    zoned = _moment(text).dt.convert_time_zone(reading.time_zone).dt.replace_time_zone(None)
    full = pl.coalesce(zoned, _unzoned(text))
    sound = pl.when(full.dt.year() >= 1000).then(full)
    day = pl.when(~text.str.contains(":")).then(_date(text, column, reading))
    return pl.coalesce(sound.dt.strftime("%Y-%m-%dT%H:%M:%S"), day.dt.strftime("%Y-%m-%d"))


def _grade(text: pl.Expr, column: Column, reading: Reading) -> pl.Expr:
    return text.str.to_lowercase().replace_strict(_GRADES, default=None, return_dtype=pl.String)


def _boolean(text: pl.Expr, column: Column, reading: Reading) -> pl.Expr:
    return text.str.to_lowercase().replace_strict(_BOOLEANS, default=None, return_dtype=pl.Boolean)


def _school_year(text: pl.Expr, column: Column, reading: Reading) -> pl.Expr:
    """The ending year. A year alone is the ending year, but ``Fall 2021`` is the fall of 2021-2022."""
    years = r"^[^\d]*(\d{4})(?:\s*[-–/]\s*(\d{4}|\d{2}))?$"
    first = text.str.extract(years, 1).cast(pl.Int64, strict=False)
    second = text.str.extract(years, 2).cast(pl.Int64, strict=False)
    following = pl.when((second == first + 1) | (second == (first + 1) % 100)).then(first + 1)
    alone = first + text.str.contains(r"(?i)^\s*(fall|autumn)\b").cast(pl.Int64)
    value = pl.when(second.is_null()).then(alone).otherwise(following)
    return pl.when(value.is_between(EARLIEST.year, reading.latest.year + 1)).then(value).cast(pl.String)


def _code(text: pl.Expr, column: Column, reading: Reading) -> pl.Expr:
    return _coded(text, column).replace("null", None)


def _coded(text: pl.Expr, column: Column) -> pl.Expr:
    mapping = {word.strip().lower(): value for word, value in column.values.items()}
    found = text.str.to_lowercase().replace_strict(mapping, default=None, return_dtype=pl.String)
    for pattern, value in column.patterns:
        found = pl.coalesce(found, pl.when(text.str.contains(f"(?i){pattern}")).then(pl.lit(value)))
    return found


def _terms(text: pl.Expr, column: Column, reading: Reading) -> pl.Expr:
    words = sorted(set(reading.vocabulary))
    if not words:
        return pl.lit(None, dtype=pl.String)
    found = [pl.when(text.str.contains(rf"(?i)\b{re.escape(word)}\b")).then(pl.lit(word)) for word in words]
    return pl.concat_str(found, separator=";", ignore_nulls=True).replace("", None)


def _length(text: pl.Expr, column: Column, reading: Reading) -> pl.Expr:
    return text.str.len_chars().cast(pl.Int64)


def _text(text: pl.Expr, column: Column, reading: Reading) -> pl.Expr:
    return text


def _outside(value: pl.Expr, column: Column, reading: Reading) -> pl.Expr | None:
    """Where a value is implausible; None where any is fine."""
    if column.type in ("date", "instant") and not column.vault:
        later = 0 if column.max is None else int(column.max) - DAYS_AFTER_EXPORT
        return ~value.is_between(EARLIEST, reading.latest + timedelta(days=later))
    if column.type == "local_datetime":
        day = value.str.slice(0, 10)
        return (day < EARLIEST.isoformat()) | (day > reading.latest.isoformat())
    low, high = column.min, column.max
    if column.type == "percentile":
        low, high = (0 if low is None else low), (100 if high is None else high)
    if low is None and high is None:
        return None
    return ~value.is_between(low if low is not None else -float("inf"), high if high is not None else float("inf"))


def latest_day(export_day: date) -> date:
    """The last plausible day of a file exported on a day."""
    return export_day + timedelta(days=DAYS_AFTER_EXPORT)


_TYPES: dict[str, Callable[[pl.Expr, Column, Reading], pl.Expr]] = {
    "text": _text,
    "id": _text,
    "person": _text,
    "code": _code,
    "number": _number,
    "integer": _integer,
    "percentile": _percentile,
    "date": _date,
    "instant": _instant,
    "local_time": _local_time,
    "local_datetime": _local_datetime,
    "grade": _grade,
    "boolean": _boolean,
    "school_year": _school_year,
    "terms": _terms,
    "note": _length,
}

_DTYPES: dict[str, pl.DataType] = {
    "number": pl.Float64(),
    "percentile": pl.Float64(),
    "integer": pl.Int64(),
    "note": pl.Int64(),
    "date": pl.Date(),
    "instant": pl.Date(),
    "boolean": pl.Boolean(),
}

_RULE = {
    "number": "not_a_number",
    "integer": "not_an_integer",
    "percentile": "not_a_percentile",
    "date": "not_a_date",
    "instant": "not_a_date",
    "local_time": "not_a_time",
    "local_datetime": "not_a_time",
    "grade": "not_a_grade",
    "boolean": "not_a_boolean",
    "school_year": "not_a_school_year",
    "code": "unknown_code",
}

_NULL_IS_KNOWN: dict[str, Callable[[pl.Expr, Column], pl.Expr]] = {
    "code": lambda text, column: _coded(text, column).is_not_null().fill_null(False),
    "percentile": lambda text, column: text.str.to_lowercase().is_in(_MISSING_PERCENTILES).fill_null(False),
    "grade": lambda text, column: text.str.to_lowercase().is_in(_NO_GRADE).fill_null(False),
    "terms": lambda text, column: pl.lit(True),
}
