"""The pool on a real cluster whose workers and scheduler go: every page is receipted once, and nothing hangs."""

from __future__ import annotations

import asyncio
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest

import datasync_ingest
from datasync_ingest.errors import NoWorkerError, SchedulerAwayError, SchedulerLostError
from datasync_ingest.messages import Failure, Poisoned, Receipt, Unstaffed, Waiting, WorkerOptions
from datasync_ingest.pools import dask, dask_delivery, dask_worker
from datasync_ingest.pools.dask import DaskPool
from datasync_ingest.pools.dask_cluster import shows
from datasync_ingest.pools.dask_words import Said
from datasync_ingest.settings import Secret
from tests.cluster import Cluster
from tests.harness import Database, until
from tests.pools import EVENTS, Heard, held_up, page, page_id, receipts, send, worker_options

Start = Callable[..., Heard]


@pytest.fixture
def options(database: Database) -> WorkerOptions:
    return worker_options(database, db_patience_s=20.0)


@pytest.fixture
def start(options: WorkerOptions, database: Database, cluster: Cluster) -> Iterator[Start]:
    """Starts pools on the cluster; after the test they are stopped, and none of their threads may be alive."""
    before = set(threading.enumerate())
    with ExitStack() as opened:

        def started(options: WorkerOptions = options, *, on: Cluster = cluster) -> Heard:
            pool = DaskPool(on.address)
            opened.callback(pool.stop, 0)
            pool.start(options)
            return Heard(pool)

        yield started
    until(lambda: set(threading.enumerate()) <= before, what="the end of the pool's threads")


def put(heard: Heard, *sequences: int) -> None:
    for sequence in sequences:
        heard.until(lambda: heard.pool.room > 0, "room")
        heard.pool.put(page(sequence))


def require_exact(heard: Heard, database: Database, pages: int) -> None:
    """Every page has one receipt, and the table has every event once."""
    assert sorted(receipt.page.sequence for receipt in heard.receipts) == list(range(pages))
    assert all(receipt.counts.balanced for receipt in heard.receipts)
    assert sum(receipt.counts.inserted for receipt in heard.receipts) == pages * EVENTS
    assert database.value("SELECT count(*) FROM ingested_events") == pages * EVENTS
    assert heard.pool.pages == 0


def worker_at(heard: Heard, sequence: int, times: int = 1) -> int:
    """The process id of the worker that has announced this page for the `times`-th time."""
    heard.until(lambda: len(heard.started(sequence)) >= times, f"start {times} of page {sequence}")
    return heard.started(sequence)[times - 1].worker


def failure_of(heard: Heard) -> Failure:
    heard.until(lambda: any(isinstance(message, Failure) for message in heard.messages), "a failure")
    return next(message for message in heard.messages if isinstance(message, Failure))


def test_the_page_of_a_worker_that_was_killed_is_given_to_another(start: Start, database: Database) -> None:
    heard = start()
    with held_up(database, 0):
        put(heard, 0, 1, 2)
        send(signal.SIGKILL, worker_at(heard, 0))
        worker_at(heard, 0, times=2)
    heard.until_receipts(3)
    require_exact(heard, database, 3)


def test_a_page_that_no_worker_survives_is_tried_alone_and_taken_out(start: Start, database: Database) -> None:
    heard = start()
    with held_up(database, 0):
        put(heard, 0)
        for times in (1, 2):
            send(signal.SIGKILL, worker_at(heard, 0, times))
        put(heard, 1, 2)
        third = worker_at(heard, 0, 3)
        alone = [message.page for message in heard.messages if isinstance(message, Receipt)]
        send(signal.SIGKILL, third)
        heard.until(lambda: any(isinstance(message, Poisoned) for message in heard.messages), "the poisoned page")
    assert set(alone) <= {page_id(1), page_id(2)}
    heard.until_receipts(2)
    (poisoned,) = [message for message in heard.messages if isinstance(message, Poisoned)]
    assert (poisoned.page, poisoned.deaths) == (page_id(0), 3)
    assert "was lost at work on page" in poisoned.how
    assert heard.pool.pages == 0


def test_a_worker_that_has_left_fails_nobodys_page(start: Start, database: Database) -> None:
    heard = start()
    with held_up(database, 0):
        put(heard, 0)
        worker_at(heard, 0)
        message = Failure(page_id(0), 0, "InterfaceError", "connection already closed", "", "")
        heard.pool._hear(Said(1, "tcp://127.0.0.1:1", message))  # type: ignore[attr-defined]
        assert heard.listen() == []
    heard.until_receipts(1)
    require_exact(heard, database, 1)


def test_a_run_that_waits_for_the_database_says_so(start: Start, database: Database, options: WorkerOptions) -> None:
    heard = start(replace(options, sign_of_life_s=0.2))
    with held_up(database, 0):
        put(heard, 0)
        heard.until(lambda: any(isinstance(message, Waiting) for message in heard.messages), "the word of a wait")
    heard.until_receipts(1)


def test_two_runs_share_the_workers_and_no_page(start: Start, database: Database) -> None:
    one, other = start(), start()
    put(one, 0, 2)
    put(other, 1, 3)
    one.until_receipts(2)
    other.until_receipts(2)
    assert {receipt.page.sequence for receipt in one.receipts} == {0, 2}
    assert {receipt.page.sequence for receipt in other.receipts} == {1, 3}
    assert database.value("SELECT count(*) FROM ingested_pages") == 4


def test_workers_of_another_database_are_refused(start: Start, options: WorkerOptions) -> None:
    heard = start(replace(options, database_id=str(uuid.UUID(int=7))))
    put(heard, 0)
    failure = failure_of(heard)
    assert failure.error == "WorkerRefusedError"
    assert "writes into another database than the run" in failure.message
    assert str(uuid.UUID(int=7)) in failure.message


def test_workers_of_another_version_are_refused_with_both(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    own = datasync_ingest.__version__
    monkeypatch.setattr(dask_worker, "__version__", "9.9.9")
    heard = start()
    put(heard, 0)
    failure = failure_of(heard)
    assert failure.error == "WorkerRefusedError"
    assert f"has version {own} of this program, and the run has 9.9.9" in failure.message


def test_pages_are_bounded_in_bytes(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "PAGES_BYTES", 1_000)
    heard = start()
    heard.pool.put(page(0, filler=100))
    assert heard.pool.room == 0
    heard.until_receipts(1)
    assert heard.pool.room > 0


async def _nothing_arrives(*_: object) -> bool:
    return True


@pytest.mark.parametrize(
    ("place", "name", "instead"),
    [(dask_delivery, "DELIVER", "nobody-takes-it"), (dask_delivery.Delivery, "_deliver", _nothing_arrives)],
    ids=["a worker that the run cannot give a body to", "a worker that has lost it"],
)
def test_the_scheduler_carries_what_does_not_come_straight(
    place: object, name: str, instead: object, start: Start, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, name, instead)
    heard = start()
    put(heard, 0, 1, 2)
    heard.until_receipts(3)
    require_exact(heard, database, 3)


def test_the_desk_is_cleared_when_the_run_ends(start: Start, database: Database) -> None:
    def connections() -> int:
        return int(
            database.value(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'datasync_ingest worker%%'"
            )
        )

    heard = start()
    put(heard, 0)
    heard.until_receipts(1)
    assert connections() == 1
    heard.pool.stop(5)
    until(lambda: connections() == 0, what="the end of the workers' connections")


def test_nobody_answers_at_the_address(options: WorkerOptions) -> None:
    pool = DaskPool("tcp://127.0.0.1:1", patience_s=0.5)
    with pytest.raises(SchedulerAwayError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:1: [A-Z]"):
        pool.start(options)
    assert pool.stop(5) == []


def test_the_scheduler_needs_nothing_of_this_program(start: Start, cluster: Cluster) -> None:
    from distributed import Client

    heard = start()
    put(heard, 0)
    heard.until_receipts(1)
    with Client(cluster.address) as client:
        assert client.run_on_scheduler(eval, "'datasync_ingest' in __import__('sys').modules") is False


def test_a_dashboard_is_one_that_can_be_seen(cluster: Cluster) -> None:
    """The scheduler has no Bokeh here: it answers 404; a page is a page."""
    port = cluster.identity()["services"]["dashboard"]
    assert not asyncio.run(shows(f"http://127.0.0.1:{port}/status"))
    assert asyncio.run(shows(f"http://127.0.0.1:{port}/health"))
    assert not asyncio.run(shows("http://127.0.0.1:1/status"))


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler without workers."""
    with Cluster(tmp_path) as made:
        yield made


def test_a_page_that_says_what_a_dashboard_needs_is_none(own_cluster: Cluster) -> None:
    """The scheduler is asked for one, and has no Bokeh: it answers 200."""
    own_cluster.kill_scheduler()
    own_cluster.start_scheduler("--dashboard")
    link = f"http://127.0.0.1:{own_cluster.identity()['services']['dashboard']}/status"
    assert b"bokeh" in urlopen(link).read()
    assert not asyncio.run(shows(link))


def test_without_a_worker_the_run_waits_and_says_how_to_start_one(
    start: Start, own_cluster: Cluster, database: Database, options: WorkerOptions
) -> None:
    heard = start(on=own_cluster)
    assert heard.pool.room == 0
    heard.listen()
    (short,) = [message for message in heard.messages if isinstance(message, Unstaffed)]
    assert short.cause == (f"no worker on the cluster: start one with bin/worker --scheduler {own_cluster.address}")
    workers = own_cluster.start_workers(database)
    heard.until(lambda: heard.pool.room > 0, "the worker")
    assert heard.messages[-1] == Unstaffed("")
    put(heard, 0)
    heard.until_receipts(1)
    workers.end()
    heard.until(lambda: heard.pool.workers == 0, "the worker's leave")
    patient = start(replace(options, db_patience_s=0.3), on=own_cluster)
    with pytest.raises(NoWorkerError, match="has had no worker for this program for 0 s"):
        patient.until(lambda: False)


def test_a_scheduler_that_is_killed_ends_the_run_by_name(
    own_cluster: Cluster, database: Database, options: WorkerOptions
) -> None:
    own_cluster.start_workers(database)
    pool = DaskPool(own_cluster.address, patience_s=1.0)
    pool.start(options)
    heard = Heard(pool)
    with held_up(database, 0):
        put(heard, 0, 1)
        worker_at(heard, 0)
        own_cluster.kill_scheduler()
        with pytest.raises(SchedulerLostError, match="is lost: it has not answered for 1 s"):
            heard.until(lambda: False)
    assert receipts(pool.stop(0)) == []


def test_a_scheduler_that_was_restarted_is_another_one(
    own_cluster: Cluster, database: Database, options: WorkerOptions
) -> None:
    own_cluster.start_workers(database)
    pool = DaskPool(own_cluster.address)
    pool.start(options)
    heard = Heard(pool)
    own_cluster.kill_scheduler()
    own_cluster.start_scheduler()
    with pytest.raises(SchedulerLostError, match="is lost: it was restarted"):
        heard.until(lambda: False)
    pool.stop(0)


def test_retired_workers_and_new_ones_in_mid_run(start: Start, own_cluster: Cluster, database: Database) -> None:
    own_cluster.start_workers(database)
    (first,) = own_cluster.at_work()
    heard = start(on=own_cluster)
    with held_up(database, 0):
        put(heard, 0, 1)
        worker_at(heard, 0)
        own_cluster.start_workers(database)
        heard.until(lambda: heard.pool.workers == 2, "the second worker")
        own_cluster.ask("retire_workers", workers=[first], close_workers=True)
    put(heard, 2, 3)
    heard.until_receipts(4)
    require_exact(heard, database, 4)
    assert heard.pool.workers == 1


def test_a_run_goes_on_without_a_worker_of_another_database(
    start: Start, own_cluster: Cluster, database: Database, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    own_cluster.start_workers(server)
    (unfit,) = own_cluster.at_work()
    own_cluster.start_workers(database)
    heard = start(on=own_cluster)
    assert heard.pool.workers == 2
    put(heard, *range(6))
    heard.until_receipts(6)
    require_exact(heard, database, 6)
    assert heard.pool.workers == 1
    (warning,) = [record.getMessage() for record in caplog.records if "The run goes on without it" in record.message]
    assert warning.startswith(f"The worker {unfit} writes into another database than the run: ")


def test_what_passes_the_scheduler_holds_no_secret(options: WorkerOptions) -> None:
    secret = Secret("postgresql://user:right@host/database")
    terms = dask_worker.Terms.of("run", replace(options, conninfo=secret))
    call = dask_worker.call_for(terms, page(0), 1)
    assert b"right" not in call.with_body + call.without_body
    assert page(0).body not in call.with_body + call.without_body
    assert page(0).body == call.body
