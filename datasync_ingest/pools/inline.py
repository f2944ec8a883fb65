"""The pool without processes: pages are worked off when their messages are asked for. For tests and profiling."""

from __future__ import annotations

import os
from collections import deque
from multiprocessing.connection import wait

from ..messages import RawPage, WorkerMessage
from ..worker import Worker, WorkerOptions

_CAPACITY = 2


class InlinePool:
    """See `Pool`. The number of workers is always one; `receive` blocks while it works."""

    def __init__(self, options: WorkerOptions, workers: int = 1) -> None:
        self._messages: list[WorkerMessage] = []
        self._worker = Worker(0, options, self._messages.append)
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

    def start(self) -> None:
        """Nothing to start."""

    def put(self, page: RawPage) -> None:
        if self.room <= 0:
            raise ValueError("the pool is full")
        self._pages.append(page)

    def receive(self, timeout_s: float, wake: int | None = None) -> list[WorkerMessage]:
        if self._pages:
            self._worker.work(self._pages[0])
            self._pages.popleft()
        elif wake is not None:
            wait([wake], timeout_s)
        return self._taken()

    def stop(self, grace_s: float) -> list[WorkerMessage]:
        self._pages.clear()
        self._worker.close()
        return self._taken()

    def _taken(self) -> list[WorkerMessage]:
        taken = list(self._messages)
        self._messages.clear()
        return taken
