"""Landed files: what is in a district's landing folder, its archives opened; not what the files mean."""

import gzip
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath

from warehouse.packed import (
    BROKEN,
    MOST_BYTES,
    Budget,
    Unsafe,
    bomb,
    members,
    opened,
    too_long,
    unpack,
)
from warehouse.plain import plain
from warehouse.tabular import RawTable, UnreadableExport, is_workbook, read_header, read_table, sheet_names

__all__ = [
    "ChangedExport",
    "Landed",
    "RawTable",
    "Refused",
    "UnreadableExport",
    "discover",
    "open_landed",
    "read_header",
    "read_table",
]

UNFINISHED = (".part", ".tmp", ".crdownload")
ARCHIVES = (".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".7z", ".rar", ".zst")
DAY = re.compile(r"\d{4}-\d\d-\d\d")
YEARS = range(1970, 2100)
"""Of exports; other days are no days."""
RECEIVED = "received-"
"""A folder `received-2019-10-15` declares when a backfilled file had been received (SEMANTICS 5.1)."""
Content = bytes  # ``Landed.bytes`` is a number


@dataclass(frozen=True)
class Refused:
    """A file, or a member of an archive, that was not opened: by which rule, and what to do."""

    name: str
    rule: str
    message: str


class Refusal(Exception):
    def __init__(self, name: str, rule: str, advice: str) -> None:
        self.refused = Refused(name, rule, f"{name}: {advice}")
        super().__init__(self.refused.message)


class ChangedExport(UnreadableExport):
    """A file is not, or not only, what was discovered. That may be over at the next run, unlike what its bytes say."""


@dataclass(frozen=True)
class Landed:
    """One file, member of an archive or sheet of a workbook, before it is parsed.

    ``name`` is relative to the district's landing folder and says all: ``2026-09-01/star.zip!SM_v2.csv``,
    ``list.xlsx!Fall``; what does not print is escaped in it. ``bundle`` is the folder or archive (with the folder
    in it) that it arrived in.
    ``data_sha256`` is of the bytes; of a sheet, of the workbook's bytes, a zero byte and the sheet's name.
    """

    district_id: str
    path: Path
    member: str | None
    name: str
    bundle: str
    data_sha256: str
    bytes: int
    landed_on: date | None
    modified_at: datetime
    sheet: str | None = None
    received_on: date | None = None

    @property
    def is_packed(self) -> bool:
        """Whether the bytes on disk are compressed ones of a single file."""
        return self.path.suffix.lower() == ".gz"

    @property
    def is_unchanged(self) -> bool:
        """Whether the file on disk is still the one that was discovered, by its time and, if it is alone, its size."""
        try:
            about = self.path.lstat()
        except OSError:
            return False
        is_alone = self.member is None and self.sheet is None and not self.is_packed
        return self.modified_at == datetime.fromtimestamp(about.st_mtime, UTC) and (
            not is_alone or about.st_size == self.bytes
        )

    def read(self, *, may_have_grown: bool = False) -> Content:
        """The bytes that were discovered; a workbook's for each of its sheets.

        Args:
            may_have_grown: Of a file by itself to which something was added since, the bytes that it had then.

        Raises:
            ChangedExport: they are no longer there.
        """
        member = self.member
        if member is not None and self.sheet is not None:
            member = member.removesuffix(self.sheet).removesuffix("!") or None
        try:
            if self.is_packed:
                data = _gunzipped(self.path, self.name)
            elif member is None:
                with self.path.open("rb") as file:
                    data = file.read(self.bytes if may_have_grown else -1)
            else:
                with opened(self.path) as archive:
                    data = b"".join(unpack(archive, archive.getinfo(member), Budget(self.bytes)))
        except (OSError, KeyError, Refusal, Unsafe, *BROKEN):
            raise ChangedExport(f"{self.name}: the file is gone or can no longer be opened. Land it again.") from None
        if _digest(data, self.sheet) != self.data_sha256:
            raise self.changed
        return data

    @property
    def changed(self) -> "ChangedExport":
        """What is said of a file that is being written."""
        return ChangedExport(f"{self.name}: the file changed since it was found. Run again once it is complete.")


def discover(folder: Path, district_id: str) -> tuple[list[Landed], list[Refused]]:
    """Everything landed in a district's folder, by name, and what was refused.

    An archive is refused whole: half a bundle reads like a withdrawal of the other half. Only an archive
    inside it, or an empty member, is refused alone.
    """
    landed: list[Landed] = []
    refused: list[Refused] = []
    for path in _files(folder):
        found, without = open_landed(path, path.relative_to(folder).as_posix(), district_id)
        landed += found
        refused += without
    return sorted(landed, key=lambda one: one.name), sorted(refused, key=lambda one: one.name)


def open_landed(path: Path, name: str, district_id: str) -> tuple[list[Landed], list[Refused]]:
    """One file, or the members of one archive, and what of it was refused."""
    name = plain(name)
    try:
        return _open(path, name, district_id)
    except Refusal as refusal:
        return [], [refusal.refused]
    except Unsafe as unsafe:
        return [], [Refusal(name, unsafe.rule, unsafe.advice).refused]
    except OSError:
        advice = "the file cannot be opened. Check its permissions."
        return [], [Refusal(name, "unreadable_file", advice).refused]


def _files(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_ignored(name))
        yield from (Path(here, name) for name in sorted(files) if not _is_ignored(name))


def _is_ignored(name: str) -> bool:
    return name.startswith((".", "~$", "__MACOSX")) or name.lower().endswith(UNFINISHED)


def _open(path: Path, name: str, district_id: str) -> tuple[list[Landed], list[Refused]]:
    about = path.lstat()
    suffix = path.suffix.lower()
    if not stat.S_ISREG(about.st_mode):
        raise Refusal(name, "not_a_file", "the entry is a link or a device. Land the file itself.")
    if about.st_size == 0:
        raise _empty(name)
    if about.st_size > MOST_BYTES:
        raise Refusal(name, "oversized_file", "the file is larger than an export can be. Land it in parts.")
    if suffix in ARCHIVES and suffix not in (".zip", ".gz"):
        advice = "archives of this kind are not opened. Land a .zip, a .gz or the files themselves."
        raise Refusal(name, "unsupported_archive", advice)
    where = PurePosixPath(name)
    days = [day for part in where.parts[:-1] if (day := _day(part)) is not None]
    told = [part.removeprefix(RECEIVED) for part in where.parts[:-1] if part.startswith(RECEIVED)]
    received = [day for part in told if (day := _day(part)) is not None]
    file = _File(
        path,
        district_id,
        days[-1] if days else None,
        _written(path),
        received[-1] if received else None,
    )
    folder = where.parent.as_posix()
    if suffix == ".zip":
        return _open_archive(file, name)
    data = _gunzipped(path, name) if suffix == ".gz" else path.read_bytes()
    if not data:
        raise _empty(name)
    if suffix == ".gz":
        return file.tables(data, name[: -len(suffix)], None, folder), []
    if _is_zip(data):
        return _open_archive(file, name)
    return file.tables(data, name, None, folder), []


def _open_archive(file: "_File", name: str) -> tuple[list[Landed], list[Refused]]:
    landed: list[Landed] = []
    refused: list[Refused] = []
    for member, data in _members(file.path):
        within = plain(member)
        folder = PurePosixPath(within.replace("\\", "/")).parent.as_posix()
        bundle = name if folder == "." else f"{name}!{folder}"
        named = f"{name}!{within}"
        if not data:
            refused.append(_empty(named).refused)
        elif _is_archive(member, data):
            advice = "an archive inside an archive is not opened. Land it by itself."
            refused.append(Refusal(named, "nested_archive", advice).refused)
        else:
            landed += file.tables(data, named, member, bundle)
    return landed, refused


@dataclass(frozen=True)
class _File:
    path: Path
    district_id: str
    landed_on: date | None
    modified_at: datetime
    received_on: date | None

    def tables(self, data: bytes, name: str, member: str | None, bundle: str) -> list[Landed]:
        """The file, or each sheet of a workbook that has several."""
        sheets: list[str] = []
        if is_workbook(data):
            sheets = sheet_names(data)
        if len(sheets) < 2:
            return [self._landed(data, name, member, bundle)]
        within = f"{member}!" if member else ""
        return [self._landed(data, f"{name}!{plain(sheet)}", f"{within}{sheet}", bundle, sheet) for sheet in sheets]

    def _landed(self, data: bytes, name: str, member: str | None, bundle: str, sheet: str | None = None) -> Landed:
        _refuse_unkept(name)
        return Landed(
            district_id=self.district_id,
            path=self.path,
            member=member,
            name=name,
            bundle=bundle,
            data_sha256=_digest(data, sheet),
            bytes=len(data),
            landed_on=self.landed_on,
            modified_at=self.modified_at,
            sheet=sheet,
            received_on=self.received_on,
        )


def _empty(name: str) -> Refusal:
    return Refusal(name, "empty_file", "the file is empty. Export it again.")


def _is_archive(member: str, data: bytes) -> bool:
    if PurePosixPath(member).suffix.lower() in ARCHIVES:
        return True
    return data.startswith((b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!")) or _is_zip(data)


def _is_zip(data: bytes) -> bool:
    return data.startswith(b"PK\x03\x04") and not is_workbook(data)


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text) if DAY.fullmatch(text) else None
    except ValueError:
        return None
    return day if day is not None and day.year in YEARS else None


def _digest(data: bytes, sheet: str | None) -> str:
    digest = hashlib.sha256(data)
    if sheet is not None:
        digest.update(b"\0" + sheet.encode())
    return digest.hexdigest()


def _refuse_unkept(name: str) -> None:
    """The archive keeps a file under the last part of its name, which may not hide it or lead elsewhere."""
    last = PurePosixPath(name.replace("!", "/")).name
    if last in ("", "..") or _is_ignored(last) or last.lower().endswith(ARCHIVES) or too_long(name.replace("!", "/")):
        raise Unsafe("unsafe_path", "a file or sheet has a name under which it cannot be kept. Rename it.")


def _written(path: Path) -> datetime:
    """When a file was last written."""
    try:
        at = datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    except (ValueError, OverflowError):
        at = datetime.min.replace(tzinfo=UTC)
    if at.year not in YEARS:
        raise Unsafe("unreadable_file", "the file's time of writing is out of range. Save it again.")
    return at


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """The files of an archive but the ignored."""
    budget = Budget.of(path.stat().st_size)
    with opened(path) as archive:
        for member in members(archive, budget):
            if not any(map(_is_ignored, member.filename.replace("\\", "/").split("/"))):
                yield member.filename, b"".join(unpack(archive, member, budget))


def _gunzipped(path: Path, name: str) -> bytes:
    most = Budget.of(path.stat().st_size).left
    try:
        with gzip.open(path) as file:
            data = file.read(most + 1)
    except (gzip.BadGzipFile, *BROKEN):
        advice = "the archive is broken or incomplete. Land it again."
        raise Refusal(name, "broken_archive", advice) from None
    if len(data) > most:
        raise bomb()
    return data
