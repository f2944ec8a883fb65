"""Where a fetched page goes: to a worker, or into the spool when no worker takes it before its cursor would die.

Fetching must not wait for the database: a cursor lives for two minutes, and a rate-limit window that was not used is
gone. It must not run away from a database that is merely slower than the API either. So a page waits for a moment.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from .ledger import Spool
from .messages import PageId, RawPage
from .pools import Pool
from .units import show_bytes

STALL_S = 5.0  # a page is committed in 0.2 s: workers that give no receipt for so long wait for something

_log = logging.getLogger(__name__)


class Feeder:
    """Holds every page from its fetch to its receipt. Spooled pages go to the workers first, in their order."""

    def __init__(
        self,
        pool: Pool,
        spool: Spool,
        *,
        spool_limit: int,
        longest_wait_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._spool = spool
        self._spool_limit = spool_limit
        self._longest_wait_s = longest_wait_s
        self._clock = clock
        self._in_pool: dict[PageId, RawPage] = {}
        self._moved_at = clock()
        self._said = ""
        self.stopping = False  # from then on the spool stays where it is: the next run works it off

    @property
    def idle(self) -> bool:
        """Whether every page that the workers shall get has its receipt."""
        return self._pool.pages == 0 and (self.stopping or self._spool.waiting == 0)

    @property
    def waiting(self) -> int:
        """Pages in the spool that no worker has yet."""
        return self._spool.waiting

    def refill(self) -> None:
        """Gives spooled pages to the pool, as many as it takes."""
        while self._pool.room > 0 and not self.stopping and (page := self._spool.next()) is not None:
            self._put(page)

    def takes(self, waited_s: float) -> bool:
        """Whether a fetched page that has waited for so long goes on now, and the next one may be asked for."""
        if self._has_room:
            return True
        if self.stopping:
            return self._spool.waiting > 0  # it would be behind what stays there: it need not wait for a worker
        if self._spool.size >= self._spool_limit:
            return waited_s >= self._longest_wait_s
        return waited_s >= STALL_S or self._stalled

    def accept(self, page: RawPage) -> None:
        """Hands a fetched page to the pool or to the spool. Raises DiskFullError, DataDirectoryError."""
        if self._has_room:
            self._put(page)
            return
        self._say()
        self._spool.put(page)

    def received(self, page: PageId) -> RawPage | None:
        """The page whose receipt has come; None for one that is not held here (any more)."""
        self._moved_at = self._clock()
        self._said = ""
        return self._in_pool.pop(page, None)

    def spool_rest(self) -> int:
        """Puts all that has no receipt into the spool, after the pool's end; returns the number of pages."""
        for page in self._in_pool.values():
            self._spool.put(page)
        count = len(self._in_pool)
        self._in_pool.clear()
        return count

    @property
    def _has_room(self) -> bool:
        return self._pool.room > 0 and self._spool.waiting == 0

    @property
    def _stalled(self) -> bool:
        return self._clock() - self._moved_at >= STALL_S

    def _put(self, page: RawPage) -> None:
        if not self._in_pool:
            self._moved_at = self._clock()
        self._in_pool[page.page] = page
        self._pool.put(page)

    def _say(self) -> None:
        """Once for each stall, and once more when the spool is full."""
        full = self._spool.size >= self._spool_limit
        sentence = (
            f"the spool is full (SPOOL_LIMIT, {show_bytes(self._spool_limit)}): from here on one page every"
            f" {self._longest_wait_s:.0f} s, so that the cursor stays alive"
            if full
            else "no page could be written for a while: what is fetched goes into the spool"
        )
        if sentence != self._said and not self.stopping:
            _log.warning(sentence)
            self._said = sentence
