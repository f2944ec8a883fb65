"""What the progress line and the summary say: counts of this run, its pace, and how long the rest will take."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from .activity import DATABASE, FETCHING, RATE_LIMIT, Doings
from .api.cursors import Lives
from .api.pacing import Pacer
from .books import Balance
from .key_clock import KeyClock
from .messages import Counts, RawPage, Receipt
from .postgres.source import Holdings
from .progress import Snapshot
from .summary import Summary
from .units import show_seconds

# The API's own latency and a page's commit are no news; what holds the walk for longer is.
_WORTH_SAYING_S = 2.0

_log = logging.getLogger(__name__)


class Meter:
    """Told of every page and receipt by the main loop; asked by it for a Snapshot several times a second."""

    def __init__(
        self,
        holdings: Holdings,
        activity: Doings,
        pacer: Pacer,
        key_clock: KeyClock,
        *,
        cursors: Lives | None = None,
        total: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._initial = holdings.events
        self._activity = activity
        self._pacer = pacer
        self._key_clock = key_clock
        self._cursors = cursors
        self._clock = clock
        self._began_at = clock()
        self._walk_length = 0  # events that the walk under way has behind it, earlier runs' included
        self._top_up = False
        self._page_size = 1  # events; pages are asked for smaller where one fails
        self._warned = False
        self._total_at_head: int | None = None  # when the walk under way read the newest event
        self.total = total
        self.total_is_fresh = False  # the API has said it to this run
        self.counts = Counts()
        self.pages = 0
        self.database_trouble = ""
        self.pool_trouble = ""

    def walk_begins(self, behind: int, *, top_up: bool) -> None:
        """A walk begins that already has `behind` events behind it; how long a top-up is nobody knows."""
        self._walk_length = behind
        self._top_up = top_up
        self._total_at_head = None

    def fetched(self, page: RawPage) -> None:
        self._page_size = max(self._page_size, page.received)
        self._walk_length += page.received
        if page.total is not None:
            self.total, self.total_is_fresh = page.total, True
        if page.cursor is None and page.total is not None:
            self._total_at_head = page.total

    def heard(self, total: int) -> None:
        """The API has said its total anew, not with a page."""
        self.total, self.total_is_fresh = total, True

    @property
    def grown(self) -> int:
        """How many events have come since the walk under way read the newest one, as far as is known."""
        return 0 if self._total_at_head is None or self.total is None else self.total - self._total_at_head

    def committed(self, receipt: Receipt) -> None:
        self.counts += receipt.counts
        self.pages += 1
        self.database_trouble = ""

    def snapshot(self, queued: int, spooled: int, workers: int = 0, pids: tuple[int, ...] = ()) -> Snapshot:
        """How things stand. Warns, once, when the key will not live as long as the rest takes."""
        left_s, key_left_s = self._left_s(), self._key_clock.left_s()
        if left_s is not None and key_left_s is not None and left_s > key_left_s and not self._warned:
            self._warned = True
            _log.warning(
                "the rest takes about %s and the key ends in %s: a new key will be needed; the run can be resumed",
                show_seconds(left_s),
                show_seconds(key_left_s),
            )
        return Snapshot(
            committed=self._initial + self.counts.inserted,
            initial=self._initial,
            total=self.total,
            rate=self._rate(),
            left_s=left_s,
            requests=self._activity.counts["requests"],
            requests_left=self._pacer.remaining,
            queued=queued,
            spooled=spooled,
            rejected=self.counts.rejected,
            key_left_s=key_left_s,
            waiting=self._waiting(),
            seconds=self._activity.seconds(),
            doing="" if (doing := self._activity.doing) is None else doing.cause,
            cursor_left_s=None if self._cursors is None else self._cursors.left_s(),
            workers=workers,
            pids=pids,
        )

    def summary(self, balance: Balance, *, demo: bool) -> Summary:
        counts = self._activity.counts
        return Summary(
            balance=balance,
            counts=self.counts,
            pages=self.pages,
            requests=counts["requests"],
            retries=counts["retries"],
            limited=counts["429s"],
            elapsed_s=self._clock() - self._began_at,
            seconds=self._activity.seconds(),
            demo=demo,
        )

    def cost_of_a_walk(self) -> str:
        """What it takes to ask for everything: `about 600 requests, 59 min 00 s by the rate limit`."""
        requests = math.ceil((self.total or 0) / self._page_size)
        shortest_s = self._pacer.seconds_for(requests)
        limit = f", {show_seconds(shortest_s)} by the rate limit" if shortest_s else ""
        return f"about {requests:,} requests{limit}"

    def _rate(self) -> float:
        elapsed_s = self._clock() - self._began_at
        return self.counts.received / elapsed_s if elapsed_s > 0 else 0.0

    def _left_s(self) -> float | None:
        """The longer of what the rate limit permits and what this run's pace promises."""
        if self.total is None or self._top_up:
            return None
        events = max(0, self.total - self._walk_length)
        by_limit_s = self._pacer.seconds_for(math.ceil(events / self._page_size))
        rate = self._rate()
        return max(by_limit_s, events / rate) if rate > 0 else None

    def _waiting(self) -> str:
        if trouble := self.pool_trouble or self.database_trouble:
            return trouble
        doing = self._activity.doing
        if doing is None:
            return ""
        if doing.until is not None:
            left = show_seconds(doing.until - self._clock())
            return f"{doing.cause}, {left}" if doing.cause == RATE_LIMIT else f"{doing.detail}; again in {left}"
        if self._activity.held_s() < _WORTH_SAYING_S:
            return ""
        return {FETCHING: "waiting for the server", DATABASE: "waiting for the database"}.get(doing.cause, "")
