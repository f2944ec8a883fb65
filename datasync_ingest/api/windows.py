"""The window that an answer's headers tell of: how many requests are left in it, and when it turns.

What is kept is the latest moment at which the turn can be. Each answer bounds it from above, and the smallest bound of
a window counts:

- seconds left: received + seconds. Where a window opens with its first request, the first answer is exact to its
  latency.
- an epoch: that moment by the server's clock, which is known the better the more answers have come (`ServerClock`),
  and received + length for the first answer of a window that was begun at its turn and whose length is known.

Seconds may be rounded up or down. Lengths are round numbers, so that the first answer of a window tells: 59 is 60
rounded down. A refusal of the first request after a turn tells, too.

A request that starts reaches the server later, and an answer was made before it came: a bound that was taken from one
answer is too late by what it took back, and the next request may start earlier by what it takes to get there. Both
together are the shortest latency, less what latencies differ.
"""

from __future__ import annotations

from collections import deque

from .rate_headers import WindowTold
from .server_clock import ServerClock

MARGIN_S = 0.005  # the two machines' clocks drift, and timers fire a little early
ROUNDING_S = 1.0  # a server that rounds its reset down is up to a second early
NEWS_S = 0.05  # until whoever waits for an answer that is under way asks again
APART_S = 0.01  # between two that wait for the same turn
CONTRADICTION_S = 0.25  # two answers of one window differ by more only where seconds are rounded down
LENGTHS_S = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600)
_LATENCIES = 20
_FEW = 10  # latencies that do not tell yet how far they can fall; the first one has a handshake in it


class HeaderWindow:
    """Not safe to share between threads. Moments are the monotonic clock's, in seconds."""

    def __init__(self, buffer: int) -> None:
        self._buffer = buffer
        self._clock = ServerClock()
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._shortest_s = float("inf")
        self._latest_turn: float | None = None
        self._length_s: float | None = None  # where it is certain
        self._rounded_down: bool | None = None  # None: not known
        self._begun_at_turn = False
        self._opened: tuple[float, float] | None = None  # this window's first request and its answer, of that length
        self.granted = 0  # answers of this generation that were no refusal
        self._trusted = True  # no request was refused because it was early
        self.limit: int | None = None
        self.remaining: int | None = None  # requests in flight are counted
        self.window_s: float | None = None
        self.generation = 0  # of windows: an answer to a request of an earlier one says nothing about this one

    # --- before a request ---

    def turned(self, now: float) -> bool:
        turn_at = self.turn_at
        return turn_at is not None and now >= turn_at

    @property
    def turn_at(self) -> float | None:
        """The earliest moment at which a request that starts cannot be too early; None where nothing has told."""
        return None if self._latest_turn is None else self._latest_turn - self._head_start_s()

    def left(self, now: float) -> int | None:
        return self.limit if self.turned(now) else self.remaining

    def wait_s(self, now: float, ahead: int, in_flight: int) -> float:
        """Seconds until a request may start when `ahead` others have come before."""
        left = self.left(now)
        if left is None or ahead < left - self._usable_buffer():
            return 0.0
        turn_at = self.turn_at
        if turn_at is None or now >= turn_at:
            return NEWS_S if in_flight or ahead else 0.0
        return turn_at - now + ahead * APART_S

    def started(self, now: float) -> None:
        if self.turned(now):
            self._begin(self.limit, at_turn=True)
        if self.remaining is not None:
            self.remaining = max(0, self.remaining - 1)

    # --- after an answer ---

    def saw_date(self, date: float, sent_at: float, received_at: float) -> None:
        """The server's clock showed `date` (epoch seconds) at some moment between the two."""
        self._clock.answered(date, sent_at, received_at)

    def took(self, seconds: float) -> None:
        """The latency of an answer that was not a refusal."""
        self._latencies.append(seconds)
        self._shortest_s = min(self._shortest_s, seconds)

    def told(
        self, told: WindowTold, sent_at: float, received_at: float, *, generation: int, others: int, refused: bool
    ) -> None:
        """What an answer says; `others`: requests of the same generation that the server may have counted later, since
        they are still under way or were answered meanwhile."""
        if generation < self.generation:
            return
        self.limit = max(told.limit or 0, told.remaining + 1, 0 if told.limit else self.limit or 0)
        if self._latest_turn is not None and self.remaining is not None and told.remaining > self.remaining + others:
            self._begin(told.remaining - others, at_turn=False)
        known = told.remaining if self.remaining is None else min(self.remaining, told.remaining)
        self.remaining = max(0, known)
        self.granted += not refused
        first = not refused and told.remaining == self.limit - 1
        if first and self._shows_length(told, received_at - sent_at):
            self._opened = (sent_at, received_at)
        turn = self._latest_turn_by(told, received_at)
        self._latest_turn = turn if self._latest_turn is None else min(self._latest_turn, turn)
        self.window_s = self._length_s or max(self.window_s or 0.0, told.left_s)

    def refused(self, until: float, *, generation: int) -> None:
        """A 429 in this window, which ends at `until` as it said."""
        if generation < self.generation or self.limit is None:
            return
        if self._begun_at_turn and not self.granted and self.remaining != 0:
            self._early()
        self.remaining, self._latest_turn = 0, until + self._head_start_s()
        self.granted += 1

    def forget(self) -> None:
        """The server tells of no window any more."""
        self._begin(None, at_turn=False)
        self.limit = self.window_s = self._length_s = None

    # --- between runs ---

    def resume(self, remaining: int, turn_at: float) -> None:
        """Goes on in a window that an earlier run has begun."""
        self.remaining, self._latest_turn = remaining, turn_at

    def rounding(self, seconds: float) -> None:
        """Goes on with the `rounding_s` that an earlier run has found."""
        self._rounded_down = True if seconds else None

    @property
    def rounding_s(self) -> float:
        return ROUNDING_S if self._rounded_down else 0.0

    def usable(self) -> int:
        """Requests of a whole window that are used."""
        return max(1, (self.limit or 1) - self._usable_buffer())

    def usable_now(self, now: float) -> int:
        return max(0, (self.left(now) or 0) - self._usable_buffer())

    # --- inside ---

    def _usable_buffer(self) -> int:
        return min(self._buffer, (self.limit or 1) - 1)  # at least one request of a window is always used

    def _begin(self, remaining: int | None, *, at_turn: bool) -> None:
        self.generation += 1
        self.remaining, self._latest_turn = remaining, None
        self._begun_at_turn, self.granted, self._opened = at_turn, 0, None

    def _early(self) -> None:
        """The first request after a turn was refused: first the head start goes, then seconds are rounded down."""
        if self._trusted:
            self._trusted = False
        else:
            self._rounded_down = True

    def _head_start_s(self) -> float:
        if not self._trusted or len(self._latencies) < _FEW:
            return 0.0
        spread_s = max(self._latencies) - min(self._latencies)
        return max(0.0, self._shortest_s - spread_s)

    def _latest_turn_by(self, told: WindowTold, received_at: float) -> float:
        return self._bound(told, received_at) + MARGIN_S

    def _bound(self, told: WindowTold, received_at: float) -> float:
        if self._opened is None or self._length_s is None or not self._trusted:
            return self._told_bound(told, received_at)
        asked_at, opened_by = self._opened
        if not told.is_epoch and self._told_bound(told, received_at) < asked_at + self._length_s - CONTRADICTION_S:
            self._rounded_down, self._latest_turn = True, None
        bound = self._told_bound(told, received_at)
        exact = self._begun_at_turn if told.is_epoch else self._rounded_down
        return min(bound, opened_by + self._length_s) if exact else bound

    def _told_bound(self, told: WindowTold, received_at: float) -> float:
        if told.is_epoch and self._clock.is_known:
            down = told.in_whole_seconds and self._rounded_down is not False
            return self._clock.latest(told.turn_epoch) + (ROUNDING_S if down else 0.0)
        return received_at + told.left_s + self.rounding_s

    def _shows_length(self, told: WindowTold, latency_s: float) -> bool:
        """Whether the first answer of a window goes with one usual length alone, and that is this server's."""
        usual = [length for length in LENGTHS_S if self._goes_with(told, latency_s, length)]
        if len(usual) != 1 or usual[0] < (self._length_s or 0):
            return False
        self._length_s = float(usual[0])
        if not told.is_epoch and self._trusted and told.left_s < self._length_s:
            self._rounded_down = True
        elif told.is_epoch and told.in_whole_seconds and told.left_s > self._length_s:
            self._rounded_down = False
        return True

    def _goes_with(self, told: WindowTold, latency_s: float, length_s: float) -> bool:
        """An epoch was held against a `Date` that is cut to the second, and up to a latency later than the count."""
        if not told.in_whole_seconds:
            return told.is_epoch and told.left_s - 1 < length_s <= told.left_s + latency_s
        if told.is_epoch:
            return told.left_s - 2 < length_s < told.left_s + latency_s + 1
        return told.left_s <= length_s <= told.left_s + 1
