"""Who works on a home at a time: runs and commands together, an erasure alone."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from warehouse.home import Home, HomeError

WAIT_SECONDS = 600.0
_PAUSE_SECONDS = 0.1
_alone_here: set[str] = set()
"""Homes that this process has for itself: what an erasure calls need not wait for it."""


@contextmanager
def together(home: Home, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Work on the home beside others, while nobody erases.

    Raises:
        HomeError: an erasure went on for longer than ``wait_seconds``.
    """
    if str(home.root) in _alone_here:
        yield
        return
    with _held(home, fcntl.LOCK_SH, wait_seconds, "A student is being erased from this home. Wait, then run again."):
        yield


@contextmanager
def alone(home: Home, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Have the home for oneself. The system lets go of the lock when the process ends, however it ends.

    Raises:
        HomeError: others worked on it for longer than ``wait_seconds``.
    """
    told = "A run or another command works on this home. Wait for it to end, then erase."
    with _held(home, fcntl.LOCK_EX, wait_seconds, told):
        _alone_here.add(str(home.root))
        try:
            yield
        finally:
            _alone_here.discard(str(home.root))


@contextmanager
def _held(home: Home, how: int, wait_seconds: float, told: str) -> Iterator[None]:
    handle = os.open(home.make().vault / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(handle, how | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise HomeError(told) from None
                time.sleep(_PAUSE_SECONDS)
        yield
    finally:
        os.close(handle)
