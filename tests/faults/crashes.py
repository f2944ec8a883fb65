"""What is done from inside: the run's processes import `inside/sitecustomize.py`, which kills one of them at a named
point, or steps their wall clock."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from random import Random

from psycopg2.extensions import cursor as Cursor

from tests.faults.site import Site
from tests.faults.strikes import Strike
from tests.harness import TOP, until

_HOOK = Path(__file__).parent / "inside"
_MARK = "crashed"
_STEP = "clock"
CLOCK_STEPS = "the wall clock steps"
WORKERS = 2
# The crash -> when and where: `sitecustomize.POINTS` says what is called there, and the number which call it is.
_PLACES = {
    "crash before a fetch": "fetch:before:7",
    "crash between fetch and queue": "queue:before:7",
    "crash between queue and receipt": "queue:after:7",
    "crash between receipt and mark": "mark:before:7",
    "crash after mark": "mark:after:7",
    "crash before the spool": "spool:before:2",
    "crash after the spool": "spool:after:2",
    "crash before the walk is ended": "end of the walk:before:1",
    "crash after the walk is ended": "end of the walk:after:1",
    "worker's crash between start and begin": "begin:before:3",
    "worker's crash between begin and write": "write:before:3",
    "worker's crash between write and commit": "write:after:3",
    "worker's crash between commit and receipt": "commit:after:3",
    "worker's crash after its receipt": "receipt:after:6",  # the third page's: each has an announcement as well
}


def environment(strike: str, folder: Path, *, pool: str = "processes", of_workers: bool = False) -> Mapping[str, str]:
    """What has a run crash as `strike` says, or its clock step; nothing for other strikes.

    Over Dask the workers have an environment of their own, `of_workers`.
    """
    if pool == "dask" and of_workers != is_workers(strike):
        return {}
    hook = {"PYTHONPATH": f"{_HOOK}:{TOP}"}
    if strike == CLOCK_STEPS:
        return {**hook, "CLOCK_STEP": str(folder / _STEP)}
    if strike in _PLACES:
        return {**hook, "CRASH_AT": _PLACES[strike], "CRASH_MARK": str(folder / _MARK), "CRASH_POOL": pool}
    return {}


def is_workers(strike: str) -> bool:
    """Whether it is a crash inside of a worker."""
    return strike in _PLACES and strike.startswith("worker")


def step_clock(site: Site, chance: Random) -> None:
    """The time of day is a day ahead for a while, then a day behind, and then right again."""
    step = site.directory / _STEP
    for seconds in (86_400, -86_400, 0):
        half = step.with_suffix(".half")
        half.write_text(str(seconds))
        half.rename(step)
        until(
            partial(_has_moved_on, site, site.workplace.completed_pages() + 3), what="pages after a step of the clock"
        )


def _has_moved_on(site: Site, pages: int) -> bool:
    return site.run.ended or site.workplace.completed_pages() >= pages


def wait_for_crash(site: Site, chance: Random) -> None:
    del chance
    until(lambda: (site.directory / _MARK).exists(), what="the crash")


def stop_and_wait_for_crash(site: Site, chance: Random) -> None:
    """Pages that both workers hold when the run is stopped go into the spool."""

    def stop(cursor: Cursor) -> None:
        cursor.execute("BEGIN; LOCK TABLE ingested_pages IN EXCLUSIVE MODE")
        until(lambda: _waiting(cursor) >= WORKERS, what="a page that waits in each worker")
        site.run.send(signal.SIGTERM)
        wait_for_crash(site, chance)
        cursor.execute("ROLLBACK")

    site.at_database(stop)


def _waiting(cursor: Cursor) -> int:
    cursor.execute(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'ingested_pages'::regclass"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    row = cursor.fetchone()
    return int(row[0]) if row else 0


CRASHES: dict[str, Strike] = {name: stop_and_wait_for_crash if "spool" in name else wait_for_crash for name in _PLACES}
