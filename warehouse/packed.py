"""Zip archives and workbooks of unknown origin: opened only as far as they stay small and mean what they say.

What an archive says of its sizes is never believed: bytes are counted as they unpack.
"""

import copy
import io
import lzma
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

MOST_MEMBERS = 10_000
MOST_DIRECTORY = 8 << 20
"""Bytes of an archive's directory, which is read whole before its members can be counted."""
MOST_BYTES = 4 << 30
MOST_WORKBOOK_BYTES = 1 << 30
SUSPECT_BYTES = 100 << 20  # below this any ratio is harmless
SUSPECT_RATIO = 200
MOST_CELLS = 100_000_000  # of one sheet: a stray cell in the far corner would fill the memory
MOST_TEXT = 1 << 30
"""Bytes in all cells of one sheet: a text that a million cells share is stored once and read a million times."""
LONGEST_NAME = 255  # bytes of a part of a path, as file systems have it
LONGEST_PATH = 1000
PIECE = 1 << 20
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
BROKEN = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    NotImplementedError,
    EOFError,
    RuntimeError,
    ValueError,
    OverflowError,
)
PLACE = re.compile(rb"""(?<![\w:.-])r\s*=\s*["']([A-Za-z]*)(\d*)(.)""", re.DOTALL)
CELL = re.compile(rb"<(?:\w+:)?c[\s/>]")
ROW = re.compile(rb"<(?:\w+:)?row[\s/>]")
SHARED = re.compile(rb"""<(?:\w+:)?c\s[^<>]*?\bt\s*=\s*["']s["'][^<>]*>\s*<(?:\w+:)?v[^<>]*>\s*(\d+)""")
TEXT = re.compile(rb"<(?:\w+:)?si\b[^<>]*?(?:/>|>(.*?)</(?:\w+:)?si\s*>)", re.DOTALL)
ENTITIES = re.compile(rb"<!\s*(?:doctype|entity)", re.IGNORECASE)
LONGEST_TAG = 1 << 18
MOST_NUMBER = 10**9


class Unsafe(Exception):
    """Not opened: by which rule, and what to do."""

    def __init__(self, rule: str, advice: str) -> None:
        super().__init__(advice)
        self.rule = rule
        self.advice = advice


@dataclass
class Budget:
    """Bytes that may still come out of an archive; they shrink as they come."""

    left: int

    @classmethod
    def of(cls, packed: int, most: int | None = None) -> "Budget":
        """For so many packed bytes; ``MOST_BYTES`` at the most where nothing else is said."""
        return cls(min(MOST_BYTES if most is None else most, max(SUSPECT_BYTES, SUSPECT_RATIO * packed)))

    def spend(self, size: int) -> None:
        """Take bytes that came.

        Raises:
            Unsafe: there were too many.
        """
        self.left -= size
        if self.left < 0:
            raise bomb()


def bomb() -> Unsafe:
    """What unpacks to too much."""
    return Unsafe("zip_bomb", "the archive unpacks to more than an export can hold. Land its files themselves.")


class _Bounded(io.RawIOBase):
    """A file of which no more than a directory can be read at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if size > MOST_DIRECTORY:
            raise bomb()
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


@contextmanager
def opened(source: Path | bytes) -> Iterator[zipfile.ZipFile]:
    """An archive whose directory says nothing that would have to be refused.

    Raises:
        Unsafe: it is broken, or its names, its members or its sizes are not those of an export.
    """
    try:
        with (
            io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file,
            zipfile.ZipFile(_Bounded(file)) as archive,
        ):
            yield archive
    except BROKEN:
        raise Unsafe("broken_archive", "the archive is broken or incomplete. Land it again.") from None


def members(archive: zipfile.ZipFile, budget: Budget) -> list[zipfile.ZipInfo]:
    """The files of an archive.

    Raises:
        Unsafe: one of them could not be opened, and with it none may be.
    """
    found = [member for member in archive.infolist() if not member.is_dir()]
    if len(found) > MOST_MEMBERS or sum(member.file_size for member in found) > budget.left:
        raise bomb()
    for member in found:
        _refuse_unsafe(member)
    if len({member.filename for member in found}) < len(found):
        advice = "two files of the archive have one name. Land its files themselves."
        raise Unsafe("duplicate_name", advice)
    return found


def _refuse_unsafe(member: zipfile.ZipInfo) -> None:
    parts = member.filename.replace("\\", "/").split("/")
    if parts[0] == "" or ".." in parts or ":" in parts[0]:
        raise Unsafe("unsafe_path", "the archive holds a name that leads out of its folder. Ask who sent it.")
    if too_long(member.filename):
        raise Unsafe("unsafe_path", "a name in the archive is too long for a file. Shorten it and pack again.")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind and kind != stat.S_IFREG:
        raise Unsafe("unsafe_path", "the archive holds a link or a device. Pack the file itself.")
    if member.flag_bits & 1:
        raise Unsafe("encrypted_archive", "the archive is protected by a password. Land it without one.")
    if member.compress_type not in METHODS:
        advice = "the archive is packed in another way than zip programs do by default. Pack it again as a plain .zip."
        raise Unsafe("unsupported_archive", advice)


def too_long(path: str) -> bool:
    """Whether a path, or a part of it, is longer than file systems allow."""
    parts = path.replace("\\", "/").split("/")
    return len(path) > LONGEST_PATH or any(len(part.encode(errors="replace")) > LONGEST_NAME for part in parts)


def unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, budget: Budget) -> Iterator[bytes]:
    """What a member really unpacks to, piece by piece.

    Raises:
        Unsafe: it is more than may come, or not as much as the archive says.
    """
    whole = copy.copy(member)
    whole.file_size = budget.left + 2 * PIECE  # zipfile cuts at the size it is told
    size = 0
    with archive.open(whole) as stream:
        while piece := stream.read(PIECE):
            budget.spend(len(piece))
            size += len(piece)
            yield piece
    if size != member.file_size:
        raise Unsafe("broken_archive", "the archive is broken: a file in it has another size than it says.")


@dataclass
class _Sheet:
    """How far a sheet reaches, and how much text its cells hold, taken from its XML before anybody reads it."""

    lengths: npt.NDArray[np.int64]
    """Bytes of each shared text."""
    rows: int = 1
    columns: int = 1
    corner: str = "A1"
    text: int = 0

    def look(self, piece: bytes) -> None:
        """Take in a piece of whole tags."""
        places = PLACE.findall(piece)
        if any(end not in b"\"'" or not number for _, number, end in places):
            raise Unsafe("broken_archive", "a sheet of the workbook has a cell without a place. Save it again.")
        self.rows = max(self.rows, max((_number(number) for _, number, _ in places), default=1))
        self.columns = max(self.columns, *map(_column, {letters for letters, _, _ in places}), 1)
        lacking = len(CELL.findall(piece)) - sum(1 for letters, _, _ in places if letters)
        if lacking > 0:  # cells follow each other: the longest row counts
            parts = ROW.split(piece)
            self.rows += len(parts)
            self.columns = max(self.columns, max(len(CELL.findall(part)) for part in parts))
        used = np.array([_number(each) for each in SHARED.findall(piece)], np.int64)
        self.text += int(self.lengths[used[used < self.lengths.size]].sum())

    def refuse_vast(self) -> None:
        """Refuse what would fill the memory."""
        if self.rows * self.columns > MOST_CELLS:
            corner = f"{_letters(self.columns)}{self.rows}"
            advice = f"a sheet reaches to cell {corner}. Delete the empty rows and columns after the table and save it."
            raise Unsafe("vast_sheet", advice)
        if self.text > MOST_TEXT:
            raise bomb()


def _number(digits: bytes) -> int:
    return int(digits) if len(digits) < len(str(MOST_NUMBER)) else MOST_NUMBER


def _column(letters: bytes) -> int:
    width = 0
    for letter in letters[:4].upper():
        width = width * 26 + letter - ord("A") + 1
    return width


def _letters(column: int) -> str:
    text = ""
    while column:
        column, rest = divmod(column - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def refuse_unsafe_workbook(data: bytes) -> None:
    """Measure a workbook, so that reading it cannot fill the memory or fetch anything. Old binary ones pass.

    Raises:
        Unsafe: it is broken, unpacks to too much, reaches too far, or declares entities.
    """
    if not data.startswith(b"PK"):
        return
    budget = Budget.of(len(data), MOST_WORKBOOK_BYTES)
    lengths = np.zeros(0, np.int64)
    with opened(data) as archive:
        parts = {member.filename.lower(): member for member in members(archive, budget)}
        for name in sorted(parts, key=lambda each: not each.endswith("sharedstrings.xml")):
            if name.endswith("workbook.bin"):
                raise Unsafe("unsupported_archive", "binary workbooks are not opened. Save it as .xlsx.")
            pieces = unpack(archive, parts[name], budget)
            if not name.endswith((".xml", ".rels")):
                for _ in pieces:
                    pass
            elif name.endswith("sharedstrings.xml"):
                text = b"".join(_tagged(pieces))
                _refuse_entities(text)
                lengths = np.array([len(each) for each in TEXT.findall(text)], np.int64)
            else:
                _look_through(_tagged(pieces), _Sheet(lengths) if name.startswith("xl/worksheets/") else None)


def _look_through(pieces: Iterator[bytes], sheet: _Sheet | None) -> None:
    for piece in pieces:
        _refuse_entities(piece)
        if sheet is not None:
            sheet.look(piece)
    if sheet is not None:
        sheet.refuse_vast()


def _refuse_entities(piece: bytes) -> None:
    if ENTITIES.search(piece):
        raise Unsafe(
            "unsafe_workbook", "the workbook declares entities, which no spreadsheet program writes. Save it anew."
        )


def _tagged(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces that end before a tag, so that no tag is in two."""
    rest = b""
    for piece in pieces:
        text = rest + piece
        end = max(text.rfind(b"<"), 0)
        rest = text[end:]
        if len(rest) > LONGEST_TAG + PIECE:
            raise Unsafe("broken_archive", "the workbook holds a text longer than a cell can be. Save it anew.")
        yield text[:end]
    yield rest
