"""From a page's address to the whole page: paced, retried while patience lasts, every outcome by the table."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..activity import FETCHING, RATE_LIMIT, SERVER, Activity
from ..errors import ApiUnreachableError, CursorExpiredError, EventUnreachableError, KeyRefusedError, NotTheApiError
from ..log_lines import about
from ..messages import PageAddress, PageId, RawPage
from ..settings import Settings
from ..stopping import Interrupted
from ..units import show_seconds
from .client import ApiClient, Response
from .cursors import CursorClock
from .endpoints import Endpoint, parameters_of
from .narrowing import Narrowing
from .outcomes import AccessDied, Answered, Fault, Outcome, PageFault, TooLarge, outcome_of
from .patience import Trouble
from .reading import envelope_of, is_out_of_range, no_events, open_below, page_of, said
from .sharing import Shared
from .telling import Observe, Telling, nobody

PAST_CACHE = 10  # other URLs for the same page that are tried to get past the server's cache
LIMITED = 30  # 429s in a row, each waited for as it or the learned rate says: some 20 minutes without headers
DOUBTS = 2  # faults in a row of a cursor that may be dead, before a fresh request is spent on finding out
_log = logging.getLogger(__name__)


class PageFetcher:
    """Asks for pages, in one thread; `stop`, `state` and what it shows (`activity`, `pacer`) are for others.

    Other threads get fetchers of their own from `sibling`. `limit`, the page size in force for all of them, only ever
    shrinks, and says so; single pages that fail are asked for smaller.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        client: ApiClient | None = None,
        observe: Observe = nobody,
        endpoint: Endpoint | None = None,
        shared: Shared | None = None,
    ) -> None:
        """`observe` is called by the thread that fetches, by several at once where there are siblings; `shared` is
        theirs, where this is one of them."""
        self._is_first = shared is None
        self._shared = shared = shared or Shared(settings, endpoint, clock=clock, jitter=jitter)
        self._settings = settings
        self._endpoint = shared.endpoint
        self._stop = shared.stop
        self._clock = shared.clock
        self._jitter = shared.jitter
        self.pacer = shared.pacer
        self.activity = Activity(shared.clock)
        self.cursors = CursorClock(clock=shared.clock)
        self._client = client or ApiClient(settings, clock=shared.clock)
        self._observe = observe
        self._telling = Telling(observe, clock=shared.clock)
        self._narrowing = Narrowing()
        self._past_cache = 0
        self._limited = 0  # 429s in a row for the page under way
        self._probes = 0

    def sibling(self) -> PageFetcher:
        """A fetcher for another thread, with a connection, an activity and cursors of its own. Everything else it has
        in common with this one: endpoint, pace, page size, patience and stop.
        """
        return PageFetcher(self._settings, observe=self._observe, shared=self._shared)

    @property
    def limit(self) -> int:
        """Events a page, for all siblings."""
        return self._shared.limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._shared.limit = limit

    def stop(self) -> None:
        """No further request is made, by any sibling: whoever waits in `fetch` leaves it by Interrupted."""
        self._stop.set()

    def close(self) -> None:
        """Lets the connection go; the first fetcher of a run stops all siblings as well. Idempotent."""
        if self._is_first:
            self.stop()
            self._endpoint.close()
        self._client.close()

    def state(self, *, settled: bool) -> dict[str, Any]:
        """What the next run needs to know, as JSON values. `settled`: no sibling has a request under way."""
        return self._shared.state(settled=settled)

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Goes on where the `state` of an earlier run left the rate limit, with pages that the server takes."""
        self._shared.restore(state)

    def fetch(self, address: PageAddress) -> RawPage:
        """Blocks until the whole page is there, waiting for the rate limit and for a server in trouble.

        Raises Interrupted, CursorExpiredError, KeyRefusedError, NotTheApiError, PageContradictionError,
        EventUnreachableError, or ApiUnreachableError after API_PATIENCE, before the run's first page after
        START_PATIENCE_S at most.
        """
        with about(page=address.page):
            return self._fetch(address)

    def _fetch(self, address: PageAddress) -> RawPage:
        self._past_cache = self._limited = 0
        self._telling.new_page()
        trouble, doubt = self._shared.patience(), _Doubt()
        while True:
            try:
                with self._telling.request(address.page):
                    page = self._attempt(address)
            except Fault as fault:
                self.activity.count("retries")
                if isinstance(fault, AccessDied) or self._doubts(address, doubt, fault):
                    continue
                if self._narrows(address, fault):
                    trouble = self._shared.patience()
                    if isinstance(fault, TooLarge):
                        continue  # the server is well: there is nothing to wait for
                self._sit_out(address, trouble, fault)
                continue
            if page is not None:
                self._shared.any_page = True
                if address.limit is None:
                    self._narrowing.passed(page.received)
                return page

    def _attempt(self, address: PageAddress) -> RawPage | None:
        """One request. None: not refused, not a fault, but to be asked again at once."""
        limit = self._limit_for(address)
        response = self._request(address.page, parameters_of(address, limit))
        if response is None:
            return None
        if is_out_of_range(address, response):
            return self._attempt(wider) if (wider := open_below(address)) else no_events(address, limit)
        outcome = outcome_of(response.status, response.body)
        if outcome is Outcome.PAGE and address.fresh and self._is_stale(response):
            self._past_cache += 1
            return None
        if outcome is not Outcome.PAGE:
            self._refuse(address, response, outcome)
            return None
        envelope = envelope_of(response.body)
        self._telling.identified(envelope.request_id)
        page = page_of(address, envelope, response.body, limit)
        self.cursors.issued(page.next_cursor, response.received_at, envelope.cursor_life_s)
        if page.received >= self.limit:
            self.pacer.page_took(response.received_at - response.sent_at)
        if left_s := self.cursors.left_s():  # one that is dead by the clocks says that they differ, and no more
            self.pacer.ask_within(left_s / 2)
        return page

    def _limit_for(self, address: PageAddress) -> int:
        if address.limit is not None:
            return address.limit + self._past_cache  # fewer would not be what was asked for
        return max(1, self._narrowing.limit(self.limit) - self._past_cache)

    def _request(self, page: PageId, parameters: Mapping[str, str]) -> Response | None:
        """One request when its turn has come. None: one too many, which the pacer now knows."""
        if self._stop.is_set():
            raise Interrupted
        with self.activity.during(FETCHING):
            self._endpoint.access()  # now, so that asking for a token takes no time of the turn
        self._await_turn()
        try:
            with self.activity.during(FETCHING):
                access = self._endpoint.access()  # a turn may have been long in coming
                self.activity.count("requests")
                self._telling.sent()
                response = self._client.get(access.url, parameters, access.headers)
        except Exception:
            self.pacer.failed()
            raise
        self._telling.answered(response)
        self.cursors.answered(response.headers, response.received_at)
        if outcome_of(response.status, response.body) is not Outcome.LIMITED:
            self.pacer.answered(response.headers, response.received_at, status=response.status)
            self._endpoint.answered(access, response)
            return response
        self.activity.count("429s")
        self._limited += 1
        if self._limited >= LIMITED:
            raise ApiUnreachableError(
                f"The API answered {self._limited} requests in a row for page {page} with 429, too many requests.",
                hint="Its quota may be spent, or others use the same key. Run the same command again later; it goes on"
                " from here.",
            )
        wait_s = self.pacer.limited(response.headers, response.received_at)
        _log.warning("page %s: too many requests (429), going on in %s", page, show_seconds(wait_s))
        return None

    def _is_stale(self, response: Response) -> bool:
        """Whether another URL for this page is worth a try: a smaller limit makes one, and a page from the cache did
        not count against the rate limit."""
        return response.header("X-Cache") == "HIT" and self._past_cache < PAST_CACHE

    def _refuse(self, address: PageAddress, response: Response, outcome: Outcome) -> None:
        text = said(response, self._settings, address.cursor)
        if outcome is Outcome.FAULT:
            raise (PageFault if response.status == 500 else Answered)(f"the server answered {text}")
        limit_was_good = address.limit is not None  # so that it is not the limit which is refused
        if (outcome is Outcome.CURSOR_EXPIRED and address.cursor is not None) or (
            outcome is Outcome.LIMIT_REFUSED and limit_was_good
        ):
            raise CursorExpiredError(f"The cursor of page {address.page} has expired: the server answered {text}.")
        if outcome is Outcome.KEY_REFUSED:
            raise KeyRefusedError(
                f"The API refuses the key: it answered {text}.",
                hint=(
                    "The key has run out (it lives for 3 hours from its first call) or was revoked: put a new one"
                    " into TARGET_API_KEY and run the same command again; it goes on from here."
                    if self._shared.any_page
                    else "Check TARGET_API_KEY; a key lives for 3 hours from its first call."
                ),
            )
        if outcome is Outcome.LIMIT_REFUSED and self._shared.step_down(self._limit_for(address), text):
            return
        raise NotTheApiError(
            f"{self._endpoint.url} is not {self._endpoint.name} of this API: it answered {text}.",
            hint=self._endpoint.hint,
        )

    def _doubts(self, address: PageAddress, doubt: _Doubt, fault: Fault) -> bool:
        """Whether to ask again at once: a fresh request works, so that the next fault settles what the cursor is.

        Raises CursorExpiredError for that fault. A cursor that is young is in no doubt: its faults are the server's.
        """
        may_be_dead = address.cursor is not None and (
            address.limit is not None or self.cursors.past_life(address.cursor)
        )
        if not may_be_dead or not isinstance(fault, Answered):
            return False
        if doubt.fresh_request_works:
            raise CursorExpiredError(
                f"The cursor of page {address.page} has expired: {fault}, {doubt.faults + 1} times in a row, while a"
                " fresh request works."
            )
        doubt.faults += 1
        doubt.fresh_request_works = doubt.faults >= DOUBTS and self._fresh_request_works(address.page, fault)
        return doubt.fresh_request_works

    def _fresh_request_works(self, page: PageId, fault: Fault) -> bool:
        """Spends one cheap request on whether the trouble is the server's or this page's alone."""
        self._probes += 1
        parameters = {"limit": str(1 + self._probes % 50)}  # another URL each time: the server's cache proves nothing
        try:
            with self._telling.request(page, good="probe"):
                response = self._request(page, parameters)
            works = response is not None and response.status == 200 and response.header("X-Cache") != "HIT"
            works = works and response is not None and envelope_of(response.body).received > 0
        except Fault:
            works = False
        _log.warning(
            "page %s: %s; a fresh request, made to tell whose trouble it is (it costs one), %s",
            page,
            fault,
            "works" if works else "fails too",
        )
        return works

    def _narrows(self, address: PageAddress, fault: Fault) -> bool:
        """Whether from now on a smaller page is asked for. Raises EventUnreachableError where it cannot be smaller."""
        if address.limit is not None:
            return False
        limit = self._limit_for(address)
        if not self._narrowing.is_due(fault, limit):
            return False
        if limit > 1:
            smaller = self._narrowing.halve(limit)
            _log.warning("page %s: %s; asking for %d events in the place of %d", address.page, fault, smaller, limit)
            return True
        if isinstance(fault, TooLarge):
            raise EventUnreachableError(
                f"One event, {_event(address)}, is too large: {fault}.",
                hint="Set a larger MAX_PAGE_BYTES and run the same command again; it goes on from here.",
            )
        if self._fresh_request_works(address.page, fault):
            raise EventUnreachableError(
                f"The API cannot serve one event, {_event(address)}, even alone: {fault}.",
                hint="Other requests work. Run the same command again later; if it stays so, tell the API's owner.",
            )
        return False

    def _await_turn(self) -> None:
        if self._stop.is_set():
            raise Interrupted
        try:
            while (wait_s := self.pacer.take()) > 0:
                self._wait(wait_s, RATE_LIMIT)
        except Interrupted:
            self.pacer.leave()
            raise

    def _sit_out(self, address: PageAddress, trouble: Trouble, fault: Fault) -> None:
        """Waits before the next attempt, or raises the error that ends the run."""
        wait_s = trouble.next_wait_s(fault, self._jitter())
        if wait_s is None:
            raise trouble.error(address.page, self._endpoint.url, fault, any_page=self._shared.any_page)
        _log.warning("page %s: %s; asking again in %s", address.page, fault, show_seconds(wait_s))
        self._wait(wait_s, SERVER, detail=str(fault))

    def _wait(self, seconds: float, cause: str, detail: str = "") -> None:
        with self.activity.during(cause, detail=detail, until=self._clock() + seconds):
            if self._stop.wait(seconds):
                raise Interrupted


@dataclass(slots=True)
class _Doubt:
    """What is known of a cursor that may be dead: its faults, and whether a request without it was answered."""

    faults: int = 0
    fresh_request_works: bool = False


def _event(address: PageAddress) -> str:
    return "the newest" if address.after is None else f"the one after event {address.after.event_id}"
