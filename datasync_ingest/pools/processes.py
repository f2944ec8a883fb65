"""The default pool: a bounded multiprocessing queue of raw pages, N spawned workers, one pipe back from each.

The queue is shared, and a process killed while it reads can take the queue's lock with it or leave half a page behind.
So nothing comes back over a shared queue: each worker has a pipe of its own, whose messages are small, and its death
shows on its sentinel.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import Queue

from ..errors import WorkerDiedError
from ..messages import STOP, Failure, PageId, RawPage, Receipt, Started, Stop, WorkerMessage
from ..stopping import SIGNALS
from ..worker import Worker, WorkerOptions

PAGES_QUEUED_PER_WORKER = 2  # one to work on at once when a page is done, one for the fetch that is late
_KILL_S = 5.0  # how long the kernel may take to end a process that was killed

# Stated, and not left to the platform: forked children would share the parent's connections, locks and threads.
_CONTEXT = multiprocessing.get_context("spawn")


@dataclass(slots=True)
class _Member:
    """A worker as the parent sees it; `page` is the one that it announced last and has not ended."""

    process: SpawnProcess
    pipe: Connection
    page: PageId | None = None


class ProcessPool:
    """See `Pool`."""

    def __init__(self, options: WorkerOptions, workers: int) -> None:
        self._options = options
        self._workers = workers
        self._capacity = workers * (1 + PAGES_QUEUED_PER_WORKER)
        with _signals_held():  # the first queue of a process starts multiprocessing's resource tracker
            self._queue: Queue[RawPage | Stop] = _CONTEXT.Queue(self._capacity + workers)
        self._members: list[_Member] = []
        self._unreceipted: dict[PageId, RawPage] = {}

    @property
    def room(self) -> int:
        return self._capacity - len(self._unreceipted)

    @property
    def pages(self) -> int:
        return len(self._unreceipted)

    def start(self) -> None:
        with _signals_held():
            self._members = [self._member(number) for number in range(self._workers)]

    def put(self, page: RawPage) -> None:
        if self.room <= 0:
            raise ValueError("the pool is full")
        self._unreceipted[page.page] = page
        self._queue.put(page)

    def receive(self, timeout_s: float, wake: int | None = None) -> list[WorkerMessage]:
        handles: list[Connection | int] = [member.pipe for member in self._members]
        handles += [member.process.sentinel for member in self._members]
        if wake is not None:
            handles.append(wake)
        ready = wait(handles, timeout_s)
        messages = [message for member in self._members if member.pipe in ready for message in self._read(member)]
        # The pipe of a dead worker is read to its end before its death counts: its last receipt is in there.
        for member in self._members:
            if member.process.sentinel in ready and not messages:
                self._died(member)
        return messages

    def stop(self, grace_s: float) -> list[WorkerMessage]:
        deadline = time.monotonic() + grace_s
        messages: list[WorkerMessage] = []
        # Order: the message to stop goes down the queue behind the pages; who has not met it when the grace is over is
        # killed (its transaction is rolled back by the database); only then are pipes and queue closed, because a pipe
        # closed earlier would break a receipt that is on its way.
        self._tell_to_stop()
        while self._alive() and time.monotonic() < deadline:
            wait([member.process.sentinel for member in self._alive()], min(0.05, grace_s))
            messages += self._drained()
        for member in self._alive():
            member.process.kill()
        for member in self._members:
            member.process.join(_KILL_S)
        messages += self._drained()
        for member in self._members:
            member.pipe.close()
            member.process.close()
        self._members = []
        self._queue.cancel_join_thread()
        self._queue.close()
        return messages

    def _member(self, number: int) -> _Member:
        receiving, sending = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(
            target=_serve,
            args=(number, self._options, self._queue, sending),
            name=f"datasync-ingest worker {number}",
            daemon=True,
        )
        process.start()
        sending.close()  # so that the worker's death reads as the end of the pipe
        return _Member(process, receiving)

    def _read(self, member: _Member) -> list[WorkerMessage]:
        """All that is in the pipe; an unreadable rest (killed while it wrote) is no message."""
        messages: list[WorkerMessage] = []
        with suppress(EOFError, OSError):
            while member.pipe.poll():
                message: WorkerMessage = member.pipe.recv()
                messages.append(message)
                self._note(member, message)
        return messages

    def _note(self, member: _Member, message: WorkerMessage) -> None:
        if isinstance(message, Started):
            member.page = message.page
        elif isinstance(message, (Receipt, Failure)):
            member.page = None
            if message.page is not None:
                self._unreceipted.pop(message.page, None)

    def _died(self, member: _Member) -> None:
        member.process.join(_KILL_S)
        code = member.process.exitcode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        where = "while it waited for a page" if member.page is None else f"while it worked on page {member.page}"
        raise WorkerDiedError(
            f"{member.process.name} died {where}, {how}.",
            hint="Run the same command again: it goes on from the last committed page. If the system is short of"
            " memory, set a smaller BATCH_SIZE or WORKER_CONCURRENCY.",
        )

    def _tell_to_stop(self) -> None:
        with suppress(ValueError):  # the queue is closed: `stop` was called before
            for _ in self._members:
                self._queue.put(STOP)

    def _alive(self) -> list[_Member]:
        return [member for member in self._members if member.process.is_alive()]

    def _drained(self) -> list[WorkerMessage]:
        return [message for member in self._members for message in self._read(member)]


@contextmanager
def _signals_held() -> Iterator[None]:
    """A child started in here is born with these signals blocked, so that none reaches it before it ignores them.

    For this process they are delivered when the block ends.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(number: int, options: WorkerOptions, queue: Queue[RawPage | Stop], pipe: Connection) -> None:
    """A worker's process: pages in, messages out, until STOP or the parent's death."""
    for ignored in SIGNALS:
        signal.signal(ignored, signal.SIG_IGN)  # a process group gets them too; the parent says when to stop
    threading.Thread(target=_leave_with_parent, name="parent watch", daemon=True).start()
    worker = Worker(number, options, pipe.send)
    try:
        while not isinstance(item := queue.get(), Stop):
            worker.work(item)
    finally:
        worker.close()


def _leave_with_parent() -> None:
    """Ends this process as soon as the parent is dead, by whatever cause; an open transaction is rolled back."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a spawned worker watches its parent"
    wait([parent.sentinel])
    os._exit(1)
