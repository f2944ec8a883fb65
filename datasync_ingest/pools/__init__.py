"""Pools move pages to workers and bring their messages back. One file a pool, one line in `POOLS`.

A pool is loaded where it is made: every worker process loads this package, and none of them has a pool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..messages import RawPage, WorkerMessage, WorkerOptions


class Pool(Protocol):
    """The five verbs. All of them are called by the main thread of the main process alone."""

    @property
    def room(self) -> int:
        """How many more pages `put` takes now."""

    @property
    def pages(self) -> int:
        """How many pages are in the pool: put, and neither done (a receipt, a failure) nor taken out (poisoned)."""

    @property
    def workers(self) -> int:
        """How many workers live, stopped ones too."""

    @property
    def pids(self) -> tuple[int, ...]:
        """Their process ids, where they are processes of this machine; a pool without processes has this one's."""

    def prepare(self) -> None:
        """Begins what takes time and needs to know nothing of the run, and does not wait for it; may be left out.

        Raises WorkerDiedError.
        """

    def start(self, options: WorkerOptions) -> None:
        """Starts the workers, or finds them. Once. Raises WorkerDiedError, ClusterError."""

    def put(self, page: RawPage) -> None:
        """Hands a page over; never blocks. The pool keeps it until its receipt. Raises ValueError without room."""

    def receive(self, timeout_s: float, wake: int | None = None) -> list[WorkerMessage]:
        """What the workers said, in order; waits up to `timeout_s` for the first word, or until the file descriptor
        `wake` is readable. A page's Receipt, Failure or Poisoned makes room.

        Workers that die or hang are replaced in here, their pages worked off by others. Raises WorkerDiedError or
        ClusterError where that leads nowhere; `stop` then still returns what was said.
        """

    def stop(self, grace_s: float) -> list[WorkerMessage]:
        """Lets workers finish what they have begun, ends the rest after `grace_s`; returns their last messages.

        Idempotent. Nothing of the pool is alive afterwards.
        """


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """What a pool may need to know of its place; each takes what concerns it.

    `workers`: how many to start. `scheduler`: where a cluster's is.
    """

    workers: int
    scheduler: str | None = None


def _processes(place: PoolOptions) -> Pool:
    from .processes import ProcessPool

    return ProcessPool(place.workers)


def _inline(place: PoolOptions) -> Pool:
    from .inline import InlinePool

    del place
    return InlinePool()


def _dask(place: PoolOptions) -> Pool:
    from .dask import DaskPool  # what it needs is an extra, and takes 0.5 s to load

    return DaskPool(place.scheduler or "")


MakePool = Callable[[PoolOptions], Pool]

POOLS: dict[str, MakePool] = {"processes": _processes, "inline": _inline, "dask": _dask}
DEFAULT_POOL = "processes"
