"""What a disk that cannot be written says, in words for whoever can help: no path of ours, no cell."""

import errno
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

FULL = "the disk is full. Make room on it, then run again"
READ_ONLY = "the disk is read-only. Make it writable, then run again"
FORBIDDEN = "this user may not read or write it. Give the home to the user who runs Tierline, then run again"
BROKEN = "the disk reports an error. Check it before anything else, then run again"
LITTLE = 1 << 20
"""Bytes; a disk with less free is full for whoever needs more at once."""
_NUMBERS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: FULL,
    errno.EROFS: READ_ONLY,
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
    errno.EIO: BROKEN,
}
_SQLITE = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: FORBIDDEN,
    sqlite3.SQLITE_PERM: FORBIDDEN,
    sqlite3.SQLITE_IOERR: BROKEN,
}
_WORDS = (
    (re.compile(r"no space left on device|disk quota exceeded|file too large|disk is full", re.I), FULL),
    (re.compile(r"read-only file system|readonly database", re.I), READ_ONLY),
    (re.compile(r"permission denied|operation not permitted|unable to open database file", re.I), FORBIDDEN),
    (re.compile(r"input/output error", re.I), BROKEN),
)
"""Delta, DuckDB and Polars keep no number of the error."""


def disk_fault(error: BaseException, near: Path | None = None) -> str | None:
    """What is wrong with the disk and what to do, if that is what an error is about; it ends without a full stop.

    Args:
        error: It or what it came from: whoever wraps an error may leave its number behind.
        near: A folder on that disk. SQLite calls a full or read-only disk one that cannot be opened or is broken.
    """
    told = next((told for each in _chain(error) if (told := _of(each))), None)
    return _looked(near) or told if told in (FORBIDDEN, BROKEN) and near is not None else told


def _looked(near: Path) -> str | None:
    """What the disk itself says."""
    while not near.exists():
        near = near.parent
    about = os.statvfs(near)
    if about.f_flag & os.ST_RDONLY:
        return READ_ONLY
    return FULL if about.f_bavail * about.f_frsize < LITTLE else None


def reason(error: BaseException) -> str:
    """What is wrong with the disk, else the error's type: its own words may hold a cell."""
    return disk_fault(error) or type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _of(error: BaseException) -> str | None:
    if isinstance(error, OSError) and error.errno is not None:
        return _NUMBERS.get(error.errno)
    if isinstance(error, sqlite3.Error):
        return _SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    return next((told for words, told in _WORDS if words.search(str(error))), None)
