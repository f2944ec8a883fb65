"""Pools move pages to workers and bring their messages back. One file a pool, one line in `POOLS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..messages import RawPage, WorkerMessage
from ..worker import WorkerOptions
from .inline import InlinePool
from .processes import ProcessPool


class Pool(Protocol):
    """The four verbs. All of them are called by the main thread of the main process alone."""

    @property
    def room(self) -> int:
        """How many more pages `put` takes now."""

    @property
    def pages(self) -> int:
        """How many pages are in the pool: put, and neither done (a receipt, a failure) nor taken out (poisoned)."""

    @property
    def workers(self) -> tuple[int, ...]:
        """The process ids of the workers that live, stopped ones too; a pool without processes has this one's."""

    def start(self) -> None:
        """Starts the workers. Once."""

    def put(self, page: RawPage) -> None:
        """Hands a page over; never blocks. The pool keeps it until its receipt. Raises ValueError without room."""

    def receive(self, timeout_s: float, wake: int | None = None) -> list[WorkerMessage]:
        """What the workers said, in order; waits up to `timeout_s` for the first word, or until the file descriptor
        `wake` is readable. A page's Receipt, Failure or Poisoned makes room.

        Workers that die or hang are replaced in here, their pages worked off by others. Raises WorkerDiedError where
        that leads nowhere; `stop` then still returns what was said.
        """

    def stop(self, grace_s: float) -> list[WorkerMessage]:
        """Lets workers finish what they have begun, ends the rest after `grace_s`; returns their last messages.

        Idempotent. Nothing of the pool is alive afterwards.
        """


MakePool = Callable[[WorkerOptions, int], Pool]

POOLS: dict[str, MakePool] = {"processes": ProcessPool, "inline": InlinePool}
DEFAULT_POOL = "processes"
