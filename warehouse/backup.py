"""A copy of a home, taken while runs go on, and a home made from one.

What cannot be made again is copied: log, notes, vault with the secret, archive, policies and the register of what the
state published. Projections, warehouse and reports are not: the first run after a restore makes them from the log.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from warehouse.archive import RECORD, removed
from warehouse.faults import disk_fault
from warehouse.home import Home, fingerprint
from warehouse.log import Log, exports

MANIFEST, DATA = "manifest.json", "home"
VERSION = 1
SECRET, VAULT = "vault/secret", "vault/vault.sqlite"
LEDGER = "log/ingest_ledger"
PLAIN = ("archive", "policy", "reports/state")
"""Folders of files that are written once; the register of removals of a district's archive comes after its files."""
CLOSED = ("vault", "notes", "archive")
ATTEMPTS = 5
ARCHIVE_SECONDS = 30.0
"""How long a file that was just loaded is waited for: its copy in the archive comes after its ledger row."""
CHUNK = 1 << 20
UNFINISHED, ASIDE = ".restoring", "before-restore-"

Say = Callable[[str], None]


class BackupFailed(Exception):
    """A backup could not be taken; says what is wrong and what to do."""


class NotRestored(Exception):
    """A backup cannot be restored as it is, or not there; says what is wrong and what to do."""


class Moved(Exception):
    """A table is another one than it was when its copy began."""


class Kept(NamedTuple):
    """One file of a backup."""

    bytes: int
    sha256: str
    mode: int


# Taking one


def back_up(home: Home, destination: Path, say: Say = lambda _: None) -> dict[str, Any]:
    """Copy a home into a new folder. Runs may go on meanwhile; what they add after the ledger was read is left out.

    Args:
        home: The home.
        destination: A folder that is empty or not there yet, outside the home; closed to others.
        say: Told what is copied.

    Returns:
        What the manifest says of the whole, with `files`, `bytes` and `not_archived`: loaded files of which the home
        has no copy.

    Raises:
        BackupFailed: the folder cannot be used, the disk is full, or what is copied kept changing.
    """
    _require_whole(home)
    destination = destination.absolute()
    if destination == home.root or home.root in destination.parents:
        raise BackupFailed(f"{destination} is in the home, and would be lost with it. Choose another disk.")
    with _told(BackupFailed, f"The backup in {destination} is not complete"):
        if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
            raise BackupFailed(f"{destination} is not an empty folder. Give each backup a folder of its own.")
        destination.mkdir(mode=0o700, parents=True, exist_ok=True)
        destination.chmod(0o700)
        for _ in range(ATTEMPTS):
            try:
                return _taken(home, destination, say)
            except Moved:
                shutil.rmtree(destination / DATA)
    raise BackupFailed("Tables of the log were rebuilt again and again while they were copied. Take the backup later.")


def _taken(home: Home, destination: Path, say: Say) -> dict[str, Any]:
    copy = Home(destination / DATA)
    files: dict[str, Kept] = {}
    tables = _tables(home.root)
    tables.sort(key=lambda name: name != LEDGER)  # whatever the ledger names is in the tables copied after it
    identities = {}
    for name in tables:
        say(name)
        identities[name], found = _copied_table(home.root, copy.root, name)
        files |= found
    say("vault")
    files |= _copied_vault(home, copy)
    say("archive")
    missing = _not_archived(home, copy)
    for folder in PLAIN:
        files |= _copied_folder(home.root, copy.root, folder)
    if any(_identity(home.root / name) != identity for name, identity in identities.items()):
        raise Moved
    about = {
        "version": VERSION,
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "home_fingerprint": fingerprint(copy.secret()) if SECRET in files else None,
        "readings": _ledger(copy).height,
        "not_archived": missing,
    }
    for folder in CLOSED:
        (copy.root / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        (copy.root / folder).chmod(0o700)
    _write_manifest(destination / MANIFEST, about | {"files": {name: list(each) for name, each in files.items()}})
    return about | {"files": len(files), "bytes": sum(each.bytes for each in files.values())}


def _require_whole(home: Home) -> None:
    if "://" in home.log:
        raise BackupFailed(f"The log is at {home.log}. Copy it with the tools of that store, before the vault.")
    if (home.root / LEDGER).exists() and not (home.root / SECRET).exists():
        raise BackupFailed("vault/secret is missing: the log is worth nothing without it. Restore it from a backup.")


def _tables(root: Path) -> list[str]:
    """Delta tables of log and notes, by their path in the home."""
    found = [path.parent for folder in ("log", "notes") for path in sorted((root / folder).glob("[!.]*/_delta_log"))]
    return [path.relative_to(root).as_posix() for path in found]


def _identity(folder: Path) -> str:
    """A table that is built anew in its place has another id."""
    try:
        return str(DeltaTable(str(folder)).metadata().id)
    except (DeltaError, OSError):
        return ""


def _copied_table(root: Path, copy: Path, name: str) -> tuple[str, dict[str, Kept]]:
    """Copy a table as of its version now: its files never change, and what is added later is in none of them.

    A file that is gone when its turn comes was packed or rebuilt meanwhile: then from the newest version again.
    """
    for _ in range(ATTEMPTS):
        try:
            table = DeltaTable(str(root / name))
            data = [Path(_path(uri)).relative_to(root) for uri in table.file_uris()]
            found = _copied(root, copy, [*_log_files(root, Path(name), table.version()), *data])
        except (FileNotFoundError, DeltaError):
            shutil.rmtree(copy / name, ignore_errors=True)
            time.sleep(0.1)
            continue
        return str(table.metadata().id), found
    raise Moved


def _path(uri: str) -> str:
    return unquote(uri.removeprefix("file://"))


def _log_files(root: Path, table: Path, version: int) -> list[Path]:
    """Commits and checkpoints up to a version. The pointer to the last checkpoint is left out: it is only a hint."""
    names = sorted(path.name for path in (root / table / "_delta_log").iterdir())
    numbered = [name for name in names if name[:20].isdecimal() and not name.endswith(".tmp")]
    return [table / "_delta_log" / name for name in numbered if int(name[:20]) <= version]


def _copied_vault(home: Home, copy: Home) -> dict[str, Kept]:
    """The vault as of one moment, by SQLite itself and without leases; the secret and whatever else is beside it."""
    if not home.vault.exists():
        return {}
    copy.vault.mkdir(mode=0o700, parents=True)
    beside = [path for path in _kept_files(home.root, "vault") if not path.name.startswith("vault.sqlite")]
    files = _copied(home.root, copy.root, beside)
    path = copy.root / VAULT
    if (home.root / VAULT).exists():
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with (
            closing(sqlite3.connect(home.root / VAULT, timeout=60)) as source,
            closing(sqlite3.connect(path, isolation_level=None)) as made,
        ):
            source.backup(made)
            made.execute("pragma journal_mode = delete")
            made.execute("delete from lease")
        files[VAULT] = _about(path)
    return files


def _not_archived(home: Home, copy: Home) -> int:
    """Loaded files without a copy in the archive, after those that are being copied were waited for."""
    log = Log(copy)
    rows = exports(log.ledger_rows()).filter(pl.col("status") == "loaded")
    wanted = {
        home.archived(district, batch, file).parent
        for district, batch, file in rows.select("district_id", "batch_id", "file").rows()
    }
    deadline = time.monotonic() + ARCHIVE_SECONDS
    while (missing := _missing(home, wanted)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return len(missing)


def _missing(home: Home, wanted: set[Path]) -> set[Path]:
    gone = {folder: removed(home, folder.parent.name) for folder in wanted if not folder.exists()}
    return {folder for folder, noted in gone.items() if not any(batch.startswith(folder.name) for batch in noted)}


def _copied_folder(root: Path, copy: Path, folder: str) -> dict[str, Kept]:
    """Every finished file below a folder; one that retention removes meanwhile is left out, and noted as removed."""
    files: dict[str, Kept] = {}
    for name in sorted(_kept_files(root, folder), key=lambda name: (name.name == RECORD, name)):
        with suppress(FileNotFoundError):
            files |= _copied(root, copy, [name])
    return files


def _kept_files(root: Path, folder: str) -> Iterator[Path]:
    """Finished files below a folder of the home, by their path in it: what is hidden is being written."""
    for path in sorted((root / folder).rglob("*")):
        name = path.relative_to(root)
        if path.is_file() and not path.is_symlink() and not any(part.startswith(".") for part in name.parts):
            yield name


def _copied(root: Path, copy: Path, names: list[Path]) -> dict[str, Kept]:
    return {name.as_posix(): _copy(root / name, copy / name) for name in names}


def _copy(path: Path, target: Path) -> Kept:
    """Copy a file with its mode; what is told of it is of the bytes that were written."""
    for folder in reversed([each for each in target.parents if not each.exists()]):
        folder.mkdir(mode=0o700)
    with path.open("rb") as source:
        mode = stat.S_IMODE(os.fstat(source.fileno()).st_mode)
        digest, size = hashlib.sha256(), 0
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as made:
            while chunk := source.read(CHUNK):
                made.write(chunk)
                digest.update(chunk)
                size += len(chunk)
    target.chmod(mode)
    return Kept(size, digest.hexdigest(), mode)


def _about(path: Path) -> Kept:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
        about = os.fstat(file.fileno())
    return Kept(about.st_size, digest.hexdigest(), stat.S_IMODE(about.st_mode))


def _write_manifest(path: Path, told: Mapping[str, Any]) -> None:
    """Last, when everything else is on the disk: a backup without it is not complete."""
    os.sync()
    text = json.dumps({**told, "sha256": _sealed(told)}, indent=1, sort_keys=True)
    part = path.with_name(f".{path.name}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _sealed(told: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


# Looking at one


def read_backup(source: Path) -> dict[str, Any]:
    """What a backup says of itself, after every file of it was compared with that.

    Raises:
        NotRestored: it is not complete, not what was copied, or its vault does not belong to its log.
    """
    path = source / MANIFEST
    try:
        told = json.loads(path.read_text("utf-8"))
        seal = told.pop("sha256")
        if told["version"] != VERSION or _sealed(told) != seal:
            raise ValueError
        files = {name: Kept(*each) for name, each in told["files"].items()}
    except FileNotFoundError:
        raise NotRestored(f"{path} is missing: this is no backup, or one that broke off. Take another one.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NotRestored(f"{path} is not what `tierline backup` wrote. Take another backup.") from None
    with _told(NotRestored, f"The backup in {source} cannot be read"):
        data = source / DATA
        present = {found.relative_to(data).as_posix() for found in data.rglob("*") if not found.is_dir()}
        missing, strange = files.keys() - present, present - files.keys()
        changed = {name for name in files.keys() & present if _about(data / name)[:2] != files[name][:2]}
        for what, names in (("are missing", missing), ("are other than copied", changed), ("were added", strange)):
            if names:
                raise NotRestored(
                    f"{len(names)} files of the backup {what}, such as {min(names)}. Nothing was restored;"
                    " use another backup."
                )
        _require_kin(Home(data))
    return told | {"files": files}


def _require_kin(copy: Home) -> None:
    """The vault has given every key, time and attempt that the log uses (SEMANTICS 5.5)."""
    ledger = _ledger(copy)
    if ledger.is_empty():
        return
    if not (copy.root / SECRET).exists() or not (copy.root / VAULT).exists():
        raise NotRestored("The backup has a log and no vault. Use a backup that has both.")
    as_it_is = f"{(copy.root / VAULT).as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(as_it_is, uri=True)) as vault:
        given = vault.execute("select batch_id, attempt from attempt").fetchall()
        (last,) = vault.execute("select max(last_us) from clock").fetchone()
    known = pl.DataFrame(given, schema={"batch_id": pl.String, "attempt": pl.Int64}, orient="row")
    newer = ledger.join(known, on=["batch_id", "attempt"], how="anti").height
    if newer or ledger.filter(pl.col("recorded_at").dt.timestamp("us") > (last or 0)).height:
        raise NotRestored(
            f"The vault is older than the log: {newer} readings of the log were begun after it. Keys that the log uses"
            " are not in it. Use the vault that was copied with this log, or after it."
        )
    if ledger.filter(pl.col("home_fingerprint") != fingerprint(copy.secret())).height:
        raise NotRestored("vault/secret of the backup is not the secret its log was written with. Use another backup.")


def _ledger(home: Home) -> pl.DataFrame:
    return Log(home).ledger_rows()


# Making a home of one


def restore(source: Path, home: Home, *, over: bool = False, say: Say = lambda _: None) -> dict[str, Any]:
    """Make a home of a backup that is complete and fits together.

    It is copied below the home first and moved into its place last, the vault at the end: a log without its vault is
    refused by every load.

    Args:
        source: The backup.
        home: Where the home shall be: a folder that is empty or not there yet.
        over: The home may hold something; that is moved into a folder beside what is restored, never deleted.
        say: Told what is done.

    Returns:
        `files`, `readings`, `taken_at`, and `moved_to`: where what stood there before now is, if anything did.

    Raises:
        NotRestored: the backup or the folder cannot be used. Nothing was restored.
    """
    say("checking the backup")
    told = read_backup(source)
    root = home.root
    with _told(NotRestored, f"{root} cannot be written"):
        root.mkdir(parents=True, exist_ok=True)
        building = root / UNFINISHED
        shutil.rmtree(building, ignore_errors=True)  # of a restore that broke off
        before = sorted(path for path in root.iterdir() if not path.name.startswith(ASIDE))
        if before and not over:
            raise NotRestored(
                f"{root} is not empty, and nothing in it was touched. Restore into a new folder; or with --over, which"
                " moves what is there aside."
            )
        if before:
            _require_quiet(home)
        say("copying")
        for name, kept in told["files"].items():
            _copy(source / DATA / name, building / name)
            (building / name).chmod(kept.mode)
        Home(building).make()
        aside = root / f"{ASIDE}{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        if before:
            aside.mkdir(mode=0o700)
            for path in before:
                path.rename(aside / path.name)
        for path in sorted(building.iterdir(), key=lambda path: path.name == "vault"):
            path.rename(root / path.name)
        building.rmdir()
        os.sync()
    return {
        "files": len(told["files"]),
        "readings": told["readings"],
        "taken_at": told["taken_at"],
        "moved_to": str(aside) if before else None,
    }


def _require_quiet(home: Home) -> None:
    """No run is at work in a home that is to be moved."""
    path = home.root / VAULT
    if not path.exists():
        return
    with closing(sqlite3.connect(path, timeout=60)) as vault:
        held = vault.execute("select count(*) from lease where expires_at > ?", (time.time(),)).fetchone()
    if held[0]:
        raise NotRestored(f"A run is at work in {home.root}. Wait for it to end, then restore.")


@contextmanager
def _told(kind: type[Exception], what: str) -> Iterator[None]:
    """What went wrong, in words of our own."""
    try:
        yield
    except (OSError, sqlite3.Error, DeltaError) as error:
        why = disk_fault(error) or f"{type(error).__name__}. Check the disk"
        raise kind(f"{what}: {why}.") from None
