"""The register of what a state published: every release that is public, and beside it what must never leave."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from schemas.contract import Contract, columns, descriptions, require
from schemas.reports import ReleasedCell
from warehouse.home import Home
from warehouse.spreadsheet import neutralised

ABOUT, INTERNAL = "release.json", "internal.parquet"
TABLE, DICTIONARY = "state_aggregate", "data_dictionary.csv"


class ReleaseFailed(Exception):
    """A release could not be written or read; names folders and files, never a cell."""


class Release(NamedTuple):
    """A release that is public."""

    about: dict[str, Any]
    cells: pl.DataFrame
    """``ReleasedCell`` rows."""


def registered(home: Home) -> list[Release]:
    """Every release in `reports/state/` of the home, the earliest first. One that was withdrawn is moved away by hand.

    Raises:
        ReleaseFailed: a folder lacks its internal file: what it made public could not be reckoned with.
    """
    found = []
    for about in sorted((home.reports / "state").glob(f"[!.]*/{ABOUT}")):
        path = about.with_name(INTERNAL)
        if not path.exists():
            raise ReleaseFailed(f"{path} is missing, so nothing can be published beside that release. Restore it.")
        found.append(Release(json.loads(about.read_text("utf-8")), pl.read_parquet(path)))
    return sorted(found, key=lambda each: int(each.about["number"]))


def write_release(
    home: Home,
    out: Path | None,
    rows: pl.DataFrame,
    contract: type[Contract],
    cells: pl.DataFrame,
    about: dict[str, Any],
) -> Path:
    """Write a release into the register, and its public files into a folder of `out` as well; all or nothing.

    Returns:
        Folder with the public files.
    """
    name = str(about["release_id"])
    kept, given = home.reports / "state" / name, None if out is None else out / name
    for path in (kept, given):
        if path is not None and path.exists():
            raise ReleaseFailed(f"{path} is already there. Choose another folder for --out.")
    require(cells, ReleasedCell)
    with _beside(kept, 0o700) as inside:
        hashes = _write_public(inside, require(rows, contract), contract)
        _text(inside / ABOUT, json.dumps({**about, "files": hashes}, indent=2, sort_keys=True) + "\n")
        _closed(inside / INTERNAL, cells)
        if given is None:
            return kept
        with _beside(given, 0o755) as outside:
            for each in (*hashes, ABOUT):
                shutil.copyfile(inside / each, outside / each)
    return given


def _write_public(folder: Path, rows: pl.DataFrame, contract: type[Contract]) -> Mapping[str, str]:
    """CSV, Parquet and the dictionary of their columns; a hash of each."""
    neutralised(rows.lazy()).sink_csv(folder / f"{TABLE}.csv")
    rows.write_parquet(folder / f"{TABLE}.parquet")
    told = descriptions(contract)
    words = pl.DataFrame(
        {
            "column": list(told),
            "type": [str(kind).lower() for kind in columns(contract).values()],
            "meaning": list(told.values()),
        }
    )
    neutralised(words.lazy()).sink_csv(folder / DICTIONARY)
    names = (f"{TABLE}.csv", f"{TABLE}.parquet", DICTIONARY)
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def _closed(path: Path, cells: pl.DataFrame) -> None:
    """A file that only its owner can read."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    cells.write_parquet(path)


def _text(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


@contextmanager
def _beside(target: Path, mode: int) -> Iterator[Path]:
    """A new folder that becomes the target at the end, or leaves nothing behind."""
    target.parent.mkdir(parents=True, exist_ok=True)
    made = target.with_name(f".{target.name}.{os.getpid()}.building")
    made.mkdir(mode=mode)
    made.chmod(mode)
    try:
        yield made
        made.rename(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)
