"""The spool on a real file, and the decision who goes into it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasync_ingest.feeding import STALL_S, Feeder
from datasync_ingest.ledger import FILE_NAME, Ledger, PoisonedPage, Walk
from datasync_ingest.messages import Counts, PageId, Position, RawPage, Receipt, WorkerMessage, WorkerOptions

WALK = Walk("w1", until=None, cursor=None, after=None, head=None, state="active")
LIMIT = 50_000
LONGEST_WAIT_S = 60.0


def page(sequence: int, *, size: int = 100) -> RawPage:
    return RawPage(
        PageId("w1", sequence),
        cursor=f"c{sequence}" if sequence else None,
        next_cursor=f"c{sequence + 1}",
        ends_walk=False,
        limit=5,
        received=5,
        after=Position(100 - sequence, "after") if sequence else None,
        first=Position(99 - sequence, "first"),
        last=None,
        total=50,
        request_id="r",
        body=os.urandom(size),
    )


def receipt(one: RawPage) -> Receipt:
    return Receipt(one.page, 0, Counts(5, 5), False, 0.0, 0.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path, purpose="test") as opened:
        opened.begin(WALK)
        yield opened


# --- the spool ---


def test_pages_come_back_whole_in_their_order_and_each_once(ledger: Ledger) -> None:
    pages = [page(sequence) for sequence in range(5)]
    for one in pages:
        ledger.spool.put(one)
    assert ledger.spool.waiting == 5
    assert [ledger.spool.next() for _ in range(5)] == pages
    assert ledger.spool.next() is None
    assert ledger.spool.waiting == 0


def test_a_page_leaves_with_its_receipt_and_not_before(ledger: Ledger, tmp_path: Path) -> None:
    for sequence in range(3):
        ledger.spool.put(page(sequence))
    first = ledger.spool.next()
    assert first is not None
    ledger.complete(first, receipt(first))
    ledger.spool.next()
    ledger.close()
    with Ledger.open(tmp_path, purpose="test") as again:
        assert again.spool.waiting == 2
        found = [again.spool.next() for _ in range(2)]
        assert [one and one.page.sequence for one in found] == [1, 2]


def test_a_page_of_a_second_stall_is_given_after_the_spool_was_emptied(ledger: Ledger) -> None:
    for sequence in range(6):
        ledger.spool.put(page(sequence))
        given = ledger.spool.next()
        assert given is not None
        assert given.page.sequence == sequence
        ledger.complete(given, receipt(given))
    assert ledger.spool.waiting == 0


def test_what_is_spooled_or_completed_is_known_in_the_order_of_the_walk(ledger: Ledger) -> None:
    ledger.complete(page(0), receipt(page(0)))
    for sequence in (2, 1, 4):
        ledger.spool.put(page(sequence))
    known = ledger.known("w1")
    assert [one.page.sequence for one in known] == [0, 1, 2, 4]
    assert known[1] == dataclasses.replace(known[1], cursor="c1", after=Position(99, "after"), received=5)
    assert [one.page.sequence for one in ledger.settled("w1")] == [0]


def test_a_poisoned_page_is_kept_and_given_to_nobody_until_it_is_asked_for(ledger: Ledger) -> None:
    ledger.spool.put(page(0))
    ledger.spool.set_aside(page(1), "killed")
    given = ledger.spool.next()
    assert given is not None
    ledger.spool.set_aside(given, "killed, too")
    assert ledger.spool.next() is None
    assert ledger.spool.poisoned() == [
        PoisonedPage(PageId("w1", 0), 5, "killed, too"),
        PoisonedPage(PageId("w1", 1), 5, "killed"),
    ]
    assert [one.page.sequence for one in ledger.settled("w1")] == [0, 1]
    assert ledger.spool.retry_poisoned() == 2
    assert ledger.spool.waiting == 2
    assert ledger.spool.next() == given


def test_a_page_that_the_database_has_is_no_longer_in_the_spool(ledger: Ledger, tmp_path: Path) -> None:
    ledger.spool.put(page(0))
    ledger.spool.put(page(1))
    with Ledger.open(tmp_path / "other", purpose="test") as other:
        other.begin(WALK)
        other.complete(page(0), receipt(page(0)))
        ledger.adopt_pages(other.pages())
    ledger.close()
    with Ledger.open(tmp_path, purpose="test") as again:
        assert again.spool.waiting == 1


def test_an_emptied_spool_gives_its_room_back(ledger: Ledger, tmp_path: Path) -> None:
    def room() -> int:
        return sum(path.stat().st_size for path in tmp_path.glob(f"{FILE_NAME}*"))

    before = room()
    for sequence in range(20):
        ledger.spool.put(page(sequence, size=100_000))
    assert room() > before + 2_000_000 * 0.9
    while (one := ledger.spool.next()) is not None:
        ledger.complete(one, receipt(one))
    assert ledger.spool.size == 0
    assert room() < before + 500_000


# --- who goes into it ---


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class HandPool:
    """A pool whose workers are this test: what was put waits until `receipted`."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.taken: list[RawPage] = []

    @property
    def room(self) -> int:
        return self.capacity - len(self.taken)

    @property
    def pages(self) -> int:
        return len(self.taken)

    @property
    def workers(self) -> int:
        return 0

    @property
    def pids(self) -> tuple[int, ...]:
        return ()

    def prepare(self) -> None: ...

    def start(self, options: WorkerOptions) -> None: ...

    def put(self, page: RawPage) -> None:
        self.taken.append(page)

    def receive(self, timeout_s: float, wake: int | None = None) -> list[WorkerMessage]:
        return []

    def stop(self, grace_s: float) -> list[WorkerMessage]:
        return []


class Scene:
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.clock = Clock()
        self.pool = HandPool(2)
        self.feeder = Feeder(
            self.pool, ledger.spool, spool_limit=LIMIT, longest_wait_s=LONGEST_WAIT_S, clock=self.clock
        )
        self.fetched = 0

    def offer(self, *, waited_s: float = 0.0, size: int = 100) -> bool:
        """A fetched page is there; whether it goes on."""
        self.feeder.refill()
        if not self.feeder.takes(waited_s):
            return False
        self.feeder.accept(page(self.fetched, size=size))
        self.fetched += 1
        return True

    def commit(self) -> int:
        """A worker commits the page that it was given first; returns its sequence."""
        one = self.pool.taken.pop(0)
        held = self.feeder.received(one.page)
        assert held is not None
        self.ledger.complete(held, receipt(held))
        return one.page.sequence


@pytest.fixture
def scene(ledger: Ledger) -> Scene:
    return Scene(ledger)


def test_while_the_workers_keep_up_nothing_is_spooled(scene: Scene) -> None:
    for sequence in range(10):
        assert scene.offer()
        assert scene.commit() == sequence
    assert scene.ledger.spool.size == 0


def test_a_full_pool_holds_the_walk_until_a_stall_and_then_the_spool_takes_all(scene: Scene) -> None:
    assert [scene.offer() for _ in range(3)] == [True, True, False]
    scene.clock.now = STALL_S
    assert [scene.offer() for _ in range(5)] == [True] * 5
    assert scene.feeder.waiting == 5
    assert not scene.feeder.idle


def test_after_the_stall_the_spool_comes_first_and_a_page_waits_again(scene: Scene) -> None:
    scene.clock.now = STALL_S
    scene.offer()
    scene.offer()
    scene.clock.now *= 2
    for _ in range(4):
        scene.offer()
    order = [scene.commit()]
    assert not scene.offer(), "a receipt has come: the database is back, and behind"
    assert scene.offer(waited_s=STALL_S), "but no page waits for longer than a moment"
    while scene.pool.taken or scene.feeder.waiting:
        scene.feeder.refill()
        order.append(scene.commit())
    assert order == list(range(7))
    assert scene.offer()
    assert scene.feeder.waiting == 0


def test_a_full_spool_takes_one_page_before_its_cursor_dies(scene: Scene) -> None:
    scene.offer()
    scene.offer()
    scene.clock.now = STALL_S
    assert scene.offer(size=LIMIT)
    assert not scene.offer(waited_s=LONGEST_WAIT_S - 1)
    assert scene.offer(waited_s=LONGEST_WAIT_S)


def test_when_stopping_a_page_goes_behind_those_of_the_spool_which_stay_where_they_are(scene: Scene) -> None:
    scene.offer()
    scene.offer()
    scene.clock.now = STALL_S
    scene.offer()
    scene.feeder.stopping = True
    assert scene.offer(), "no worker would get it before the next run"
    scene.commit()
    scene.feeder.refill()
    assert scene.pool.pages == 1
    assert scene.feeder.spool_rest() == 1
    assert [one.page.sequence for one in scene.ledger.known("w1")] == [0, 1, 2, 3]


def test_when_stopping_a_page_waits_for_a_worker_where_there_is_no_spool(scene: Scene) -> None:
    scene.offer()
    scene.offer()
    scene.feeder.stopping = True
    scene.clock.now = 2 * STALL_S
    assert not scene.offer(waited_s=LONGEST_WAIT_S)
    scene.commit()
    assert scene.offer()
    assert scene.feeder.waiting == 0
