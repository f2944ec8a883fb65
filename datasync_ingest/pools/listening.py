"""A clock for the silence of others, which stands still while nobody listens."""

from __future__ import annotations

import time
from collections.abc import Callable

_AWAY_S = 5.0  # a listener that was away for longer than it meant to, by this much, was itself stopped or kept


class ListeningClock:
    """Seconds in which somebody listened.

    A process that was itself stopped (Ctrl-Z, a suspended machine, a debugger) or busy with something else heard
    nothing in that time, and its workers, stopped with it, said nothing: that is not their silence.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._read_at = clock()
        self.now = 0.0

    def advance(self, meant_s: float) -> None:
        """To be called after each time of listening, which was meant to last `meant_s` at most."""
        read_at = self._clock()
        self.now += min(read_at - self._read_at, meant_s + _AWAY_S)
        self._read_at = read_at
