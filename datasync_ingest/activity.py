"""What the fetching threads are doing now, and where their time went: they write, the progress line reads."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

FETCHING = "fetching"
RATE_LIMIT = "rate limit"
DATABASE = "database"  # a fetched page waits for room in the pool
SERVER = "server trouble"


@dataclass(frozen=True, slots=True)
class Doing:
    """One cause that holds the walk; `until` (monotonic seconds) where its end is known."""

    cause: str
    detail: str = ""
    until: float | None = None


class Doings(Protocol):
    """What is read of one fetching thread, or of several taken together."""

    @property
    def counts(self) -> Mapping[str, int]:
        """By kind; 0 for a kind that was never counted."""

    @property
    def doing(self) -> Doing | None: ...

    def held_s(self) -> float: ...

    def seconds(self) -> dict[str, float]: ...


class Activity:
    """Seconds by cause and counts by kind. One writer, any number of readers: each attribute is replaced whole."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds: dict[str, float] = {}
        self._since = clock()
        self.doing: Doing | None = None
        self.counts: Counter[str] = Counter()

    @contextmanager
    def during(self, cause: str, *, detail: str = "", until: float | None = None) -> Iterator[None]:
        """The time until the block ends belongs to `cause`."""
        self._since, self.doing = self._clock(), Doing(cause, detail, until)
        try:
            yield
        finally:
            self._seconds[cause] = self._seconds.get(cause, 0.0) + self._clock() - self._since
            self.doing = None

    def count(self, kind: str) -> None:
        self.counts[kind] += 1

    def held_s(self) -> float:
        """How long the current cause has held the walk."""
        return self._clock() - self._since if self.doing is not None else 0.0

    def seconds(self) -> dict[str, float]:
        """By cause, with what the current one has taken so far."""
        seconds = dict(self._seconds)
        if (doing := self.doing) is not None:
            seconds[doing.cause] = seconds.get(doing.cause, 0.0) + self._clock() - self._since
        return seconds


class Activities:
    """Several threads' activities, read as one."""

    def __init__(self, *activities: Activity) -> None:
        self._all = activities

    @property
    def counts(self) -> Counter[str]:
        """The sum of all."""
        found: Counter[str] = Counter()
        for one in self._all:
            found.update(one.counts.copy())
        return found

    @property
    def doing(self) -> Doing | None:
        """What holds every thread that is held at all, the one that ends first; else fetching, if one of them is."""
        held = self._held()
        causes = {doing.cause for doing, _ in held}
        if len(causes) == 1:
            return min((doing for doing, _ in held), key=_end)
        return Doing(FETCHING) if FETCHING in causes else None

    def held_s(self) -> float:
        """How long what `doing` says has held the one that it holds the least long."""
        doing = self.doing
        return min((held_s for one, held_s in self._held() if doing and one.cause == doing.cause), default=0.0)

    def seconds(self) -> dict[str, float]:
        """By cause, summed and divided by the number of threads: as long as all of them are busy the causes add up to
        the time that has passed, as with one thread; a thread with nothing to do takes its share out of the sum.
        """
        every = self._all
        found: dict[str, float] = {}
        for one in every:
            for cause, seconds in one.seconds().items():
                found[cause] = found.get(cause, 0.0) + seconds / len(every)
        return found

    def _held(self) -> list[tuple[Doing, float]]:
        return [(doing, one.held_s()) for one in self._all if (doing := one.doing) is not None]


def _end(doing: Doing) -> float:
    return float("inf") if doing.until is None else doing.until
