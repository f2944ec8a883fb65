"""Who uses a data directory: one process at a time, known by a lock that dies with it, and that anybody may look at."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from ..errors import AlreadyRunningError

NAME = "ledger.lock"

if sys.platform == "linux":
    # Linux does not show who holds an flock, and taking it for an instant to find out would refuse a run that starts
    # in that instant. So the owner also holds an open file description's lock, which can be asked about.
    _SHOW, _LOOK = fcntl.F_OFD_SETLK, fcntl.F_OFD_GETLK
    _LAYOUT, _KIND = "hhqqi", 0  # struct flock: kind, whence, start, length, process
else:
    _SHOW, _LOOK = None, fcntl.F_GETLK  # as in BSD, which shows an flock as well
    _LAYOUT, _KIND = "qqihh", 3  # start, length, process, kind, whence


def take(directory: Path, purpose: str) -> IO[str]:
    """The lock, held until the file is closed or its process dies; it says who that is, for the one who is kept out.

    Raises AlreadyRunningError, OSError.
    """
    path = directory / NAME
    lock = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = _owner(lock)
        lock.close()
        raise AlreadyRunningError(
            f"{directory} is in use by {owner}.",
            hint="Wait until it has ended: a submission that is stopped may have cost a try."
            if owner.startswith("bin/submit ")
            else "Wait until it has ended, or stop it with Ctrl-C; nothing is lost by that.",
        ) from None
    lock.seek(0)
    lock.truncate()
    lock.write(f"{purpose} (process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')})\n")
    lock.flush()
    if _SHOW is not None:
        with suppress(OSError):  # a file system without such locks: then nobody sees the holder
            fcntl.fcntl(lock, _SHOW, _whole_file())
    return lock


def holder(directory: Path) -> str | None:
    """Who holds the lock now, such as `bin/ingest (process 123, since ...)`; None when nobody does.

    Takes no lock, so that nobody is ever kept out by the question. Raises nothing.
    """
    try:
        with (directory / NAME).open(encoding="utf-8") as lock:
            found = struct.unpack(_LAYOUT, fcntl.fcntl(lock, _LOOK, _whole_file()))
            return None if found[_KIND] == fcntl.F_UNLCK else _owner(lock)
    except (OSError, UnicodeDecodeError):
        return None


def _whole_file() -> bytes:
    fields = [0, 0, 0, 0, 0]
    fields[_KIND] = fcntl.F_WRLCK
    return struct.pack(_LAYOUT, *fields)


def _owner(lock: IO[str]) -> str:
    lock.seek(0)
    return lock.read().strip() or "another process"
