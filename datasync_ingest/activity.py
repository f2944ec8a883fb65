"""What the fetching thread is doing now, and where its time went: it writes, the progress line reads."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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
