"""A worker leaves with its parent, however that died and whatever the worker is waiting for."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.harness import Database, alive, clean_environment, family, until
from tests.pools import held_up, waiting_backends, worker_options

LEAVE_S = 5.0

# A parent with one worker and three pages, of which it never hears; if argv[2] says so, the worker's pipe is full.
_PARENT = """
import fcntl
import os
import signal
import sys
from datasync_ingest.messages import WorkerOptions
from datasync_ingest.pools.processes import ProcessPool
from datasync_ingest.settings import Secret
from tests.pools import page

pool = ProcessPool(1)
pool.start(WorkerOptions(Secret(sys.argv[1]), "execute_values", db_patience_s=60, schema="public"))
if sys.argv[2] == "full":
    (member,) = pool._crew.members
    writing = os.open(f"/proc/self/fd/{member.pipe.fileno()}", os.O_WRONLY)
    os.write(writing, b"x" * fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ))
    os.close(writing)
for sequence in range(3):
    pool.put(page(sequence))
print("put", flush=True)
signal.pause()
"""


@contextmanager
def parent(database: Database, pipe: str = "empty") -> Iterator[subprocess.Popen[str]]:
    """A process with a pool of one worker and three pages."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PARENT, database.conninfo, pipe],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "put\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def require_gone_with(process: subprocess.Popen[str], signum: int) -> None:
    members = family(process)
    assert len(members) >= 2, "a worker at least"
    process.send_signal(signum)
    until(lambda: not alive(members), timeout_s=LEAVE_S, what="the end of every process")


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_a_worker_that_waits_in_the_database_leaves(signum: int, database: Database) -> None:
    worker_options(database)
    with held_up(database, 0), parent(database) as process:
        until(lambda: waiting_backends(database), what="a worker at its page")
        require_gone_with(process, signum)


def test_a_worker_that_waits_for_a_page_leaves(database: Database) -> None:
    worker_options(database)
    with parent(database) as process:
        until(lambda: database.value("SELECT count(*) FROM ingested_pages") == 3, what="the last page")
        require_gone_with(process, signal.SIGKILL)


def stands_in_a_pipe(process: psutil.Process) -> bool:
    return any("pipe_write" in wchan.read_text() for wchan in Path(f"/proc/{process.pid}/task").glob("*/wchan"))


@pytest.mark.skipif(not Path("/proc/self/wchan").exists(), reason="needs Linux's /proc")
def test_a_worker_that_stands_in_a_full_pipe_leaves(database: Database) -> None:
    worker_options(database)
    with parent(database, pipe="full") as process:
        until(lambda: any(map(stands_in_a_pipe, family(process))), what="a worker in a full pipe")
        require_gone_with(process, signal.SIGKILL)
