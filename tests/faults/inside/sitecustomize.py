"""Python imports this by itself where this folder is on PYTHONPATH: it does to a run what only its inside can do.

It kills one process at a named point of its work. CRASH_AT is `<point>:<when>:<count>`: before or after the count-th
call, in one process, of what POINTS has for the point. CRASH_MARK names a file: the process that makes it is the one
that is killed, so that only one ever is. CRASH_POOL is the run's pool.

It steps the wall clock. CLOCK_STEP names a file with the seconds by which `time.time` is wrong from now on.
"""

import importlib
import os
import signal
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

POINTS = {
    # In the main process.
    "fetch": "datasync_ingest.api.fetching:PageFetcher.fetch",
    "queue": "datasync_ingest.pools.processes:ProcessPool.put",
    "queue over dask": "datasync_ingest.pools.dask:DaskPool.put",
    "mark": "datasync_ingest.ledger:Ledger.complete",
    "spool": "datasync_ingest.ledger:Spool.put",
    "end of the walk": "datasync_ingest.ledger:Ledger.end",
    # In a worker.
    "begin": "datasync_ingest.postgres.pages:PageStore._attempt",
    "write": "datasync_ingest.postgres.pages:_write",
    "commit": "datasync_ingest.postgres.pages:PageStore.commit",
    "receipt": "datasync_ingest.worker:Worker._report",
}


def crash_at(point: str, when: str, count: int, mark: str) -> None:
    """Puts the crash around the function that POINTS names."""
    module_name, _, path = POINTS[point].partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module_name)
    for part in owners:
        owner = getattr(owner, part)
    setattr(owner, name, _crashing(getattr(owner, name), when, count, mark))


def _crashing(function: Callable[..., Any], when: str, count: int, mark: str) -> Callable[..., Any]:
    calls = 0

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        mine = calls == count
        if mine and when == "before":
            _crash(mark)
        result = function(*args, **kwargs)
        if mine and when == "after":
            _crash(mark)
        return result

    return wrapped


def _crash(mark: str) -> None:
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return  # another process was the one
    os.kill(os.getpid(), signal.SIGKILL)


def step_clock_by(path: str) -> None:
    """Puts what the file says on top of the time of day, from the moment at which it appears."""
    right = time.time

    def wrong() -> float:
        try:
            with open(path, encoding="ascii") as file:
                return right() + float(file.read())
        except (FileNotFoundError, ValueError):
            return right()

    time.time = wrong


if "CLOCK_STEP" in os.environ:
    step_clock_by(os.environ["CLOCK_STEP"])
if "CRASH_AT" in os.environ:
    _point, _when, _count = os.environ["CRASH_AT"].split(":")
    if _point == "queue" and os.environ["CRASH_POOL"] == "dask":
        _point = "queue over dask"
    crash_at(_point, _when, int(_count), os.environ["CRASH_MARK"])
