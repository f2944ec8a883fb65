"""Real workers ended by real signals: the pool goes on, every page is receipted once, nothing is left behind."""

from __future__ import annotations

import gc
import logging
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest

from datasync_ingest.errors import WorkerDiedError
from datasync_ingest.messages import Counts, Failure, Poisoned, Started, Waiting, WorkerOptions
from datasync_ingest.pools.processes import ProcessPool
from tests.harness import Database, until
from tests.pools import EVENTS, Heard, held_up, page, page_id, send, waiting_backends, worker_options, workers

WORKERS = 2
HANG_S = 4.0  # far more than a worker's start takes here

Start = Callable[..., Heard]


@pytest.fixture
def options(database: Database) -> WorkerOptions:
    return worker_options(database)


@pytest.fixture
def start(options: WorkerOptions) -> Iterator[Start]:
    """Starts pools of processes; after the test they are stopped, and nothing of them may be alive."""
    with ExitStack() as opened:

        def started(count: int = WORKERS, options: WorkerOptions = options, **how: float) -> Heard:
            pool = ProcessPool(count, **how)
            opened.callback(pool.stop, 0)
            pool.start(options)
            return Heard(pool)

        yield started
    assert workers() == {}


def put(heard: Heard, *sequences: int) -> None:
    for sequence in sequences:
        heard.pool.put(page(sequence))


def require_exact(heard: Heard, database: Database, pages: int) -> None:
    """Every page has one receipt, the books balance, and the table has every event once."""
    assert sorted(receipt.page.sequence for receipt in heard.receipts) == list(range(pages))
    counts = sum((receipt.counts for receipt in heard.receipts), Counts())
    assert counts.balanced
    assert counts == Counts(received=pages * EVENTS, inserted=pages * EVENTS)
    assert database.value("SELECT count(*) FROM ingested_events") == pages * EVENTS
    assert heard.pool.pages == 0


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_workers_that_die_or_stop_before_they_know_of_the_run_are_replaced(
    signum: signal.Signals, options: WorkerOptions, database: Database
) -> None:
    heard = Heard(ProcessPool(WORKERS, hang_s=HANG_S))
    with ExitStack() as opened:
        opened.callback(heard.pool.stop, 0)
        heard.pool.prepare()
        send(signum, *workers().values())
        heard.pool.start(options)
        put(heard, 0, 1, 2)
        heard.until_receipts(3)
    require_exact(heard, database, pages=3)
    assert workers() == {}


def test_a_worker_killed_while_it_waits_is_replaced_and_the_log_says_by_what(
    start: Start, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    heard = start()
    put(heard, 0)
    heard.until_receipts(1)
    send(signal.SIGKILL, workers()["worker 1"])
    put(heard, 1, 2)
    heard.until_receipts(3)
    require_exact(heard, database, 3)
    (line,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "worker 1, waiting for a page, was killed by SIGKILL" in line.getMessage()


def test_a_worker_killed_at_its_page_is_named_with_it_and_the_page_is_given_out_again(
    start: Start, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    heard = start()
    with held_up(database, 0):
        put(heard, 0, 1, 2, 3)
        heard.kill_at(0)
        heard.until_started(0, 2)
    heard.until_receipts(4)
    require_exact(heard, database, 4)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"at work on page {page_id(0)}, was killed by SIGKILL" in line
    assert "memory" in line


def test_all_workers_killed_at_once_and_again_are_all_replaced(start: Start, database: Database) -> None:
    heard = start()
    for first in range(0, 12, 4):
        put(heard, *range(first, first + 4))
        send(signal.SIGKILL, *workers().values())
        heard.until_receipts(first + 4)
    require_exact(heard, database, 12)


def test_a_signal_that_a_worker_can_ignore_does_not_end_it(start: Start, database: Database) -> None:
    heard = start(1)
    put(heard, 0)
    heard.until_receipts(1)
    before = workers()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        send(signum, *before.values())
    put(heard, 1)
    heard.until_receipts(2)
    assert workers() == before


def test_receipts_that_lie_in_the_pipe_are_read_before_a_page_is_given_out_again(
    start: Start, database: Database
) -> None:
    heard = start(1)
    with held_up(database, 1):
        put(heard, 0, 1)
        until(lambda: waiting_backends(database), what="page 1, after which the receipt of page 0 was sent")
        send(signal.SIGKILL, *workers().values())
        heard.until_started(1, 2)
    heard.until_receipts(2)
    assert len(heard.started(0)) == 1
    assert not any(receipt.repeated for receipt in heard.receipts)


@pytest.mark.long
def test_killed_dozens_of_times_at_random_moments_every_page_gets_one_receipt(start: Start, database: Database) -> None:
    chance = random.Random(20260127)
    heard, pages, sent, done = start(3), 120, 0, 0
    kills = 0
    while len(heard.receipts) < pages:
        while sent < pages and heard.pool.room:
            heard.pool.put(page(sent, filler=30_000))  # 300 KB: several times what a pipe holds
            sent += 1
        heard.listen()
        alive = list(workers().values())
        if len(heard.receipts) > done and len(alive) == 3:  # one is a trial: it would be guilty of our kill
            done = len(heard.receipts) + chance.randrange(4)
            time.sleep(chance.random() * 0.03)  # not a wait: the kill shall fall at any moment of a page's way
            send(signal.SIGKILL, *alive[: chance.choice([1, 1, 2, 3])])
            kills += 1
    assert kills >= 24
    require_exact(heard, database, pages)


def test_a_page_that_kills_three_workers_is_taken_out_and_all_others_are_done(start: Start, database: Database) -> None:
    heard = start()
    with held_up(database, 2):
        put(heard, 0, 1, 2, 3, 4, 5)
        heard.kill_at(2)
        heard.kill_at(2, 2)
        heard.until_started(2, 3)
        begun = len(heard.messages)
        assert list(workers()) == ["worker 0"], "nothing else of the pool is at work"
        heard.kill_at(2, 3)
        heard.until(lambda: any(isinstance(message, Poisoned) for message in heard.messages))
    heard.until_receipts(5)
    (poisoned,) = [message for message in heard.messages if isinstance(message, Poisoned)]
    assert (poisoned.page, poisoned.deaths) == (page_id(2), 3)
    assert "was killed by SIGKILL" in poisoned.how
    assert not [m for m in heard.messages[begun : heard.messages.index(poisoned)] if isinstance(m, Started)]
    assert sorted(receipt.page.sequence for receipt in heard.receipts) == [0, 1, 3, 4, 5]
    assert (heard.pool.pages, heard.pool.room) == (0, WORKERS * 3)


def test_a_page_that_comes_through_alone_lets_the_others_go_on(start: Start, database: Database) -> None:
    heard = start()
    with held_up(database, 0):
        put(heard, 0, 1)
        heard.kill_at(0)
        heard.kill_at(0, 2)
        heard.until_started(0, 3)
        put(heard, 2, 3)
    heard.until_receipts(4)
    require_exact(heard, database, 4)
    assert len(workers()) == WORKERS


def test_the_death_of_one_worker_does_not_count_against_the_pages_of_the_others(
    start: Start, database: Database
) -> None:
    heard = start()
    with held_up(database, 0, 1):
        put(heard, 0, 1, 2)
        heard.until_started(1)
        heard.kill_at(0)
        heard.until_started(1, 2)
        heard.kill_at(0, 2)
        heard.kill_at(0, 3)
        heard.kill_at(1, 3)
        heard.until_started(1, 4)
        heard.until(lambda: bool(heard.started(2)), "another page at work: this one is not tried alone")
    heard.until_receipts(2)
    assert [m.page for m in heard.messages if isinstance(m, Poisoned)] == [page_id(0)]
    assert sorted(receipt.page.sequence for receipt in heard.receipts) == [1, 2]


def test_workers_that_die_again_and_again_without_a_page_end_the_run(start: Start) -> None:
    heard = start()
    put(heard, 0)

    def kill_and_listen_for_ever() -> None:
        while True:
            send(signal.SIGKILL, *workers().values())
            heard.listen()

    with pytest.raises(WorkerDiedError, match=r"10 times in a row .* was killed by SIGKILL") as raised:
        kill_and_listen_for_ever()
    assert raised.value.exit_code == 5
    assert heard.pool.stop(0) == []
    assert workers() == {}


def test_a_system_without_room_for_a_new_worker_is_a_named_ending(start: Start) -> None:
    heard = start()
    put(heard, 0)
    heard.until_receipts(1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    send(signal.SIGKILL, workers()["worker 0"])
    heard.pool.put(page(1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (psutil.Process().num_fds() - 3, hard))
    try:
        with pytest.raises(WorkerDiedError, match="No worker could be started"):
            heard.until(lambda: False)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_worker_stopped_at_its_page_is_killed_and_the_page_done_by_another(
    start: Start, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    heard = start(hang_s=HANG_S)
    with held_up(database, 0):
        put(heard, 0)
        stopped = heard.until_started(0)
        send(signal.SIGSTOP, stopped)
        put(heard, 1, 2)
        heard.until_started(0, 2)
        assert not psutil.pid_exists(stopped)
    heard.until_receipts(3)
    require_exact(heard, database, 3)
    assert f"at work on page {page_id(0)}, has said nothing for 4 s" in caplog.text


def test_workers_stopped_while_one_of_them_has_the_lock_of_the_queue_are_replaced(
    start: Start, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    heard = start(hang_s=HANG_S)
    put(heard, 0, 1)
    heard.until_receipts(2)
    send(signal.SIGSTOP, *workers().values())
    put(heard, 2, 3, 4)
    heard.until_receipts(5)
    require_exact(heard, database, 5)
    assert "waiting for a page, has said nothing" in caplog.text


def test_a_worker_that_waits_for_the_database_shows_that_it_lives_and_is_left_alone(
    start: Start, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    heard = start(options=worker_options(database, sign_of_life_s=0.5), hang_s=HANG_S)
    with held_up(database, 0):
        put(heard, 0)
        heard.until(lambda: len([m for m in heard.messages if isinstance(m, Waiting)]) > 2.5 * HANG_S / 0.5)
    heard.until_receipts(1)
    assert len(heard.started(0)) == 1
    assert not caplog.records


def test_a_database_that_does_not_answer_for_as_long_as_our_patience_is_a_failure(
    start: Start, database: Database
) -> None:
    heard = start(options=worker_options(database, db_patience_s=1.0, sign_of_life_s=0.2))
    with held_up(database, 0):
        put(heard, 0)
        heard.until(lambda: any(isinstance(message, Failure) for message in heard.messages))
        heard.pool.stop(0)
    (failure,) = [message for message in heard.messages if isinstance(message, Failure)]
    assert (failure.error, failure.message) == ("DatabaseUnreachableError", "PostgreSQL has not answered for 1 s.")


def footprint() -> dict[str, int]:
    """What this process holds: file descriptors, threads, semaphores and children."""
    gc.collect()  # what earlier tests left in cycles, such as an exception's traceback
    return {
        "fds": psutil.Process().num_fds(),
        "threads": threading.active_count(),
        "semaphores": Path("/proc/self/maps").read_text().count("/dev/shm/sem."),
        "children": len(psutil.Process().children()),
    }


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs Linux's /proc")
@pytest.mark.long
def test_twenty_restarts_leak_nothing(start: Start, database: Database) -> None:
    heard = start()
    before: dict[str, int] = {}
    for turn in range(21):
        send(signal.SIGKILL, *workers().values())
        for sequence in range(turn * 6, turn * 6 + 6):  # more than the pipe holds: the feeder thread stands in it
            heard.pool.put(page(sequence, filler=30_000))
        heard.until_receipts(turn * 6 + 6)
        before = before or footprint()
    assert footprint() == before
    require_exact(heard, database, 126)


def test_a_stopped_pool_leaves_nothing_in_this_process(options: WorkerOptions) -> None:
    with closing(ProcessPoolTurn(options)) as warm:  # what the first pool of a process brings for good
        warm.run()
    before = footprint()
    with closing(ProcessPoolTurn(options)) as turn:
        turn.run()
    assert footprint() == before


class ProcessPoolTurn:
    """One pool's life with a death in it, ended while its queue is full."""

    def __init__(self, options: WorkerOptions) -> None:
        self.heard = Heard(ProcessPool(WORKERS))
        self.heard.pool.start(options)

    def run(self) -> None:
        self.heard.pool.put(page(0))
        self.heard.until(lambda: self.heard.pool.pages == 0)
        send(signal.SIGKILL, workers()["worker 0"])
        for sequence in range(1, 7):
            self.heard.pool.put(page(sequence, filler=30_000))
        self.heard.until(lambda: len(self.heard.receipts) > 1)

    def close(self) -> None:
        self.heard.pool.stop(0)
