"""From a page's address to the whole page: paced, retried while patience lasts, every outcome by the table."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..activity import FETCHING, RATE_LIMIT, SERVER, Activity
from ..errors import (
    ApiError,
    ApiUnreachableError,
    CursorExpiredError,
    KeyRefusedError,
    NotTheApiError,
    PageContradictionError,
)
from ..messages import PageAddress, PageId, RawPage
from ..settings import Settings
from ..stopping import Interrupted
from ..units import show_seconds
from .client import ApiClient, Response
from .envelope import Envelope, NotAPageError, read
from .outcomes import Contradiction, Fault, NotWhole, Outcome, error_of, outcome_of
from .pacing import Pacer

START_PATIENCE_S = 30.0
PAST_CACHE = 10  # other URLs for the same page that are tried to get past the server's cache
CONTRADICTIONS = 5  # the same page may contradict itself so often before the run ends: each costs a request
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
# Page sizes to step down to when the server refuses a larger one; 100 is the API's own default.
_LIMITS = (5000, 2000, 1000, 500, 200, 100)

_log = logging.getLogger(__name__)


class PageFetcher:
    """Asks for pages, in one thread; `stop`, `state` and what it shows (`activity`, `pacer`) are for others.

    `limit`, the page size in force, only ever shrinks, and says so.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.limit = settings.batch_size
        self.activity = Activity(clock)
        self.pacer = Pacer(buffer=settings.rate_limit_buffer, clock=clock, jitter=jitter)
        self._settings = settings
        self._url = settings.api_base_url + "/events"
        self._client = ApiClient(settings, clock=clock)
        self._stop = threading.Event()
        self._clock = clock
        self._jitter = jitter
        self._any_page = False
        self._past_cache = 0

    def stop(self) -> None:
        """No further request is made: whoever waits in `fetch` leaves it by Interrupted."""
        self._stop.set()

    def close(self) -> None:
        """Stops, and lets the connection go. Idempotent."""
        self.stop()
        self._client.close()

    def state(self, *, settled: bool) -> dict[str, Any]:
        """What the next run needs to know, as JSON values. `settled`: no request is under way."""
        return {"pacer": self.pacer.state(), "limit": self.limit, "settled": settled}

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Goes on where the `state` of an earlier run left the rate limit and the page size."""
        if state is not None:
            self.pacer.restore(state["pacer"], unseen=0 if state["settled"] else 1)
            if state["limit"] < self.limit and state["limit"] in _LIMITS:
                self.limit = state["limit"]

    def fetch(self, address: PageAddress) -> RawPage:
        """Blocks until the whole page is there, waiting for the rate limit and for a server in trouble.

        Raises Interrupted, CursorExpiredError, KeyRefusedError, NotTheApiError, PageContradictionError, or
        ApiUnreachableError after START_PATIENCE_S (before the run's first page) or API_PATIENCE (later).
        """
        self._past_cache = 0
        trouble = _Trouble(self._settings.api_patience if self._any_page else START_PATIENCE_S, self._clock)
        while True:
            try:
                page = self._attempt(address)
            except Fault as fault:
                self._sit_out(address, trouble, fault)
                continue
            if page is not None:
                self._any_page = True
                return page

    def _attempt(self, address: PageAddress) -> RawPage | None:
        """One request. None: not refused, not a fault, but to be asked again at once."""
        self._await_turn()
        limit = max(1, self.limit - self._past_cache)
        parameters = {"limit": str(limit)}
        if address.cursor is not None:
            parameters["cursor"] = address.cursor
        self.pacer.started()
        self.activity.count("requests")
        with self.activity.during(FETCHING):
            response = self._client.get(self._url, parameters)
        outcome = outcome_of(response.status, response.body)
        if outcome is Outcome.LIMITED:
            self.activity.count("429s")
            wait_s = self.pacer.limited(response.headers, response.received_at)
            _log.warning("page %s: too many requests (429), going on in %s", address.page, show_seconds(wait_s))
            return None
        self.pacer.answered(response.headers, response.received_at)
        if outcome is Outcome.PAGE and address.fresh and self._is_stale(response):
            self._past_cache += 1
            return None
        if outcome is Outcome.PAGE:
            return self._page(address, response, limit)
        self._refuse(address, response, outcome)
        return None

    def _is_stale(self, response: Response) -> bool:
        """Whether another URL for this page is worth a try: a smaller limit makes one, and a page from the cache did
        not count against the rate limit."""
        return response.header("X-Cache") == "HIT" and self._past_cache < PAST_CACHE

    def _page(self, address: PageAddress, response: Response, limit: int) -> RawPage:
        try:
            envelope = read(response.body)
        except NotAPageError as error:
            raise NotWhole(f"the answer is not a whole page: {error}") from None
        _refuse_contradictions(envelope, address)
        return RawPage(
            page=address.page,
            cursor=address.cursor,
            next_cursor=envelope.next_cursor if envelope.has_more else None,
            ends_walk=not envelope.has_more,
            limit=limit,
            received=envelope.received,
            after=address.after,
            first=envelope.first,
            last=envelope.last,
            total=envelope.total,
            request_id=envelope.request_id,
            body=response.body,
        )

    def _refuse(self, address: PageAddress, response: Response, outcome: Outcome) -> None:
        said = _said(response)
        if outcome is Outcome.FAULT:
            raise Fault(f"the server answered {said}")
        if outcome is Outcome.CURSOR_EXPIRED:
            raise CursorExpiredError(f"The cursor of page {address.page} has expired: the server answered {said}.")
        if outcome is Outcome.KEY_REFUSED:
            raise KeyRefusedError(
                f"The API refuses the key: it answered {said}.",
                hint=(
                    "The key has run out (it lives for 3 hours from its first call) or was revoked: put a new one"
                    " into TARGET_API_KEY and run the same command again; it goes on from here."
                    if self._any_page
                    else "Check TARGET_API_KEY; a key lives for 3 hours from its first call."
                ),
            )
        if outcome is Outcome.LIMIT_REFUSED and self._step_down(said):
            return
        raise NotTheApiError(
            f"{self._url} is not the events endpoint of this API: it answered {said}.",
            hint="Check API_BASE_URL: scheme, host, port and path, with or without /api/v1.",
        )

    def _step_down(self, said: str) -> bool:
        """Whether there was a smaller page size to go to."""
        smaller = [limit for limit in _LIMITS if limit < self.limit]
        if not smaller:
            return False
        _log.warning("the server refuses %d events a page (%s): asking for %d", self.limit, said, smaller[0])
        self.limit = smaller[0]
        return True

    def _await_turn(self) -> None:
        while (wait_s := self.pacer.wait_s()) > 0:
            self._wait(wait_s, RATE_LIMIT)
        if self._stop.is_set():
            raise Interrupted

    def _sit_out(self, address: PageAddress, trouble: _Trouble, fault: Fault) -> None:
        """Waits before the next attempt, or raises the error that ends the run."""
        self.activity.count("retries")
        wait_s = trouble.next_wait_s(fault, self._jitter())
        if wait_s is None:
            raise trouble.error(address.page, self._url, fault, any_page=self._any_page)
        _log.warning("page %s: %s; asking again in %s", address.page, fault, show_seconds(wait_s))
        self._wait(wait_s, SERVER, detail=str(fault))

    def _wait(self, seconds: float, cause: str, detail: str = "") -> None:
        with self.activity.during(cause, detail=detail, until=self._clock() + seconds):
            if self._stop.wait(seconds):
                raise Interrupted


class _Trouble:
    """Faults in a row on one page: how long to wait next, and when it is enough."""

    def __init__(self, patience_s: float, clock: Callable[[], float]) -> None:
        self._patience_s = patience_s
        self._clock = clock
        self._began_at: float | None = None
        self._wait_s = _FIRST_WAIT_S
        self._contradictions = 0

    def next_wait_s(self, fault: Fault, jitter: float) -> float | None:
        """Grows twofold with up to a quarter of jitter; None when patience is at its end."""
        self._contradictions += isinstance(fault, Contradiction)
        now = self._clock()
        self._began_at = self._began_at if self._began_at is not None else now
        left_s = self._began_at + self._patience_s - now
        if left_s <= 0 or self._contradictions >= CONTRADICTIONS:
            return None
        wait_s = min(self._wait_s * (1 + jitter / 4), left_s)
        self._wait_s = min(_LONGEST_WAIT_S, self._wait_s * 2)
        return wait_s

    def error(self, page: PageId, url: str, fault: Fault, *, any_page: bool) -> ApiError:
        if isinstance(fault, Contradiction):
            return PageContradictionError(
                f"The API contradicts itself on page {page}, {self._contradictions} times in a row: {fault}.",
                hint="Run the same command again later; what was committed stays.",
            )
        if isinstance(fault, NotWhole) and not any_page:
            return NotTheApiError(
                f"{url} answers, and not as this API does: {fault}.",
                hint="Check API_BASE_URL: scheme, host, port and path, with or without /api/v1.",
            )
        return ApiUnreachableError(
            f"No page from {url} for {show_seconds(self._patience_s)}: {fault}.",
            hint="Check API_BASE_URL and the network, then run the same command again; it goes on from here.",
        )


def _refuse_contradictions(envelope: Envelope, address: PageAddress) -> None:
    if not envelope.has_more:
        return
    if envelope.next_cursor is None:
        raise Contradiction("it says that there is more and gives no cursor")
    if envelope.next_cursor == address.cursor or envelope.next_cursor in address.seen:
        raise Contradiction("its next cursor leads back to where the walk has been")
    if envelope.received == 0:
        raise Contradiction("it is empty and says that there is more")
    if envelope.last is not None and envelope.last == address.after:
        raise Contradiction("it ends where the page before it ended, and says that there is more")


def _said(response: Response) -> str:
    """The status and, if it is readable, what the body says: `401 INVALID_API_KEY (no such key)`."""
    error = error_of(response.body)
    words = [str(response.status), error.get("code", "")]
    text = error.get("message") or error.get("error")
    if text:
        words.append(f"({text[:200]})")
    if location := response.header("Location"):
        words.append(f"(a redirect to {location[:200]}, which is not followed: it would carry the key elsewhere)")
    return " ".join(word for word in words if word)
