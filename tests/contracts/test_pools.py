"""One body over every pool: four verbs, and the same promises whoever does the work."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator

import psutil
import pytest

from datasync_ingest.errors import WorkerDiedError
from datasync_ingest.messages import Failure, PageId, RawPage, Receipt, Started, WorkerMessage
from datasync_ingest.pools import POOLS, Pool
from datasync_ingest.pools.processes import ProcessPool
from datasync_ingest.postgres.source import SourceDatabase
from datasync_ingest.postgres.writers import DEFAULT_WRITER
from datasync_ingest.settings import Secret
from datasync_ingest.stopping import Wake
from datasync_ingest.worker import WorkerOptions
from tests.harness import Database, until

WALK = str(uuid.UUID(int=9))
WORKERS = 2


def page(sequence: int, *, body: bytes | None = None) -> RawPage:
    events = [{"id": f"{sequence}-{number}", "timestamp": 1_769_541_612_369} for number in range(10)]
    whole = json.dumps({"data": events, "hasMore": False}).encode()
    return RawPage(PageId(WALK, sequence), None, None, False, 10, 10, None, None, None, None, None, body=body or whole)


@pytest.fixture
def options(database: Database) -> WorkerOptions:
    with SourceDatabase(database.conninfo, patience_s=5, waiting=print) as source:
        source.prepare("http://api")
    return WorkerOptions(Secret(database.conninfo), DEFAULT_WRITER, db_patience_s=5)


@pytest.fixture(params=POOLS)
def pool(request: pytest.FixtureRequest, options: WorkerOptions) -> Iterator[Pool]:
    made = POOLS[request.param](options, WORKERS)
    made.start()
    yield made
    made.stop(0)


def receive(pool: Pool, enough: Callable[[list[WorkerMessage]], bool]) -> list[WorkerMessage]:
    messages: list[WorkerMessage] = []

    def received() -> bool:
        messages.extend(pool.receive(0.1))
        return enough(messages)

    until(received, what="the messages")
    return messages


def receipts(messages: list[WorkerMessage]) -> list[Receipt]:
    return [message for message in messages if isinstance(message, Receipt)]


def test_every_page_gets_a_receipt_and_is_in_the_database_by_then(pool: Pool, database: Database) -> None:
    wanted, sent = 12, 0
    got: list[Receipt] = []
    while len(got) < wanted:
        while sent < wanted and pool.room:
            pool.put(page(sent))
            sent += 1
        got += receipts(pool.receive(1))
    assert sorted(receipt.page.sequence for receipt in got) == list(range(wanted))
    assert all(receipt.counts.inserted == 10 for receipt in got)
    assert database.value("SELECT count(*) FROM ingested_events") == 120
    assert pool.pages == 0


def test_a_page_is_announced_before_its_receipt(pool: Pool) -> None:
    pool.put(page(0))
    messages = receive(pool, lambda found: bool(receipts(found)))
    kinds = [type(message) for message in messages if message.page == PageId(WALK, 0)]
    assert kinds == [Started, Receipt]


def test_the_pool_is_bounded_and_a_receipt_makes_room(pool: Pool) -> None:
    capacity = pool.room
    for sequence in range(capacity):
        pool.put(page(sequence))
    assert (pool.room, pool.pages) == (0, capacity)
    with pytest.raises(ValueError, match="full"):
        pool.put(page(capacity))
    receive(pool, lambda found: bool(receipts(found)))
    assert pool.room >= 1


def test_a_page_that_no_worker_can_read_is_a_failure_and_the_others_go_on(pool: Pool) -> None:
    pool.put(page(0, body=b"[]"))
    pool.put(page(1))
    messages = receive(pool, lambda found: bool(receipts(found)) and any(isinstance(m, Failure) for m in found))
    (failure,) = [message for message in messages if isinstance(message, Failure)]
    assert failure.page == PageId(WALK, 0)
    assert failure.error
    assert "Traceback" in failure.traceback
    assert pool.pages == 0


def test_stop_leaves_nothing_behind_and_may_be_called_twice(pool: Pool) -> None:
    pool.put(page(0))
    receive(pool, lambda found: bool(receipts(found)))
    pool.stop(5)
    assert pool.stop(5) == []
    workers = [one for one in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(one.cmdline())]
    assert workers == []


def test_a_ring_ends_the_wait(pool: Pool) -> None:
    wake = Wake()
    wake.ring()
    began = time.monotonic()
    assert pool.receive(30, wake=wake.fileno()) == []
    assert time.monotonic() - began < 15
    wake.close()


def test_stop_lets_the_workers_finish_what_is_queued(options: WorkerOptions, database: Database) -> None:
    pool = ProcessPool(options, WORKERS)
    pool.start()
    for sequence in range(pool.room):
        pool.put(page(sequence))
    got = receipts(pool.stop(30))
    assert len(got) == WORKERS * 3
    assert database.value("SELECT count(*) FROM ingested_pages") == len(got)


def test_a_killed_worker_is_named(options: WorkerOptions) -> None:
    pool = ProcessPool(options, 1)
    pool.start()
    pool.put(page(0))
    receive(pool, lambda found: bool(receipts(found)))
    (worker,) = [one for one in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(one.cmdline())]
    worker.kill()
    with pytest.raises(WorkerDiedError, match=r"worker 0 died while it waited for a page, by signal 9"):
        until(lambda: pool.receive(0.1) and False, what="the named death")
    pool.stop(0)
