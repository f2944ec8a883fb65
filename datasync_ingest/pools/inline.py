"""The pool without processes: pages are worked off when their messages are asked for. For tests and profiling."""

from __future__ import annotations

import os
from collections import deque
from multiprocessing.connection import wait

from ..messages import RawPage, WorkerMessage, WorkerOptions
from ..worker import Worker

_CAPACITY = 2


class InlinePool:
    """See `Pool`. The number of workers is always one; `receive` blocks while it works."""

    def __init__(self) -> None:
        self._messages: list[WorkerMessage] = []
        self._worker: Worker | None = None
        self._pages: deque[RawPage] = deque()

    @property
    def room(self) -> int:
        return _CAPACITY - len(self._pages)

    @property
    def pages(self) -> int:
        return len(self._pages)

    @property
    def workers(self) -> int:
        return 1

    @property
    def pids(self) -> tuple[int, ...]:
        return (os.getpid(),)

    def prepare(self) -> None:
        """There is no other process."""

    def start(self, options: WorkerOptions) -> None:
        self._worker = Worker(0, options, self._messages.append)

    def put(self, page: RawPage) -> None:
        if self.room <= 0:
            raise ValueError("the pool is full")
        self._pages.append(page)

    def receive(self, timeout_s: float, wake: int | None = None) -> list[WorkerMessage]:
        if self._worker is None:
            raise ValueError("the pool has not been started, or has ended")
        if self._pages:
            self._worker.work(self._pages[0])
            self._pages.popleft()
        elif wake is not None:
            wait([wake], timeout_s)
        return self._taken()

    def stop(self, grace_s: float) -> list[WorkerMessage]:
        self._pages.clear()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()
        return self._taken()

    def _taken(self) -> list[WorkerMessage]:
        taken = list(self._messages)
        self._messages.clear()
        return taken
