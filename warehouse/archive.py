"""The archive of one district: which files the retention of its policy removed, and their removal."""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from warehouse.home import Home

RECORD = "removed.txt"
"""Batch ids, one a line, so that a file that was removed is told from one that is missing."""


def removed(home: Home, district_id: str) -> frozenset[str]:
    """Batches whose file retention removed."""
    record = home.archive / district_id / RECORD
    return frozenset(record.read_text("ascii").split()) if record.exists() else frozenset()


def remove(home: Home, district_id: str, batches: Iterable[Sequence[str]]) -> int:
    """Remove the files of batches, given as id and file name; returns of how many batches there were any.

    They are noted first: a run that breaks off leaves files that the next one removes, never one that looks lost.
    """
    folders = {batch: home.archived(district_id, batch, name).parent for batch, name in batches}
    present = {batch: folder for batch, folder in folders.items() if folder.exists()}
    _note(home.archive / district_id / RECORD, sorted(set(present) - removed(home, district_id)))
    for folder in present.values():
        shutil.rmtree(folder)  # also a second copy, under another name
    return len(present)


def _note(record: Path, batches: Sequence[str]) -> None:
    if not batches:
        return
    with os.fdopen(os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="ascii") as stream:
        stream.writelines(f"{batch}\n" for batch in batches)
        stream.flush()
        os.fsync(stream.fileno())
