"""When the next request may start: every request of every rate-limit window is used, and none is one too many.

The server counts requests in windows. Its headers say how many are left and when the window turns, as seconds left,
epoch seconds or epoch milliseconds. What is kept here is the latest moment at which the turn can be: each answer
bounds it from above by "received + seconds left" (seconds are rounded up, so the smallest bound of a window is the
best), and where a window opens with its first request, that request's answer bounds it to within its latency.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .dates import http_date

MARGIN_S = 0.005  # the two machines' clocks drift, and timers fire a little early
RETRY_AFTER_FLOOR_S = 0.5  # `Retry-After: 0` must not become a busy loop
RETRY_AFTER_CAP_S = 900.0
EPOCH_S = 1e8  # a reset above this is no number of seconds left (3 years): it is an epoch in seconds ...
EPOCH_MS = 1e11  # ... and above this, in milliseconds
ROUNDING_S = 1.0  # a server that rounds its reset down is up to a second early

# Without headers the rate is learned: halved by a 429, then raised by every request that succeeds. Up to the rate that
# led to the 429 by an eighth of what is missing, so that a single one that was no fault of the rate's costs some
# answers; beyond it by a fiftieth, and at least by one request a minute for every fourth request.
DECREASE = 0.5
RECOVERY = 1 / 8
INCREASE = 1 / 50
INCREASE_PER_S = 1 / 60 / 4
SLOWEST_PER_S = 1 / 60  # where nothing tells how long a cursor lives: two minutes


@dataclass(frozen=True, slots=True)
class PacerState:
    """What a restart needs to know. `turn_at` and `not_before` are wall-clock epoch seconds; `rate`, which was learned,
    and `ceiling`, which led to the last 429, are requests a second."""

    limit: int | None = None
    remaining: int | None = None
    turn_at: float | None = None
    window_s: float | None = None
    rounding_s: float = 0.0
    rate: float | None = None
    ceiling: float = 0.0
    not_before: float | None = None


class Pacer:
    """Safe to share between threads. Times are the monotonic clock's; `wall` is asked only to save and to restore."""

    def __init__(
        self,
        *,
        buffer: int = 0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._buffer = buffer
        self._clock = clock
        self._wall = wall
        self._jitter = jitter
        self._lock = threading.Lock()
        self._limit: int | None = None
        self._remaining: int | None = None
        self._turn_at: float | None = None
        self._window_s: float | None = None
        self._rounding_s = 0.0
        self._rate: float | None = None
        self._ceiling = 0.0  # requests a second, that led to the last 429
        self._slowest = SLOWEST_PER_S
        self._not_before = 0.0
        self._last_start = float("-inf")
        self._recent: list[float] = []

    # --- before a request ---

    def take(self, who: Hashable | None = None) -> float:
        """0.0: the turn is given to `who` (the calling thread where nothing else is said), and counted as started.
        Otherwise the seconds after which to ask again: whoever waits is served in the order in which they came.

        A turn that was given ends with `answered`, `limited` or `failed`; who stops waiting says `leave`.
        """
        with self._lock:
            wait_s = self._wait_s()
            if wait_s == 0:
                self._start()
            return wait_s

    def leave(self, who: Hashable | None = None) -> None:
        """`who` waits no more."""

    def failed(self, who: Hashable | None = None) -> None:
        """The request of `who` brought no answer."""

    @property
    def sustains(self) -> int | None:
        """Chains worth running: each gets a turn within half of a cursor's life. None where nothing limits."""
        with self._lock:
            return None if self._rate is None else max(1, int(self._rate / self._slowest))

    def wait_s(self) -> float:
        """Seconds until a request may start; 0 means now."""
        with self._lock:
            return self._wait_s()

    def started(self) -> None:
        """A request starts now; it counts until the headers say otherwise."""
        with self._lock:
            self._start()

    def _wait_s(self) -> float:
        now = self._clock()
        return max(0.0, self._not_before - now, self._window_wait(now), self._rate_wait(now))

    def _start(self) -> None:
        now = self._clock()
        if self._turned(now):
            self._remaining, self._turn_at = self._limit, None
        if self._remaining is not None:
            self._remaining = max(0, self._remaining - 1)
        self._last_start = now
        self._recent = [start for start in self._recent if start > now - 60] + [now]

    # --- after an answer ---

    def answered(self, headers: Mapping[str, str], received_at: float) -> None:
        """Takes over what the headers of an answer that was not a 429 say; `received_at` is monotonic."""
        with self._lock:
            if headers.get("X-Cache", "").upper() == "HIT":
                return  # not counted by the server, and its headers may be as old as the cache
            self._read_window(headers, received_at)
            if self._rate is not None:
                self._rate = None if self._remaining is not None else self._raised(self._rate)

    def limited(self, headers: Mapping[str, str], received_at: float) -> float:
        """Takes over a 429; returns the seconds until the next request may start.

        `Retry-After` wins over the reset header; without either the learned rate is what is left.
        """
        with self._lock:
            expected = self._remaining == 0 or self._remaining is None
            self._read_window(headers, received_at)
            wait_s = _retry_after_s(headers)
            if wait_s is None and self._turn_at is not None:
                wait_s = self._turn_at - received_at
            if wait_s is None or self._limit is None:
                wait_s = max(wait_s or 0.0, self._slow_down(received_at))
            if self._limit is not None:
                self._remaining = 0
                if not expected:
                    self._rounding_s = ROUNDING_S
            wait_s = min(RETRY_AFTER_CAP_S, max(RETRY_AFTER_FLOOR_S, wait_s))
            self._not_before = received_at + wait_s
            self._turn_at = self._not_before if self._limit is not None else None
            return wait_s

    def ask_within(self, seconds: float) -> None:
        """A learned rate never waits for longer than that, in seconds: a cursor dies soon after."""
        with self._lock:
            self._slowest = max(SLOWEST_PER_S, 1 / max(seconds, MARGIN_S))

    # --- for the progress line and the ledger ---

    @property
    def remaining(self) -> int | None:
        """Requests left in the window, None where the server does not say."""
        with self._lock:
            return self._limit if self._turned(self._clock()) else self._remaining

    def seconds_for(self, requests: int) -> float:
        """The shortest time that the known limit permits for that many more requests."""
        with self._lock:
            if self._limit is None or self._window_s is None:
                return requests / self._rate if self._rate else 0.0
            now = self._clock()
            usable = max(1, self._limit - self._usable_buffer())
            left = usable if self._turned(now) else max(0, (self._remaining or 0) - self._usable_buffer())
            if requests <= left:
                return 0.0
            first_turn_s = self._window_s if self._turn_at is None else max(0.0, self._turn_at - now)
            return first_turn_s + (requests - left - 1) // usable * self._window_s

    def state(self) -> dict[str, Any]:
        """The state as plain JSON values, for the ledger."""
        with self._lock:
            turn_at = None if self._turn_at is None else self._wall() + self._turn_at - self._clock()
            return asdict(
                PacerState(
                    self._limit,
                    self._remaining,
                    turn_at,
                    self._window_s,
                    self._rounding_s,
                    self._rate,
                    self._ceiling,
                    self._wall() + self._not_before - self._clock() if self._not_before > self._clock() else None,
                )
            )

    def restore(self, saved: Mapping[str, Any], *, unseen: int) -> None:
        """Goes on in the window of an earlier run, of which up to `unseen` requests were not recorded."""
        state = PacerState(**saved)
        with self._lock:
            self._limit, self._window_s = state.limit, state.window_s
            self._rounding_s, self._rate, self._ceiling = state.rounding_s, state.rate, state.ceiling
            if state.not_before is not None:
                self._not_before = self._clock() + min(state.not_before - self._wall(), RETRY_AFTER_CAP_S)
            if state.turn_at is None or state.remaining is None:
                return
            left_s = state.turn_at - self._wall()
            if left_s > 0:  # a clock that was set back must not make it longer than a window
                self._turn_at = self._clock() + min(left_s, state.window_s or RETRY_AFTER_CAP_S)
                self._remaining = max(0, state.remaining - unseen)

    # --- inside ---

    def _usable_buffer(self) -> int:
        return min(self._buffer, (self._limit or 1) - 1)  # at least one request of a window is always used

    def _turned(self, now: float) -> bool:
        return self._turn_at is not None and now >= self._turn_at

    def _window_wait(self, now: float) -> float:
        if self._remaining is None or self._remaining > self._usable_buffer() or self._turn_at is None:
            return 0.0
        return self._turn_at - now

    def _rate_wait(self, now: float) -> float:
        return 0.0 if self._rate is None else self._last_start + 1 / max(self._rate, self._slowest) - now

    def _read_window(self, headers: Mapping[str, str], received_at: float) -> None:
        remaining = whole(headers.get("X-RateLimit-Remaining"))
        limit = whole(headers.get("X-RateLimit-Limit"))
        turn_s = seconds_left(headers, self._wall)
        if remaining is None or turn_s is None:
            return
        turn_at = received_at + turn_s + self._rounding_s + MARGIN_S
        same_window = self._turn_at is not None and remaining <= (self._remaining or 0)
        self._turn_at = min(self._turn_at, turn_at) if same_window and self._turn_at is not None else turn_at
        self._remaining = remaining
        self._limit = max(limit or 0, remaining + 1, 0 if limit else self._limit or 0)
        self._window_s = max(self._window_s or 0.0, turn_s)

    def _raised(self, rate: float) -> float:
        return rate + max(INCREASE_PER_S, rate * INCREASE, (self._ceiling - rate) * RECOVERY)

    def _slow_down(self, now: float) -> float:
        """Halves the rate that led to a 429; returns a wait that no two processes share."""
        span_s = max(1.0, now - self._recent[0]) if self._recent else 60.0
        observed = self._rate or max(1, len(self._recent)) / span_s
        self._ceiling = observed
        self._rate = max(self._slowest, observed * DECREASE)
        return (0.5 + self._jitter()) / self._rate


def seconds_left(headers: Mapping[str, str], wall: Callable[[], float]) -> float | None:
    """Seconds until the window turns at the moment of the answer, never too few; None where it does not say."""
    reset = _number(headers.get("X-RateLimit-Reset"))
    if reset is None:
        return None
    if reset < EPOCH_S:
        return max(0.0, reset)
    served = http_date(headers.get("Date"))
    now = wall() if served is None else served
    left_s = reset / (1000 if reset >= EPOCH_MS else 1) - now
    return max(0.0, left_s) if left_s < RETRY_AFTER_CAP_S * 4 else None


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds: a number, or an HTTP date held against the answer's own `Date`."""
    text = headers.get("Retry-After")
    seconds = _number(text)
    if seconds is not None:
        return seconds
    until, served = http_date(text), http_date(headers.get("Date"))
    return None if until is None or served is None else until - served


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < 1e15 else None


def whole(text: str | None) -> int | None:
    """The whole part of a header that is a number; None for any other."""
    value = _number(text)
    return None if value is None else int(value)
