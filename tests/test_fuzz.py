"""Mutated files of every layout: no crash, every row has one outcome, and nothing but counts is said.

`make fuzz` tries all of them; `make test` a share, the same each time.
"""

import csv
import gzip
import io
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import polars as pl
import pytest
import xlsxwriter
from hypothesis import given
from hypothesis import strategies as st

from pipelines.reading import Reader, know
from tests.examples import ALL, examples
from tests.homes import SECRET, Clock, assert_balanced
from tests.memory import MemoryLog
from warehouse.home import Home
from warehouse.landing import open_landed
from warehouse.tabular import UnreadableExport, read_table
from warehouse.vault import Vault, derived_keys

ROOT = Path(__file__).resolve().parents[1]
EXPORTS = sorted((ROOT / "tests" / "exports").iterdir())
FILES = 2_500
"""By bytes, and as many by cells."""
BATCH = 50
"""Files that share a home: what one says of a student may meet what another said."""
POLICIES = (
    'time_zone = "America/Denver"\n[quality]\nmatch_rate_minimum = 0.0\n',
    'time_zone = "America/New_York"\nfull_extracts = ["nwea_map_assessment_results", "star_math"]\n',
)
TOKENS = (
    b'"', b'""', b",", b"\t", b";", b"|", b"\n", b"\r\n", b"\r", b"\n\n", b"\0", b"\x1b[31m", b"\x1a", b"\xff", b"\xfe",
    b"\xef\xbb\xbf", b"\xc3", b"\xed\xa0\x80", "\u202e".encode(), "\x9b".encode(), "\u2028".encode(), b"{", b"}",
    b"[" * 500, b"\\",
    b"\\u0000", b"\\ud800", b"9" * 400, b"-", b"1e999", b"NaN", b"=1+1", b"2025-13-45", b"0000-00-00", b"99/99/9999",
    b"x" * 10_001, b"x" * 140_000, b"null", b"'", b" ", b"PK\x03\x04", b"<html>",
)  # fmt: skip
HOSTILE = (
    "", " ", "-", "0", "-1", "99999999999999999999", "9" * 400, "1e308", "1e-400", "NaN", "inf", "0x1F", "1,234.5", "½",
    "१२३", "２０２５", "2025-02-30", "0001-01-01", "9999-12-31", "10/10/10", "12/31/1969", "45910", "999999999",
    "2025-10-10T25:61:00Z", "2025-10-10T10:00:00+99:99", "Fall 99999-100000", "=cmd|' /C calc'!A0", "@SUM(A1)", "\t=1",
    "<script>alert(1)</script>", "{{7*7}}", "%s%n", "../../etc/passwd", "a\nb", 'say "x"', "\x00", "\x1b[2J",
    "\u202eabc",
    "\ufeff", "e\u0301" * 50, "🧮" * 20, "x" * 9_999, "x" * 10_001, ";".join(["x"] * 3_000), "TRUE", "null", "K", "13",
)  # fmt: skip
WORD = re.compile(r"[\w.@/'-]+")


# What a file may be made into


def by_bytes(data: bytes, chance: random.Random) -> bytes:
    """A few blows, each where it happens to fall."""
    text = bytearray(data)
    for _ in range(chance.randint(1, 5)):
        blow = chance.choice(BLOWS)
        text = bytearray(blow(bytes(text), chance)) or bytearray(b"\n")
    return bytes(text)


def flip(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]


def insert(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + chance.choice(TOKENS) + data[at + chance.choice((0, 0, 1, 5)) :]


def delete(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + data[at + chance.choice((1, 2, 10, 300)) :]


def copy(data: bytes, chance: random.Random) -> bytes:
    """A piece of some rows once more, among the rows."""
    body = data.find(b"\n") + 1
    here, there = (chance.randint(min(body, len(data) - 1), len(data) - 1) for _ in range(2))
    return data[:there] + data[here : here + chance.choice((3, 40, 900))] + data[there:]


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(1, len(data) + 1)]


def glue(data: bytes, chance: random.Random) -> bytes:
    """One line end is lost, most often the header's."""
    ends = [at.start() for at in re.finditer(rb"\r?\n", data)]
    if not ends:
        return data
    at = ends[0] if chance.random() < 0.5 else chance.choice(ends)
    return data[:at] + data[at:].lstrip(b"\r\n")


def shuffle(data: bytes, chance: random.Random) -> bytes:
    head, *lines = data.splitlines(keepends=True)
    chance.shuffle(lines)
    return head + b"".join(lines)


def repeat(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    return b"".join(lines) if chance.random() < 0.8 else data + data


def recode(data: bytes, chance: random.Random) -> bytes:
    return data.decode("utf-8", "replace").encode(
        chance.choice(("utf-16", "utf-8-sig", "cp1252", "utf-16-be")), "replace"
    )


def rename(data: bytes, chance: random.Random) -> bytes:
    """One header is called otherwise."""
    head, end, rest = data.partition(b"\n")
    names = head.split(b",")
    at = chance.randrange(len(names))
    names[at] = chance.choice((b"", names[at] + b"s", names[at].swapcase(), b"Zq", chance.choice(names)))
    return b",".join(names) + end + rest


BLOWS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip, flip, insert, insert, insert, delete, copy, cut, glue, shuffle, repeat, recode, rename,
)  # fmt: skip


def by_cells(path: Path, changes: list[tuple[int, int, str]]) -> bytes:
    """Cells of the rows replaced, and the file written as it should be."""
    rows = [list(each) for each in records(path)]
    for row, column, cell in changes:
        if len(rows) > 1:
            line = rows[1 + row % (len(rows) - 1)]
            line[column % len(line)] = cell
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "replace")


def wrapped(data: bytes, name: str, chance: random.Random) -> tuple[str, bytes]:
    """As it is, most often; else packed, sometimes badly, or as a workbook."""
    kind = chance.choices(("plain", "gz", "zip", "xlsx"), (90, 3, 4, 3))[0]
    if kind == "gz":
        return f"{name}.gz", _hit(gzip.compress(data), chance)
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, data)
        return "bundle.zip", _hit(stream.getvalue(), chance)
    if kind == "xlsx":
        with xlsxwriter.Workbook(stream, {"strings_to_formulas": False, "strings_to_urls": False}) as book:
            sheet = book.add_worksheet()
            for number, line in enumerate(data.decode("utf-8", "replace").splitlines()):
                sheet.write_row(number, 0, [cell[:30_000] for cell in line.split(",")])
        return "book.xlsx", _hit(stream.getvalue(), chance)
    return name, data


def _hit(data: bytes, chance: random.Random) -> bytes:
    return flip(flip(data, chance), chance) if chance.random() < 0.4 else data


# Reading them


@cache
def records(path: Path) -> list[list[str]]:
    """Header and rows; of JSON Lines, a line is a row."""
    text = path.read_text("utf-8-sig")
    if path.suffix == ".jsonl":
        return [[], *([line] for line in text.splitlines())]
    return list(csv.reader(io.StringIO(text)))


@cache
def words_of_ours() -> frozenset[str]:
    """What layouts, contracts and messages say; no cell is known by it."""
    sources = [*ROOT.glob("schemas/**/*"), *ROOT.glob("*/*.py")]
    text = " ".join(path.read_text("utf-8", "replace") for path in sources if path.suffix in (".py", ".toml"))
    names = " ".join(name for path in EXPORTS for name in (records(path)[0] or [path.read_text("utf-8")]))
    return frozenset(WORD.findall((text + " " + names).lower()))


@cache
def cells_of(path: Path) -> frozenset[str]:
    """Words of four characters or more that only the rows of this file hold."""
    if path.suffix == ".jsonl":
        found = re.findall(r'"((?:[^"\\]|\\.)*)"', path.read_text("utf-8"))
    else:
        found = [cell for row in records(path)[1:] for cell in row]
    words = {word.lower() for cell in found for word in WORD.findall(cell) if len(word) >= 4}
    return frozenset(words - words_of_ours())


class Bench:
    """A home whose log is in memory, and everything that was said."""

    def __init__(self, folder: Path, policy: str) -> None:
        self.home = Home(folder).make()
        (self.home.policies / "d1.toml").write_text(policy)
        self.vault = Vault(self.home.vault, derived_keys(SECRET))
        self.log = MemoryLog(self.home)
        self.clock = Clock()
        self.reader = Reader("d1", self.home.policy("d1"), self.log, self.vault, SECRET, self.clock)
        self.files = 0

    def assert_accounted(self, name: str, data: bytes, source: Path) -> None:
        """Read one file as a load does: every row has an outcome, and nothing of it is told."""
        self.files += 1
        path = self.home.landing / f"{self.files}-{name}"
        path.write_bytes(data)
        landed, refused = open_landed(path, path.name, "d1")
        for each in refused:
            assert each.message.startswith(each.name) and each.rule
            self.says_nothing(each.message, source, b"")
        for each in landed:
            file = know(each, {})
            before = self.lines("rejected"), self.lines("parked")
            row = self.reader.read(file, "")
            assert_balanced(row)
            rejected, parked = self.log.rejected.parts[before[0] :], self.log.parked.parts[before[1] :]
            told = [str(row[column]) for column in ("message", "held_rule", "renamed_columns", "new_columns")]
            told += [str(column) for part in rejected for column in part["column"].unique()]
            self.says_nothing(" ".join(told), source, each.read())
            if row["status"] == "loaded":
                self.adds_up(row, each, rejected, parked)
        path.unlink()

    def lines(self, table: str) -> int:
        return len(getattr(self.log, table).parts)

    def adds_up(self, row: dict[str, object], landed: object, rejected: list, parked: list) -> None:
        """Each row of the file has one outcome, by its lines."""
        table = read_table(landed.read(), landed.name, ())  # type: ignore[attr-defined]
        assert row["data_rows"] == table.records
        lost = {line for part in rejected for line in part.filter(pl.col("slot").is_null())["source_line"]}
        waits = [line for part in parked for line in part["source_line"]]
        assert len(lost) == row["rejected"]
        assert len(set(waits)) == len(waits) == row["parked"]
        assert not lost & set(waits)
        for family in self.log.families.values():
            for part in family.parts[1:]:
                own = part.filter(pl.col("batch_id") == row["batch_id"], pl.col("attempt") == row["attempt"])
                assert not set(own["source_line"]) & (lost | set(waits))

    def says_nothing(self, told: str, source: Path, data: bytes) -> None:
        """No word of a row is told, but where it stands in the first line of a file whose rows fit that line."""
        leaked = {word.lower() for word in WORD.findall(told)} & cells_of(source)
        if leaked and data:
            try:
                table = read_table(data, "x", ())
            except UnreadableExport:
                table = None
            if table is not None and table.damaged.height * 2 < table.records:
                leaked -= {word.lower() for word in WORD.findall(" ".join(table.header))}
        assert not leaked, f"{source.name}: {len(leaked)} words of its rows are told"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Bench]]:
    made: list[Bench] = []

    def current() -> Bench:
        if not made or made[-1].files >= BATCH:
            if made:
                made.pop().vault.close()
            number = current.__dict__.setdefault("number", 0)
            current.__dict__["number"] += 1
            made.append(Bench(tmp_path_factory.mktemp("fuzz") / "home", POLICIES[number % len(POLICIES)]))
        return made[-1]

    yield current
    for each in made:
        each.vault.close()


SHARE = FILES if ALL else 30


@pytest.mark.parametrize("part", range(10))
def test_files_that_were_hit_anywhere_are_read_or_held(
    bench: Callable[[], Bench], capfd: pytest.CaptureFixture[str], part: int
):
    for seed in range(part * SHARE // 10, (part + 1) * SHARE // 10):
        chance = random.Random(seed)
        source = EXPORTS[seed % len(EXPORTS)]
        name, data = wrapped(by_bytes(source.read_bytes(), chance), source.name, chance)
        try:
            bench().assert_accounted(name, data, source)
        except Exception as error:
            raise AssertionError(f"file {seed}, made of {source.name}") from error
    said = capfd.readouterr()
    assert said.out + said.err == ""


@given(
    st.sampled_from(EXPORTS),
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 400), st.sampled_from(HOSTILE) | st.text(max_size=12)), max_size=12
    ),
    st.integers(0, 2**32),
)
@examples(FILES, share=100)
def test_files_with_any_cells_are_read_or_held(bench, source: Path, changes: list[tuple[int, int, str]], seed: int):
    name, data = wrapped(by_cells(source, changes), source.name, random.Random(seed))
    bench().assert_accounted(name, data, source)
