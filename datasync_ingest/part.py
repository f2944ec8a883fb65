"""One part of a sweep: the stretch of time that one chain of pages reads, newest first, and how much of it is left.

The chain's thread reads it (`plan`, `bounds`, `reaches`); the main thread notes its pages and may narrow it from below
while pages are on their way.
"""

from __future__ import annotations

import dataclasses
import uuid

from .api.time_bounds import TimeReading
from .coverage import Gap
from .ledger import Walk
from .messages import RawPage, TimeBounds, Window
from .plan import Plan


class Part:
    """`since` and `until` are epoch ms, both inclusive; None: open.

    `reading` is what the server takes them for. While that is None, `until` is asked for as it is, and what comes waits
    for `settle`. `events` is how many the part holds and `pace_ms` the milliseconds from one to the next, as far as the
    server has told or the caller guesses.
    """

    def __init__(
        self, gap: Gap, reading: TimeReading | None, events: float | None = None, pace_ms: float = 0.0
    ) -> None:
        self.since = gap.since
        self.until = gap.until
        self.reading = reading
        self.events = events
        self.received = 0
        self.is_read = False
        self.is_dropped = False
        self._last = gap.last
        self._walk = str(uuid.uuid4())
        self._newest: int | None = None
        self._at = gap.until  # the oldest millisecond that was read
        self._guessed_pace_ms = pace_ms
        self._asked: tuple[TimeBounds, int | None] | None = None

    # --- for the chain's thread ---

    def plan(self, sweep: Walk) -> Plan:
        """From the part's beginning, or on behind the page that has read some of its first millisecond."""
        cursor, after = (None, None) if self._last is None else (self._last.next_cursor, self._last.last)
        walk = dataclasses.replace(sweep, walk=self._walk, cursor=cursor, after=after, head=None, is_sweep=False)
        return Plan(walk, 0, cursor, after)

    def bounds(self) -> TimeBounds:
        """The very first page of all is asked for without: its total is the API's."""
        since = self.since
        if self._asked is None and self.until is None:
            bounds = TimeBounds()
        elif self.reading is None:
            bounds = TimeBounds(None, self.until)
        else:
            bounds = self.reading.asked(since, self.until)
        self._asked = bounds, since
        return bounds

    def reaches(self, page: RawPage) -> bool:
        if self.is_dropped:
            return True
        if self.since is None or page.last is None or page.last.timestamp_ms is None:
            return False
        return page.last.timestamp_ms < self.since

    # --- for the main thread ---

    @property
    def can_be_given(self) -> bool:
        """Whether its pages are surely its own: without `until`, or when the server's reading is known."""
        return not self.is_dropped and (self.until is None or self.reading is not None)

    def noted(self, page: RawPage, sweep: str, everything: int | None) -> RawPage:
        """The page as one of this part, which is further by it; to be called before the next one is asked for.

        `everything` is the API's total, which the page of a part does not tell: its total counts the part alone.
        """
        bounds, since = self._asked or (TimeBounds(), None)
        self.received += page.received
        for position in (page.first, page.last):
            if position is not None and position.timestamp_ms is not None:
                self._newest = self._newest if self._newest is not None else position.timestamp_ms
                self._at = min(position.timestamp_ms, position.timestamp_ms if self._at is None else self._at)
        self.is_read = page.ends_walk or self.reaches(page)
        whole = bounds == TimeBounds()
        tells_of_part = since == self.since and (since is None or bounds.since is not None)
        if page.total is not None and tells_of_part and (whole or everything is None or page.total < everything):
            self.events = page.total
        return dataclasses.replace(
            page,
            ends_walk=self.is_read,
            total=page.total if whole else None,
            window=Window(sweep, self.since, self.until),
        )

    def rest(self) -> Gap | None:
        """What has not been read, without a cursor: of the millisecond that was read last, all once more."""
        if self.is_read or (self.since is not None and self._at is not None and self._at < self.since):
            return None
        return Gap(self.since, self._at)

    @property
    def can_go_on(self) -> bool:
        """Whether asking for the rest by its time is not just what was done before."""
        return self._last is not None or self._at != self.until

    @property
    def left(self) -> float | None:
        """About how many events are still to come; None where nothing tells."""
        if self.is_read:
            return 0.0
        if self.events is not None:
            return max(0.0, self.events - self.received)
        if self.since is None or self._at is None or not self.pace_ms:
            return None
        return max(0.0, (self._at - self.since) / self.pace_ms)

    def borders(self, ways: int, guess: float) -> list[int]:
        """Where to cut what is left into so many parts of about as many events, by their times, the newest first.

        Fewer where there is no room; [] where nothing has shown where the part is. `guess`: events left where nothing
        tells.
        """
        if self._at is None:
            return []
        low = self._lowest(guess)
        if low is None:
            return []
        span = self._at - low
        found = {self._at - span * number // ways for number in range(1, ways)}
        return sorted((border for border in found if low <= border < self._at), reverse=True)

    def narrow(self, border: int, events: float | None) -> Gap:
        """Gives everything up to `border` away, about so many events; returns that. It is below what was read."""
        given = Gap(self.since, border)
        self.since = border + 1
        if self.events is not None and events is not None:
            self.events = max(0.0, self.events - events)
        return given

    def settle(self, reading: TimeReading) -> None:
        """The reading is known by now: `until`, as it was asked for, means this. No page has been noted yet.

        The chain's thread may be about to ask: what it asks for in between must be no less than what is meant.
        """
        self.reading = reading
        if self.until is not None:
            self.until -= not reading.until_inclusive
            self._at = self.until

    def know(self, reading: TimeReading) -> None:
        """The reading, of a part whose bounds are what it is to mean."""
        self.reading = reading

    def expect(self, events: float | None) -> None:
        """About so many are still to come."""
        self.events = None if events is None else self.received + events

    @property
    def pace_ms(self) -> float:
        """Milliseconds from one event to the next, on the average; 0 while nothing tells."""
        newest = self._newest if self.until is None else self.until
        if newest is None or self._at is None or not self.received:
            return self._guessed_pace_ms
        return (newest - self._at) / self.received

    def _lowest(self, guess: float) -> int | None:
        """The oldest millisecond of the part, or about where it must be; servers may know no time before 1970."""
        if self.since is not None:
            return self.since
        left = self.left if self.left is not None else guess
        if self._at is None or not self.pace_ms:
            return None
        return max(0, int(self._at - left * self.pace_ms))
