"""Tells what came of each request: its times, its answer, and what the answer was worth once it was read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import ApiError
from ..log_lines import note
from ..messages import PageId, RequestEnded
from ..redaction import foreign
from .client import Response
from .outcomes import Contradiction, Fault, NotWhole, TooLarge, WebPage, error_of

_REQUEST_ID_LENGTH = 100  # characters; a UUID has 36
Observe = Callable[[RequestEnded], None]
_WORDS = {
    WebPage: "web page",
    NotWhole: "not whole",
    TooLarge: "too large",
    Contradiction: "contradiction",
}


def nobody(request: RequestEnded) -> None:
    """Is told, and does nothing."""
    del request


class Telling:
    """One for each fetcher: counts the requests for a page, and tells `observe` of each when it is over."""

    def __init__(self, observe: Observe, *, clock: Callable[[], float], wall: Callable[[], float] = time.time) -> None:
        self._observe = observe
        self._clock = clock
        self._wall = wall
        self._attempt = 0
        self._sent: tuple[float, float] | None = None
        self._response: Response | None = None
        self._request_id: str | None = None

    def new_page(self) -> None:
        """The next request is the first one for its page."""
        self._attempt = 0

    def sent(self) -> None:
        """A request goes out now."""
        self._attempt += 1
        self._sent = self._wall(), self._clock()
        self._response = None
        self._request_id = None
        note(attempt=self._attempt, request_id=None)

    def answered(self, response: Response) -> None:
        """Its whole body is here."""
        self._response = response
        in_body = error_of(response.body).get("requestId") if response.status >= 400 else None
        self.identified(response.header("X-Request-Id") or in_body)

    def identified(self, request_id: str | None) -> None:
        """The server calls the request so, unless it has said another name before."""
        if request_id is not None and self._request_id is None:
            self._request_id = foreign(request_id, None)[:_REQUEST_ID_LENGTH]
            note(request_id=self._request_id)

    @contextmanager
    def request(self, page: PageId, good: str = "page") -> Iterator[None]:
        """In the block one request is made and judged: `good` is what it is called where the block raises nothing."""
        self._sent = None
        try:
            yield
        except Fault as fault:
            self._tell(page, _WORDS.get(type(fault), "fault"), str(fault))
            raise
        except ApiError as error:
            self._tell(page, "refused", str(error))
            raise
        else:
            self._tell(page, good, "")

    def _tell(self, page: PageId, outcome: str, detail: str) -> None:
        if self._sent is None:
            return
        (at, began), response = self._sent, self._response
        limited = response is not None and response.status == 429
        self._observe(
            RequestEnded(
                page,
                self._attempt,
                at,
                self._clock() - began if response is None else response.read_at - response.sent_at,
                None if response is None else response.status,
                "limited" if limited else outcome,
                size=0 if response is None else len(response.body),
                cached=response is not None and response.header("X-Cache") == "HIT",
                request_id=self._request_id,
                detail=detail,
            )
        )
