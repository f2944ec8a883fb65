"""The table HTTP outcome -> action, and the faults that are worth another try."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec


class Outcome(Enum):
    """What an answer means to the one who asked."""

    PAGE = "a page, if the body is whole"
    FAULT = "the server's trouble: ask again later"
    LIMITED = "too many requests: ask again when the window turns"
    CURSOR_EXPIRED = "the cursor is dead: the walk must begin elsewhere"
    LIMIT_REFUSED = "the page is too large for this server: ask for fewer events"
    KEY_REFUSED = "the key is wrong or has run out: only the user can help"
    NOT_THE_API = "this is not the API: only the user can help"


_BY_STATUS = {
    200: Outcome.PAGE,
    400: Outcome.LIMIT_REFUSED,
    401: Outcome.KEY_REFUSED,
    403: Outcome.KEY_REFUSED,
    408: Outcome.FAULT,
    410: Outcome.CURSOR_EXPIRED,
    413: Outcome.LIMIT_REFUSED,
    422: Outcome.LIMIT_REFUSED,
    425: Outcome.FAULT,
    429: Outcome.LIMITED,
}
# The codes in the JSON body of a refusal, as the API documents them, whatever the status.
_BY_CODE = {"CURSOR_EXPIRED": Outcome.CURSOR_EXPIRED, "INVALID_CURSOR": Outcome.CURSOR_EXPIRED}


class Fault(Exception):  # noqa: N818 - not an error that reaches anybody: the fetcher asks again
    """Raised when an attempt brought no whole page and another may."""


class NotConnected(Fault):
    """Raised when no connection came about, so that not a byte of the request has gone out."""


class Answered(Fault):
    """Raised when the server, or the balancer before it, answered: with something else than a page."""


class WebPage(Answered):
    """Raised when the answer is a web page: a balancer's, or of something else altogether."""


class PageFault(Answered):
    """Raised when it may be this page that the server cannot make, and smaller pages that it can (a 500)."""


class NotWhole(PageFault):
    """Raised when a body is not a whole page: cut off, or something else altogether."""


class TooLarge(PageFault):
    """Raised when a body is larger than MAX_PAGE_BYTES."""


class Contradiction(Fault):
    """Raised when a page is whole and contradicts itself; asking again helped in the wild, but not for ever."""


class NoAccess(Fault):
    """Raised when what a request needs beside the key, the feed's token, is not to be had just now."""


class AccessDied(Fault):
    """Raised when that was refused, and has been given up: there is another now, or will be."""


def outcome_of(status: int, body: bytes) -> Outcome:
    """What an answer with this status and, for a refusal, this body means."""
    if status >= 400 and (outcome := _BY_CODE.get(error_of(body).get("code", ""))):
        return outcome
    if status >= 500:
        return Outcome.FAULT
    return _BY_STATUS.get(status, Outcome.NOT_THE_API)


def error_of(body: bytes) -> Mapping[str, str]:
    """The texts of a JSON error body such as `{"error": "...", "code": "CURSOR_EXPIRED"}`, nested or not."""
    try:
        found: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return {}
    if not isinstance(found, dict):
        return {}
    nested = found.get("error")
    texts = {**found, **nested} if isinstance(nested, dict) else found
    return {str(name): text for name, text in texts.items() if isinstance(text, str)}
