"""The catalogue of strikes: what is done to a run, to its workers, to PostgreSQL, to the way there, and to the API."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import Random

import psutil
from psycopg2.extensions import cursor as Cursor

from datasync_ingest.simulator.damage import DAMAGES
from datasync_ingest.simulator.faults import ANSWER_FAULTS, LIMITED
from tests.disks import fill
from tests.faults.site import Site
from tests.harness import until

Strike = Callable[[Site, Random], None]

FREEZE_S = 4.5  # longer than a cursor of the torture lives
STALL_S = 6.5  # longer than a queue may stay full before fetching goes on into the spool
HEAVY = frozenset({"bomb", "huge", "long-string"})  # 50 to 200 MB each: once is enough
ONCE = HEAVY | LIMITED | {"deep"}  # those that make a client wait for seconds each time, and one of 200 kB
SERVERS_DAMAGE = 0.01  # of all events
SERVERS_FAULT = 0.5  # of all answers


def kill_main(site: Site, chance: Random) -> None:
    del chance
    site.run.send(signal.SIGKILL)


def kill_worker(site: Site, chance: Random) -> None:
    workers = site.workers()
    if workers:
        _kill(chance.choice(workers))


def kill_all_workers(site: Site, chance: Random) -> None:
    del chance
    for worker in site.workers():
        _kill(worker)


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()


def signal_group(signum: int, site: Site, chance: Random) -> None:
    del chance
    site.run.send(signum, group=True)


def freeze(site: Site, chance: Random) -> None:
    """The main process stands still while its cursor dies."""
    del chance
    run = site.run
    run.send(signal.SIGSTOP)
    time.sleep(FREEZE_S)
    run.send(signal.SIGCONT)


def terminate_backends(site: Site, chance: Random) -> None:
    del chance
    site.at_database(
        lambda cursor: cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    )


def crash_postgres(site: Site, chance: Random) -> None:
    """As `pg_ctl stop -m immediate`; what was not flushed is lost, and the next start recovers."""
    with site.database_lock:
        with suppress(OSError, ValueError):
            pid = int(site.pid_file().read_text().splitlines()[0])
            os.kill(pid, signal.SIGQUIT)
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).wait(10)
        time.sleep(chance.random())
        site.revive()


def lock_table(site: Site, chance: Random) -> None:
    """Nothing can be written for a while: fetching goes on into the spool."""
    del chance
    site.at_database(_hold_lock)


def _hold_lock(cursor: Cursor) -> None:
    cursor.execute("BEGIN; SET lock_timeout = '5s'; LOCK TABLE ingested_pages IN EXCLUSIVE MODE")
    time.sleep(STALL_S)
    cursor.execute("ROLLBACK")


def crash_api(site: Site, chance: Random) -> None:
    site.at_api(lambda: site.api.crash(chance.random() * 2))


def serve_fault(name: str, site: Site, chance: Random) -> None:
    """The API has this fault for a while; those of `ONCE` fall on one answer."""
    if name in ONCE:
        site.at_api(lambda: site.api.set_fault(name, f"{name}@1"))
        time.sleep(2)
    else:
        probability = SERVERS_DAMAGE if name in DAMAGES else SERVERS_FAULT
        site.at_api(lambda: site.api.set_fault(name, f"{name}={probability}"))
        time.sleep(chance.uniform(0.5, 2))
    site.at_api(lambda: site.api.set_fault(name, None))


def cut_connections(site: Site, chance: Random) -> None:
    """Five times, so that one of them falls into a transaction."""
    for _ in range(5):
        if site.proxy is not None:
            site.proxy.cut()
        time.sleep(chance.random() * 0.1)


def stall_connections(site: Site, chance: Random) -> None:
    if site.proxy is not None:
        site.proxy.stall(chance.uniform(0.5, 6))


def cut_api(site: Site, chance: Random) -> None:
    """In the middle of a page, most times."""
    for _ in range(5):
        site.api_proxy.cut()
        time.sleep(chance.random() * 0.1)


def stall_api(site: Site, chance: Random) -> None:
    site.api_proxy.stall(chance.uniform(0.5, 6))


def lose_answer_of_commit(site: Site, chance: Random) -> None:
    """PostgreSQL has committed, and whoever asked for it never hears of it."""
    del chance
    if site.proxy is not None:
        site.proxy.keep_answer_of_commit(5)


def fill_disk(site: Site, chance: Random) -> None:
    """There is no room until the run has ended, and then there is again."""
    del chance
    filler = fill(site.directory / "data")
    try:
        until(lambda: site.run.ended, timeout_s=60, what="the end of the run on a full disk")
    finally:
        filler.unlink()


CRASH_OF_API = "SIGKILL of the API"
STRIKES: dict[str, Strike] = {
    "SIGKILL of the main process": kill_main,
    "SIGKILL of a worker": kill_worker,
    "SIGKILL of all workers": kill_all_workers,
    "SIGINT to the group": partial(signal_group, signal.SIGINT),
    "SIGTERM to the group": partial(signal_group, signal.SIGTERM),
    "SIGHUP to the group": partial(signal_group, signal.SIGHUP),
    "SIGSTOP past a cursor's life": freeze,
    "pg_terminate_backend": terminate_backends,
    "PostgreSQL stopped at once": crash_postgres,
    "LOCK TABLE": lock_table,
    CRASH_OF_API: crash_api,
    "API's connections cut": cut_api,
    "API's connections stalled": stall_api,
    "connections cut": cut_connections,
    "connections stalled": stall_connections,
    "COMMIT without an answer": lose_answer_of_commit,
    **{f"API: {name}": partial(serve_fault, name) for name in [*ANSWER_FAULTS, *DAMAGES]},
}
DISK_FULL = "disk full"  # on a small disk of the test's own alone
OF_PROXY = frozenset({"connections cut", "connections stalled", "COMMIT without an answer"})
