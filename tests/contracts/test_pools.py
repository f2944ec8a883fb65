"""One body over every pool: four verbs, and the same promises whoever does the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from datasync_ingest.messages import Failure, Receipt, Started, WorkerMessage, WorkerOptions
from datasync_ingest.pools import POOLS, Pool, PoolOptions
from datasync_ingest.stopping import Wake
from tests.harness import Database, until
from tests.pools import page, page_id, receipts, worker_options, workers

WORKERS = 2


@pytest.fixture
def options(database: Database) -> WorkerOptions:
    return worker_options(database)


@pytest.fixture(params=POOLS)
def pool(request: pytest.FixtureRequest, options: WorkerOptions) -> Iterator[Pool]:
    scheduler = request.getfixturevalue("cluster").address if request.param == "dask" else None
    made = POOLS[request.param](PoolOptions(WORKERS, scheduler))
    made.start(options)
    yield made
    made.stop(0)


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_that_was_prepared_in_vain_leaves_nothing(name: str) -> None:
    made = POOLS[name](PoolOptions(WORKERS, "tcp://127.0.0.1:1"))
    made.prepare()
    with pytest.raises(ValueError, match="has not been started"):
        made.receive(0)
    assert made.stop(10) == []
    assert workers() == {}


@pytest.mark.parametrize("name", [name for name in POOLS if name != "dask"])
def test_pages_may_be_put_before_the_start_and_are_worked_off_once(name: str, options: WorkerOptions) -> None:
    made = POOLS[name](PoolOptions(WORKERS))
    made.prepare()
    made.put(page(0))
    made.start(options)
    assert receipts(receive(made, lambda messages: bool(receipts(messages))))[0].page == page_id(0)
    made.put(page(1))
    assert receipts(receive(made, lambda messages: bool(receipts(messages))))[0].page == page_id(1)
    assert receipts(made.stop(10)) == []


def receive(pool: Pool, enough: Callable[[list[WorkerMessage]], bool]) -> list[WorkerMessage]:
    messages: list[WorkerMessage] = []

    def received() -> bool:
        messages.extend(pool.receive(0.1))
        return enough(messages)

    until(received, what="the messages")
    return messages


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
    kinds = [type(message) for message in messages if message.page == page_id(0)]
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
    assert failure.page == page_id(0)
    assert failure.error
    assert "Traceback" in failure.traceback
    assert pool.pages == 0


def test_stop_leaves_nothing_behind_and_may_be_called_twice(pool: Pool) -> None:
    pool.put(page(0))
    receive(pool, lambda found: bool(receipts(found)))
    pool.stop(5)
    assert pool.stop(5) == []
    assert workers() == {}


def test_a_ring_ends_the_wait(pool: Pool) -> None:
    wake = Wake()
    wake.ring()
    began = time.monotonic()
    assert pool.receive(30, wake=wake.fileno()) == []
    assert time.monotonic() - began < 15
    wake.close()


def test_stop_lets_the_workers_finish_what_they_have_begun(pool: Pool, database: Database) -> None:
    pool.put(page(0))
    began = receive(pool, lambda found: any(isinstance(message, Started) for message in found))
    got = receipts([*began, *pool.stop(30)])
    assert [receipt.page for receipt in got] == [page_id(0)]
    assert database.value("SELECT count(*) FROM ingested_pages") == 1
