"""From an answer to a page: whole, and in no contradiction with itself or with the walk so far."""

from __future__ import annotations

from dataclasses import replace

from ..messages import PageAddress, RawPage, TimeBounds
from ..redaction import foreign, mask
from ..settings import Settings
from .client import Response
from .envelope import Envelope, NotAPageError, read
from .outcomes import Contradiction, NotWhole, WebPage, error_of

# What servers say with 418, each in words of its own: nothing between these two times.
_NOTHING = b'{"data":[],"pagination":{"hasMore":false},"meta":{"total":0}}'


def is_out_of_range(address: PageAddress, response: Response) -> bool:
    """Whether an answer says that the data does not reach to the bounds. Behind a page that had events, none does."""
    return response.status == 418 and address.bounds != TimeBounds() and address.cursor is None


def open_below(address: PageAddress) -> PageAddress | None:
    """The same page without `since`, which alone may lie outside of the data; None where it is not one of two."""
    if address.bounds.since is None or address.bounds.until is None:
        return None
    return replace(address, bounds=TimeBounds(until=address.bounds.until))


def no_events(address: PageAddress, limit: int) -> RawPage:
    """The page for that: it is empty, and ends the walk."""
    return page_of(address, envelope_of(_NOTHING), _NOTHING, limit)


def envelope_of(body: bytes) -> Envelope:
    """Raises WebPage, NotWhole."""
    try:
        return read(body)
    except NotAPageError as error:
        kind = WebPage if body[:100].lstrip().startswith(b"<") else NotWhole
        raise kind(mask(f"the answer is not a whole page: {error}", None)) from None


def page_of(address: PageAddress, envelope: Envelope, body: bytes, limit: int) -> RawPage:
    """The page that was asked for with `limit`. Raises Contradiction."""
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
        body=body,
    )


def said(response: Response, settings: Settings | None = None, cursor: str | None = None) -> str:
    """The status and, if it is readable, what the body says: `401 INVALID_API_KEY (no such key)`.

    A server may say again what it was asked with: what `settings` hold of secrets and `cursor` are not left in it.
    """

    def told(text: str) -> str:
        return foreign(text, settings, cursor)[:200]

    error = error_of(response.body)
    words = [str(response.status), told(error.get("code", ""))]
    text = error.get("message") or error.get("error")
    if text:
        words.append(f"({told(text)})")
    if location := response.header("Location"):
        words.append(f"(a redirect to {told(location)}, which is not followed: it would carry the key elsewhere)")
    return " ".join(word for word in words if word)


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
