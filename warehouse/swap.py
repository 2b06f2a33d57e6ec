"""A folder takes the place of another in one step, so that there is no moment without one."""

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

AT_FDCWD = -100
EXCHANGE = 2
"""`RENAME_EXCHANGE` of Linux's renameat2 and `RENAME_SWAP` of macOS's renamex_np have the same value."""
UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})


def take_place(made: Path, target: Path) -> None:
    """Put a new folder where another may stand; the old one, if any, then stands where the new one was.

    A file system or system that cannot exchange two folders gets two renames, and a kill between them leaves the old
    folder as `.<name>.before`.

    Raises:
        OSError: the folders cannot be renamed.
    """
    if not target.exists():
        made.rename(target)
        return
    try:
        _exchange(made, target)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        before = target.with_name(f".{target.name}.before")
        target.rename(before)
        made.rename(target)
        before.rename(made)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def restore(target: Path) -> None:
    """Put back the folder that a kill between two renames left aside."""
    before = target.with_name(f".{target.name}.before")
    if before.exists() and not target.exists():
        before.rename(target)
    shutil.rmtree(before, ignore_errors=True)


def _exchange(one: Path, other: Path) -> None:
    """Exchange two names atomically."""
    rename = _system_call()
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if rename(os.fsencode(one), os.fsencode(other)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _system_call() -> Callable[[bytes, bytes], int] | None:
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux" and hasattr(library, "renameat2"):
        return lambda one, other: int(library.renameat2(AT_FDCWD, one, AT_FDCWD, other, EXCHANGE))
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        return lambda one, other: int(library.renamex_np(one, other, EXCHANGE))
    return None
