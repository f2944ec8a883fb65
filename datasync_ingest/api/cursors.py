"""Cursors: what their known form says, whether one is past its life, and how a dead one is renewed.

The known form is base64url, padded or not, of exactly these members, in any order; it is not signed:

    {"id": "<last event's id>", "ts": 1769541612369, "v": 2, "exp": 1769541728369}

Everything else is opaque: it is sent as it came, and never made up.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import CursorExpiredError, PageContradictionError
from ..messages import Fetches, PageAddress, PageFacts, RawPage
from .dates import http_date

LIFE_S = 116.0  # as the API documents it, for answers that do not say
_VERSION = 2
_MEMBERS = {"id", "ts", "v", "exp"}
# Nothing but the member itself can match: inside of a JSON string its quotes would be escaped.
_EXPIRY = re.compile(rb'("exp"\s*:\s*)-?[0-9]+')

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PlainCursor:
    """What a cursor of the known form says: the event that it goes on after, and its end (epoch ms, the server's)."""

    event_id: str | int
    timestamp_ms: int
    expires_ms: int


def decode(cursor: str) -> PlainCursor | None:
    """None for an opaque one."""
    text = _text(cursor)
    members = None if text is None else _members(text)
    if text is None or members is None or set(members) != _MEMBERS or len(_EXPIRY.findall(text)) != 1:
        return None
    event_id, *numbers = (members[name] for name in ("id", "ts", "v", "exp"))
    if type(event_id) not in (str, int) or event_id == "" or any(type(number) is not int for number in numbers):
        return None
    if members["v"] != _VERSION:
        return None
    return PlainCursor(event_id, members["ts"], members["exp"])


def renewed(cursor: str, expires_ms: int) -> str | None:
    """The same cursor, spelled the same way, with another end; None for an opaque one."""
    text = _text(cursor)
    if text is None or decode(cursor) is None:
        return None
    return _encoded(_EXPIRY.sub(rb"\g<1>%d" % expires_ms, text), padded=cursor.endswith("="))


class CursorClock:
    """How old cursors are: by the monotonic clock, and by the server's own, of which each answer's `Date` tells.

    The monotonic clock may stand still while a machine sleeps, and the wall clocks of two machines differ.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._wall = wall
        self._served: tuple[float, float] | None = None  # the server's epoch seconds, and ours (monotonic) with them
        self._latest: tuple[str, float, float, float] | None = None  # a cursor, both clocks when it came, and its life

    def answered(self, headers: Mapping[str, str], received_at: float) -> None:
        """Takes over an answer's `Date`, unless it may be as old as the server's cache."""
        served = http_date(headers.get("Date"))
        if served is not None and headers.get("X-Cache", "").upper() != "HIT":
            self._served = (served, received_at)

    def issued(self, cursor: str | None, received_at: float, life_s: float | None = None) -> None:
        """The page that was received then gave this cursor, or none, and said how long it lives."""
        self._latest = None if cursor is None else (cursor, received_at, self.server_now(), life_s or LIFE_S)

    def left_s(self) -> float | None:
        """Seconds until the latest cursor dies, 0 when it may be dead; None where there is none. For any thread."""
        if (latest := self._latest) is None:
            return None
        cursor, received_at, served, life_s = latest
        plain = decode(cursor)
        if plain is not None:
            return max(0.0, plain.expires_ms / 1000 - self.server_now())
        return max(0.0, life_s - max(self._clock() - received_at, self.server_now() - served))

    def server_now(self) -> float:
        """Epoch seconds of the server's clock; of ours while it has not told."""
        if self._served is None:
            return self._wall()
        served, received_at = self._served
        return served + self._clock() - received_at

    def past_life(self, cursor: str) -> bool:
        """Whether a cursor can be dead by its age. One whose age nothing tells (an opaque one, kept from an earlier
        run) can be.
        """
        plain = decode(cursor)
        if plain is not None:
            return self.server_now() * 1000 >= plain.expires_ms
        if self._latest is None or self._latest[0] != cursor:
            return True
        return self.left_s() == 0


class Lives(Protocol):
    """Whoever knows how long the cursors live that are in use."""

    def left_s(self) -> float | None:
        """Seconds until the first of them dies; None where there is none. For any thread."""


class CursorClocks:
    """The clocks of several fetchers, read as one."""

    def __init__(self, *clocks: CursorClock) -> None:
        self._all = clocks

    def left_s(self) -> float | None:
        return min((left_s for clock in self._all if (left_s := clock.left_s()) is not None), default=None)


class Renewal:
    """Gets a fresh cursor for one that has expired, by asking for the page that gave it once more."""

    def __init__(self, fetcher: Fetches, clock: CursorClock) -> None:
        self._fetcher = fetcher
        self._clock = clock

    def next_cursor(self, last: PageFacts, expired: CursorExpiredError) -> str | None:
        """The cursor that the server issues now for what comes after `last`, whose own has expired.

        None where there is none to be had, with the reason in the log: the cursor is opaque, the server does not take
        the renewed one, or what it answers is not that page. Costs one request at most, faults aside. Raises what
        `fetch` raises for any other reason.
        """
        cursor = None if last.cursor is None else self._renewed(last.cursor)
        if last.cursor is not None and cursor is None:
            _log.warning("%s It cannot be renewed: the cursor of page %s is opaque.", expired, last.page)
            return None
        how = "from the newest event" if cursor is None else "with a renewed cursor"
        _log.warning("%s Asking for page %s once more, %s, to go on after it: one request.", expired, last.page, how)
        try:
            page = self._fetcher.fetch(PageAddress(last.page, cursor, last.after, limit=last.limit))
        except (CursorExpiredError, PageContradictionError) as error:
            _log.warning("The renewal is dropped: %s", error)
            return None
        if reason := _difference(page, last):
            _log.warning("The renewal is dropped: page %s is not what it was: %s.", last.page, reason)
            return None
        _log.info("page %s is what it was; the walk goes on with the cursor that came with it", last.page)
        return page.next_cursor

    def _renewed(self, cursor: str) -> str | None:
        return renewed(cursor, round((self._clock.server_now() + LIFE_S) * 1000))


def _difference(page: RawPage, last: PageFacts) -> str:
    """Why the walk must not go on after this answer; empty where it is the known page."""
    if page.received != last.received:
        return f"it has {page.received:,} events in the place of {last.received:,}"
    if last.first is None or last.last is None:
        return "it cannot be told by its first and last event, which have no usable ids"
    if (page.first, page.last) != (last.first, last.last):
        return "it begins or ends elsewhere"
    if page.next_cursor is None:
        return "there is nothing after it any more"
    return ""


def _text(cursor: str) -> bytes | None:
    """The decoded bytes, where encoding them gives exactly this cursor again."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    return text if cursor in (_encoded(text, padded=True), _encoded(text, padded=False)) else None


def _encoded(text: bytes, *, padded: bool) -> str:
    cursor = base64.urlsafe_b64encode(text).decode()
    return cursor if padded else cursor.rstrip("=")


def _members(text: bytes) -> dict[str, Any] | None:
    """The members of a JSON object of which none comes twice."""
    try:
        pairs = json.loads(text.decode(), object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        return None
    members: dict[str, Any] = dict(pairs)
    return members if len(members) == len(pairs) else None
