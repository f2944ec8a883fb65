"""What a Dask cluster tells a pool: plain values, made in the thread of its event loop. Knows nothing of Dask."""

from __future__ import annotations

from dataclasses import dataclass

from ..messages import WorkerMessage


@dataclass(frozen=True, slots=True)
class Said:
    """A worker's word about an attempt at a page."""

    attempt: int
    worker: str
    message: WorkerMessage


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt is over: `finished`, or with the error that it raised, or without one, because it was lost.

    `worker` is whose it was to be.
    """

    attempt: int
    finished: bool
    error: BaseException | None = None
    worker: str | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """A worker is gone; `expected`: it had said so before, or was told to."""

    worker: str
    expected: bool


@dataclass(frozen=True, slots=True)
class Staff:
    """The addresses of the workers that take pages, and how many others the cluster has."""

    workers: frozenset[str]
    others: int


@dataclass(frozen=True, slots=True)
class Away:
    """The scheduler does not answer (for now), or answers again."""

    is_away: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """The scheduler is gone for good, and why."""

    why: str


Word = Said | Ended | Left | Staff | Away | Lost
