"""Physical lines of delimited text, judged by array operations; not yet what becomes of them."""

import codecs
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DELIMITERS = (",", "\t", ";", "|")
LONGEST_RECORD = 50  # lines after the first of a quoted record
MOST_COLUMNS = 5_000  # the widest real export has 1,711
LONGEST_HEADER = 1 << 20  # bytes
LONGEST_LINE = 64 << 20  # bytes: the widest row of the longest cells
LONGEST_HEADER_CELL = 1_000  # characters
CHUNK = 1 << 20  # bytes: the masks of one chunk stay in the processor's cache

NEWLINE, RETURN, QUOTE = ord("\n"), ord("\r"), ord('"')
UTF16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UNDEFINED_1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
STAND_IN = "\x1f"  # a record that holds it is damaged anyhow
IS_CONTROL = np.zeros(256, np.bool_)
IS_CONTROL[:32] = True
IS_CONTROL[[ord("\t"), NEWLINE, RETURN]] = False

Lines = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class UnreadableExport(Exception):
    """A file that cannot be read at all: what is wrong, where, and what to do. Never holds a cell."""


@dataclass(frozen=True)
class Header:
    cells: tuple[str, ...]
    text: bytes  # as written, without its line end
    delimiter: str
    ends_at: int  # offset of the byte after it
    lines: int  # physical lines up to and including it


@dataclass(frozen=True)
class Scan:
    """The physical lines after the header, judged one by one, each as if it began outside quotes."""

    starts: Lines
    ends: Lines  # without the line end
    fields: Lines
    odd: Flags  # an odd number of quotes
    misplaced: Flags  # a quote where RFC 4180 allows none
    control: Flags
    repeats_header: Flags
    broken: Lines  # lines that are not UTF-8
    has_utf8: bool  # some line has valid UTF-8 beyond ASCII


def decoded(data: bytes) -> tuple[bytes, str]:
    """Bytes in which delimiters, quotes and line ends are ASCII; the encoding if a byte order mark tells."""
    if data.startswith(UTF16_BOMS):
        try:
            text = data.decode("utf-16").encode()
        except UnicodeError:
            # What cannot be decoded becomes a byte that UTF-8 never holds, and damages only its own record.
            text = data.decode("utf-16", "replace").encode(errors="replace").replace("\ufffd".encode(), b"\xff")
        return text, "utf-16"
    encoding = "utf-8" if data.startswith(codecs.BOM_UTF8) else ""
    if b"\n" not in data and b"\r" in data:  # line ends of classic Mac OS
        data = data.replace(b"\r", b"\n")
    return data, encoding


def read_first_record(data: bytes, name: str) -> Header:
    """The first record that is not blank. Its delimiter is the most frequent one outside quotes."""
    at, lines = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0, 0
    unclosed = f"{name}: a quote in the header is never closed. Export the file again."
    begins_at = at
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        lines += 1
        text = data[begins_at:end].rstrip(b"\r")
        at = end + 1
        if not text.strip():
            begins_at = at
        elif text.count(b'"') % 2 == 0:
            break
        elif text.count(b"\n") >= LONGEST_RECORD:
            raise UnreadableExport(unclosed)
        if len(text) >= LONGEST_HEADER:
            break
    else:
        if begins_at >= len(data):
            raise UnreadableExport(f"{name}: the file has no header and no rows. Export it again.")
        raise UnreadableExport(unclosed)
    if len(text) >= LONGEST_HEADER:
        raise UnreadableExport(f"{name}: line 1 is longer than a header can be. Export the file again.")
    if CONTROLS.search(text):
        raise UnreadableExport(
            f"{name}: the header has bytes that no text file has. Export it as CSV, .xlsx or JSON Lines."
        )
    unquoted = re.sub(rb'"[^"]*"', b"", text)
    delimiter = max(DELIMITERS, key=lambda candidate: unquoted.count(candidate.encode()))
    try:
        decoded_text = text.decode()
    except UnicodeDecodeError:
        if UNDEFINED_1252.search(text):
            raise UnreadableExport(
                f"{name}: the header is neither UTF-8 nor Windows-1252 text. Save the file as CSV (UTF-8)."
            ) from None
        decoded_text = text.decode("cp1252")
    cells = cells_of(decoded_text, delimiter)
    if cells is None:
        raise UnreadableExport(f"{name}: the quotes in the header do not pair. Export the file again.")
    names = tuple(cell.strip(" \t\r\n\ufeff\xa0") for cell in cells)
    return Header(refuse_odd_header(names, name), text, delimiter, min(at, len(data)), lines)


def refuse_odd_header(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    """The header, if it is one: the rules that look for a layout compare every name with every other."""
    if len(names) > MOST_COLUMNS:
        raise UnreadableExport(
            f"{name}: the header has {len(names):,} columns, and no export has more than {MOST_COLUMNS:,}."
        )
    if longest := next((at for at, each in enumerate(names, 1) if len(each) > LONGEST_HEADER_CELL), 0):
        raise UnreadableExport(f"{name}: the name of column {longest} is longer than a name can be. Export it again.")
    return names


def cells_of(text: str, delimiter: str) -> list[str] | None:
    """The cells of one record, or None if its quotes are not those of one record."""
    has_return = "\r" in text  # inside a cell, where the csv module would end the record
    try:
        [cells] = csv.reader([text.replace("\r", STAND_IN) if has_return else text], delimiter=delimiter, strict=True)
    except (csv.Error, ValueError):
        return None
    return [cell.replace(STAND_IN, "\r") for cell in cells] if has_return else cells


def too_long_a_line(name: str, line: int) -> UnreadableExport:
    """Of a file that is no table."""
    return UnreadableExport(f"{name}: line {line} is longer than any row can be. Export the file again.")


def _chunks(data: bytes, begin: int, name: str) -> Iterator[tuple[int, bytes]]:
    """Pieces of whole lines, each ending in a newline."""
    while begin < len(data):
        end = data.rfind(b"\n", begin, begin + CHUNK) + 1 or data.find(b"\n", begin + CHUNK) + 1
        if (end or len(data)) - begin > LONGEST_LINE:
            raise too_long_a_line(name, data.count(b"\n", 0, begin) + 1)
        yield begin, data[begin:end] if end else data[begin:] + b"\n"
        begin = end or len(data)


def scan_lines(data: bytes, header: Header, name: str) -> Scan:
    """One pass of array operations over the bytes: no loop over lines except where bytes are not UTF-8."""
    before = np.zeros(256, np.bool_)
    before[[ord(header.delimiter), NEWLINE, QUOTE]] = True
    after = before.copy()
    after[RETURN] = True
    parts: list[tuple[Lines, Lines, Lines, Flags, Flags, Flags, Flags]] = []
    broken: list[int] = []
    has_utf8 = False
    seen = 0
    for offset, piece in _chunks(data, header.ends_at, name):
        octets = np.frombuffer(piece, np.uint8)
        newlines = np.flatnonzero(octets == NEWLINE)
        starts = np.concatenate(([0], newlines[:-1] + 1))
        ends = newlines.copy()
        for _ in range(2):  # some tools write CRLF through a stream that writes LF as CRLF
            ends -= (octets[ends - 1] == RETURN) & (ends > starts)
        quotes = np.flatnonzero(octets == QUOTE)
        delimiters = octets == ord(header.delimiter)
        odd = misplaced = control = np.zeros(newlines.size, np.bool_)
        if quotes.size:
            odd = (np.diff(np.searchsorted(quotes, newlines), prepend=0) & 1).astype(np.bool_)
            inside = _inside_quotes(quotes, newlines[odd], octets.size)
            if odd.any():
                opening = inside[quotes]
                opens, closes = quotes[opening], quotes[~opening]
            else:
                opens, closes = quotes[::2], quotes[1::2]
            wrong_open = ~before[octets[opens - 1]]
            wrong_close = ~after[octets[closes + 1]]
            returns_at = np.flatnonzero(octets[closes + 1] == RETURN)
            wrong_close[returns_at[octets[closes[returns_at] + 2] != NEWLINE]] = True
            if wrong_open.any() or wrong_close.any():
                misplaced = _on_lines(np.concatenate((opens[wrong_open], closes[wrong_close])), newlines)
            delimiters &= ~inside
        fields = np.add.reduceat(delimiters.view(np.uint8), starts, dtype=np.int32) + 1
        fields[starts == ends] = 0
        low = np.count_nonzero(octets < 32)
        if low != newlines.size and low != np.count_nonzero(~IS_CONTROL[octets] & (octets < 32)):
            control = _on_lines(np.flatnonzero(IS_CONTROL[octets]), newlines)
        if not piece.isascii():
            try:
                piece.decode()
                has_utf8 = True
            except UnicodeDecodeError:
                high = _on_lines(np.flatnonzero(octets > 127), newlines)
                for line in np.flatnonzero(high).tolist():
                    try:
                        piece[starts[line] : ends[line]].decode()
                        has_utf8 = True
                    except UnicodeDecodeError:
                        broken.append(seen + line)
        repeats = _equal_lines(octets, starts, ends, header.text)
        parts.append((starts + offset, ends + offset, fields, odd, misplaced, control, repeats))
        seen += newlines.size
    if not parts:
        none, no = np.empty(0, np.int64), np.empty(0, np.bool_)
        parts.append((none, none, none, no, no, no, no))
    starts, ends, fields, odd, misplaced, control, repeats = map(np.concatenate, zip(*parts, strict=True))
    return Scan(starts, ends, fields, odd, misplaced, control, repeats, np.array(broken, np.int64), has_utf8)


def _inside_quotes(quotes: Lines, resets: Lines, size: int) -> Flags:
    """Which bytes are quoted, an opening quote included. A reset ends a quote that its line leaves open."""
    flips = np.sort(np.concatenate((quotes, resets)), kind="stable") if resets.size else quotes
    runs = np.diff(flips, prepend=0, append=size)
    state = np.zeros(runs.size, np.bool_)
    state[1::2] = True
    return np.repeat(state, runs)


def _on_lines(positions: Lines, newlines: Lines) -> Flags:
    lines = np.zeros(newlines.size, np.bool_)
    lines[np.searchsorted(newlines, positions)] = True
    return lines


def _equal_lines(octets: npt.NDArray[np.uint8], starts: Lines, ends: Lines, text: bytes) -> Flags:
    """Lines equal to the text, with or without a byte order mark: files glued together repeat both."""
    equal = np.zeros(starts.size, np.bool_)
    for wanted in (text, codecs.BOM_UTF8 + text):
        at = np.flatnonzero(ends - starts == len(wanted))
        for position, octet in enumerate(wanted):
            if not at.size:
                break
            at = at[octets[starts[at] + position] == octet]
        equal[at] = True
    return equal
