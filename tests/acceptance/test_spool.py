"""A database that takes nothing for longer than a cursor lives: fetching goes on, and nothing is fetched again."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psycopg2
import pytest

from datasync_ingest.simulator.process import SimulatorProcess
from tests.acceptance.test_ingest import require_exact
from tests.acceptance.test_stopping import AT_RISK, require_gone, start_and_wait
from tests.harness import Database, Workplace, family, until

Start = Callable[..., SimulatorProcess]
FLAGS = ("--batch-size", "100")
CURSOR_LIFE_S = 7  # less than the stall that puts a page into the spool, and the fetch of those that follow
PAGES = 60


@pytest.fixture
def api(simulator: Start) -> SimulatorProcess:
    return simulator(events=PAGES * 100, rate_limit=5, rate_window=1, cursor_life=CURSOR_LIFE_S)


@contextmanager
def nothing_can_be_written(database: Database) -> Iterator[None]:
    """Every commit of a page waits until the block ends; reading goes on."""
    with closing(psycopg2.connect(database.conninfo)) as connection:
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE ingested_pages IN EXCLUSIVE MODE")
        yield
        connection.rollback()


def spooled(workplace: Workplace) -> int:
    with closing(sqlite3.connect(f"file:{workplace.ledger}?mode=ro", uri=True, timeout=5)) as connection:
        return int(connection.execute("SELECT count(*) FROM spool").fetchone()[0])


def stalled_run(workplace: Workplace, api: SimulatorProcess, pages: int, *words: str) -> subprocess.Popen[str]:
    """An ingest that has begun, with so many pages in the spool; called while nothing can be written."""
    process = workplace.start("ingest", "--worker-concurrency", "2", *FLAGS, *words, API_BASE_URL=api.url)
    until(lambda: spooled(workplace) >= pages or process.poll() is not None, what="the spool")
    return process


@pytest.fixture
def begun(workplace: Workplace, api: SimulatorProcess, database: Database) -> None:
    """A few pages are there, and so are the schema and the sidecar."""
    process = start_and_wait(workplace, 3, api, *FLAGS)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)


@pytest.mark.usefixtures("begun")
@pytest.mark.long
def test_fetching_goes_on_and_everything_is_written_when_the_database_is_back(
    workplace: Workplace, api: SimulatorProcess, database: Database
) -> None:
    with nothing_can_be_written(database):
        process = stalled_run(workplace, api, 25)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "goes into the spool" in err
    assert "expired" not in err
    require_exact(database, api)
    counters = api.counters()
    assert counters["pages_fetched_twice"] == 0
    assert counters["statuses_429"] == 0
    assert spooled(workplace) == 0


@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
@pytest.mark.long
def test_what_is_spooled_is_written_by_the_next_run_without_a_request(
    signum: int, code: int, workplace: Workplace, api: SimulatorProcess, database: Database
) -> None:
    with nothing_can_be_written(database):
        process = stalled_run(workplace, api, 15, "--stop-grace", "0.5s")
        members = family(process)
        process.send_signal(signum)
        _, err = process.communicate(timeout=20)
        assert process.returncode == code, err
        require_gone(members)
        kept = spooled(workplace)
    api.options(cursor_life=100)
    ended = workplace.ingest(*FLAGS, API_BASE_URL=api.url)
    assert f"{kept} pages are in the spool: they are written first" in ended.err
    require_exact(database, api)
    assert api.counters()["pages_fetched_twice"] <= (0 if signum == signal.SIGINT else AT_RISK)


@pytest.mark.usefixtures("begun")
@pytest.mark.long
def test_a_full_spool_is_named_and_takes_a_page_now_and_then(
    workplace: Workplace, api: SimulatorProcess, database: Database
) -> None:
    flags = ("--spool-limit", "20KiB", "--cursor-refresh-threshold", "1s")
    with nothing_can_be_written(database):
        process = stalled_run(workplace, api, 5, *flags)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    assert "the spool is full (SPOOL_LIMIT, 20.0 KiB): from here on one page every 1 s" in err
    require_exact(database, api)
    assert api.counters()["pages_fetched_twice"] == 0
