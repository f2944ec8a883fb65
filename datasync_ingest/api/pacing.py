"""When the next request may start, for any number of threads: one line, served in the order in which they came.

Where headers tell of a window, every request of every window is used and none is one too many (`HeaderWindow`); where
they do not, the rate is learned (`LearnedRate`); and `Retry-After` is waited for in either case.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .dates import http_date
from .learned_rate import LearnedRate
from .rate_headers import RETRY_AFTER_CAP_S, retry_after_s, window_told
from .windows import NEWS_S, HeaderWindow

LONGEST_WAIT_S = 60.0  # of a learned rate, however long cursors live
RETRY_AFTER_FLOOR_S = 0.5  # `Retry-After: 0` must not become a busy loop
INSTANT_S = 1e-6  # no clock shows a shorter wait
UNTOLD = 8  # answers in a row without a window: the server tells of none any more
ABSENT_S = 0.1  # past its time to ask again, whoever waits holds nobody up, and keeps its place


@dataclass(frozen=True, slots=True)
class PacerState:
    """What a restart needs to know. `turn_at` and `not_before` are wall-clock epoch seconds; `rate`, which was learned,
    and `ceiling`, what the server sustained when that was measured, are requests a second."""

    limit: int | None = None
    remaining: int | None = None
    turn_at: float | None = None
    window_s: float | None = None
    rounding_s: float = 0.0
    rate: float | None = None
    ceiling: float = 0.0
    not_before: float | None = None

    @classmethod
    def read(cls, saved: Mapping[str, Any]) -> PacerState:
        """What of it can be used: another version of the program may have saved it."""
        names = {one.name for one in fields(cls)}
        usable = {name: value for name, value in saved.items() if name in names and _is_usable(value)}
        if not usable.get("limit"):
            usable.pop("limit", None)
        return cls(**usable)


@dataclass(slots=True)
class _Waiter:
    """In the line; `asks_at` is when its wait is over."""

    asks_at: float


@dataclass(frozen=True, slots=True)
class _Flight:
    """A request under way, of this generation of windows, of which so many were answered when it started; `paced`: it
    had to wait."""

    started_at: float
    generation: int
    answered: int
    paced: bool


class Pacer:
    """Safe to share between threads. Times are the monotonic clock's; `wall` is asked only to save and to restore.

    `who` is whoever asks, the calling thread unless said otherwise: one request at a time for each.
    """

    def __init__(
        self,
        *,
        buffer: int = 0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._lock = threading.Lock()
        self._window = HeaderWindow(buffer)
        self._learned = LearnedRate(jitter)
        self._line: dict[Hashable, _Waiter] = {}  # in the order in which they came
        self._flights: dict[Hashable, _Flight] = {}
        self._not_before = 0.0
        self._heard = False  # an answer has come, so that it is known whether headers tell
        self._untold = 0  # answers in a row without headers, from a server that had some
        self._bare = 0  # refusals in a row that told nothing, from a server whose answers do
        self._bare_at = 0.0  # the last of them

    # --- before a request ---

    def take(self, who: Hashable | None = None) -> float:
        """0.0: the turn is given, and counted as started. Otherwise the seconds after which to ask again.

        A turn that was given ends with `answered`, `limited` or `failed`; who stops waiting says `leave`.
        """
        with self._lock:
            now, who = self._clock(), _this_thread(who)
            self._flights.pop(who, None)
            wait_s = self._wait_s(now, self._ahead_of(who, now))
            if wait_s < INSTANT_S:
                self._start(who, now, paced=self._line.pop(who, None) is not None)
                return 0.0
            self._line.setdefault(who, _Waiter(now)).asks_at = now + wait_s
            return wait_s

    def leave(self, who: Hashable | None = None) -> None:
        """`who` waits no more."""
        with self._lock:
            self._line.pop(_this_thread(who), None)

    def wait_s(self) -> float:
        """Seconds until a request may start; 0 means now. Nothing is given, and nobody is put into the line."""
        with self._lock:
            now = self._clock()
            return self._wait_s(now, self._ahead_of(None, now))

    def started(self, who: Hashable | None = None) -> None:
        """A request starts now, whatever `take` would say; it counts until the headers say otherwise."""
        with self._lock:
            self._start(_this_thread(who), self._clock(), paced=False)

    # --- after it ---

    def answered(
        self, headers: Mapping[str, str], received_at: float, *, status: int = 200, who: Hashable | None = None
    ) -> None:
        """Takes over what an answer that was not a 429 says; `received_at` is monotonic."""
        with self._lock:
            flight = self._landed(who, received_at)
            if headers.get("X-Cache", "").upper() == "HIT":
                return  # not counted by the server, and its headers may be as old as the cache
            self._window.took(received_at - flight.started_at)
            self._bare = 0
            told = self._read_window(headers, flight, received_at, refused=False)
            if told or status == 200:
                self._untold = 0 if told else self._untold + 1
            if self._untold >= UNTOLD:
                self._window.forget()
            if self._window.limit is not None:
                self._learned.forget()
            elif status == 503:
                self._learned.overloaded(flight.started_at, received_at, len(self._flights))
            else:
                self._learned.served(flight.started_at, received_at, paced=flight.paced)

    def limited(self, headers: Mapping[str, str], received_at: float, *, who: Hashable | None = None) -> float:
        """Takes over a 429; returns the seconds until the next request may start.

        `Retry-After` wins over the reset header; without a window the rate is learned as well.
        """
        with self._lock:
            flight = self._landed(who, received_at)
            told = self._read_window(headers, flight, received_at, refused=True)
            told_s = retry_after_s(headers)
            told_s = None if told_s is None else _bounded(told_s)
            if self._window.limit is None:
                wait_s = self._learned.refused(flight.started_at, received_at, told_s)
                if told_s is not None:
                    self._not_before = max(self._not_before, received_at + told_s)
                return wait_s
            turn_at = self._window.turn_at or received_at
            wait_s = _bounded(turn_at - received_at) if told_s is None else told_s
            if not told and told_s is None:
                wait_s = max(wait_s, self._bare_pause_s(flight, received_at))
            if flight.generation == self._window.generation:
                self._not_before = max(self._not_before, received_at + wait_s)
                self._window.refused(self._not_before, generation=flight.generation)
            return wait_s

    def failed(self, who: Hashable | None = None) -> None:
        """The request brought no answer."""
        with self._lock:
            self._landed(who, self._clock())

    def page_took(self, seconds: float) -> None:
        """How long a page took that had as many events as were asked for."""
        with self._lock:
            if self._window.limit is None:
                now = self._clock()
                self._learned.took(seconds, now - seconds, now, len(self._flights))

    def ask_within(self, seconds: float) -> None:
        """A learned rate never waits for longer than that, in seconds: a cursor dies soon after."""
        with self._lock:
            self._learned.ask_within(min(LONGEST_WAIT_S, max(seconds, RETRY_AFTER_FLOOR_S)), self._clock())

    # --- for the progress line and the ledger ---

    @property
    def remaining(self) -> int | None:
        """Requests left in the window, None where the server does not say."""
        with self._lock:
            return self._window.left(self._clock())

    @property
    def sustains(self) -> int | None:
        """Chains worth running: each gets a turn within half of a cursor's life. None where nothing limits."""
        with self._lock:
            rate = self._learned.rate
            if self._window.limit is not None and self._window.window_s:
                rate = self._window.usable() / self._window.window_s
            return None if rate is None else max(1, int(rate * self._learned.half_life_s))

    def seconds_for(self, requests: int) -> float:
        """The shortest time that the known limit permits for that many more requests."""
        with self._lock:
            window, now = self._window, self._clock()
            if window.limit is None or window.window_s is None:
                return requests / self._learned.rate if self._learned.rate else 0.0
            left = window.usable_now(now)
            if requests <= left:
                return 0.0
            first_turn_s = window.window_s if window.turn_at is None else max(0.0, window.turn_at - now)
            return first_turn_s + (requests - left - 1) // window.usable() * window.window_s

    def state(self) -> dict[str, Any]:
        """The state as plain JSON values, for the ledger."""
        with self._lock:
            now, wall, window = self._clock(), self._wall(), self._window
            return asdict(
                PacerState(
                    window.limit,
                    window.remaining,
                    None if window.turn_at is None else wall + window.turn_at - now,
                    window.window_s,
                    window.rounding_s,
                    self._learned.rate,
                    self._learned.ceiling,
                    wall + self._not_before - now if self._not_before > now else None,
                )
            )

    def restore(self, saved: Mapping[str, Any], *, unseen: int) -> None:
        """Goes on in the window of an earlier run, of which up to `unseen` requests were not recorded."""
        state = PacerState.read(saved)
        with self._lock:
            self._window.limit, self._window.window_s = state.limit, state.window_s
            self._learned.resume(state.rate, state.ceiling)
            self._heard = state.limit is not None or state.rate is not None
            if state.not_before is not None:
                self._not_before = self._clock() + min(state.not_before - self._wall(), RETRY_AFTER_CAP_S)
            self._window.rounding(state.rounding_s)
            if state.turn_at is None or state.remaining is None:
                return
            left_s = state.turn_at - self._wall()
            if left_s > 0:  # a clock that was set back must not make it longer than a window
                turn_at = self._clock() + min(left_s, state.window_s or RETRY_AFTER_CAP_S)
                self._window.resume(max(0, state.remaining - unseen), turn_at)

    # --- inside ---

    def _wait_s(self, now: float, ahead: int) -> float:
        in_flight = len(self._flights)
        if not self._heard and in_flight + ahead:
            return NEWS_S
        return max(
            0.0,
            self._not_before - now,
            self._window.wait_s(now, ahead, in_flight),
            self._learned.wait_s(now, ahead, in_flight),
        )

    def _ahead_of(self, who: Hashable | None, now: float) -> int:
        """How many have come before and are about to ask."""
        ahead = 0
        for other, waiter in self._line.items():
            if other == who:
                break
            ahead += now <= waiter.asks_at + ABSENT_S
        return ahead

    def _start(self, who: Hashable, now: float, *, paced: bool) -> None:
        self._window.started(now)
        self._learned.started(now, len(self._flights))
        self._flights[who] = _Flight(now, self._window.generation, self._window.granted, paced)

    def _landed(self, who: Hashable | None, received_at: float) -> _Flight:
        self._heard = True
        self._learned.landed(received_at)
        flight = self._flights.pop(_this_thread(who), None)
        return flight or _Flight(received_at, self._window.generation, self._window.granted, paced=False)

    def _bare_pause_s(self, flight: _Flight, received_at: float) -> float:
        """Twice the last one, for a refusal that neither headers nor `Retry-After` explain: a proxy's, perhaps."""
        if flight.started_at > self._bare_at:  # else one of several of the same moment
            self._bare, self._bare_at = self._bare + 1, received_at
        return min(self._learned.half_life_s, RETRY_AFTER_FLOOR_S * 2.0 ** (self._bare - 1))

    def _read_window(self, headers: Mapping[str, str], flight: _Flight, received_at: float, *, refused: bool) -> bool:
        """Whether the headers tell of a window."""
        date = http_date(headers.get("Date"))
        if date is not None:
            self._window.saw_date(date, flight.started_at, received_at)
        told = window_told(headers, self._wall)
        if told is None:
            return False
        others = sum(other.generation == self._window.generation for other in self._flights.values())
        others += max(0, self._window.granted - flight.answered)
        self._window.told(
            told, flight.started_at, received_at, generation=flight.generation, others=others, refused=refused
        )
        return True


def _this_thread(who: Hashable | None) -> Hashable:
    return threading.get_ident() if who is None else who


def _is_usable(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _bounded(seconds: float) -> float:
    return min(RETRY_AFTER_CAP_S, max(RETRY_AFTER_FLOOR_S, seconds))
