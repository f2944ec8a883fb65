"""The questions about pages: the largest one, its events, the cursor behind it, the cache, the key in the query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..api.client import Ask, Response
from ..api.cursors import decode, renewed
from ..api.dates import http_date
from ..api.outcomes import Outcome, outcome_of
from ..api.probing import EVENTS, AnswerTooLargeError, NotAskedError, Question
from ..api.reading import said
from ..conversions import API_PATH
from ..errors import KeyRefusedError, NotTheApiError
from .notes import Answer, Notes, content_of

LIMITS = (10_000, 5000, 2000, 1000, 500, 200, 100)
BY_QUERY = "/events by query key"
_SECOND_LIMIT = 100
_MOST_USED = 4  # of a window that a key in the query may share: its own limit may be 5


def first_page(notes: Notes) -> None:
    """The largest page: the first limit that is not refused, and how many events come."""
    refused: dict[str, Any] = {}
    for limit in LIMITS:
        try:
            answer = notes.events({"limit": str(limit)})
        except AnswerTooLargeError as error:
            refused = {"refused_limit": limit, "refusal": str(error)}
            continue
        outcome = outcome_of(answer.response.status, answer.response.body)
        if outcome is Outcome.PAGE:
            _take_first_page(notes, answer, limit, refused)
            return
        if outcome is not Outcome.LIMIT_REFUSED:
            _refuse(notes, answer.response, outcome)
        refused = {"refused_limit": limit, "refusal": said(answer.response)}
    raise NotAskedError(f"every limit was refused: {refused['refusal']}")


def query_key(notes: Notes) -> None:
    """Asked early in a window: where a key in the query has the lower limit and shares the window, it is not met."""
    why = "a key in the query may have a lower limit, so it is asked early in a window"
    notes.prober.fresh(EVENTS, used=_MOST_USED, why=why)
    before = notes.prober.windows.last(EVENTS)
    parameters = {"limit": "1", "api_key": notes.settings.required_api_key.reveal()}
    ask = Ask(notes.settings.api_base_url + "/events", parameters, keyed=False)
    response = notes.prober.ask(Question(f"GET {API_PATH}/events?limit=1&api_key=***", ask, (BY_QUERY, EVENTS)))
    told = notes.prober.windows.last(BY_QUERY)
    notes.found["key_in_query"] = {
        "accepted": response.status == 200,
        "status": response.status,
        "limit": None if told is None else told.limit,
        "remaining_before": None if before is None else before.remaining,
        "remaining": None if told is None else told.remaining,
    }


def second_page(notes: Notes) -> None:
    """By the cursor of the first, with another limit; and the same URL once more, for the cache."""
    cursor = notes.first_page.next_cursor
    if cursor is None:
        raise NotAskedError("there is no second page")
    parameters = {"limit": str(_SECOND_LIMIT), "cursor": cursor}
    answer = notes.events(parameters)
    page, ids = answer.whole, answer.ids
    notes.after_first = ids[0] if ids else None
    told = notes.prober.windows.last(EVENTS)
    notes.found["cursor"] = {
        **_anatomy(notes, cursor),
        "works_with_another_limit": bool(ids) and not set(ids) & set(map(str, notes.sample.ids)),
    }
    again = notes.events(parameters)
    notes.found["cache"] = {
        "header": again.response.header("X-Cache"),
        "first_header": answer.response.header("X-Cache"),
        "ttl_s": again.response.header("X-Cache-TTL"),
        "same_request_id": page.request_id is not None and page.request_id == again.whole.request_id,
        "remaining_before": None if told is None else told.remaining,
    }


def renewal(notes: Notes) -> None:
    """The first page's cursor with another end: one that is taken is not signed."""
    cursor = notes.first_page.next_cursor
    plain = None if cursor is None else decode(cursor)
    if cursor is None or plain is None:
        raise NotAskedError("the cursor is opaque or there is none")
    fresh = renewed(cursor, plain.expires_ms + 1000)
    assert fresh is not None, "it decodes"
    answer = notes.events({"limit": str(_SECOND_LIMIT + 1), "cursor": fresh})
    same = notes.after_first is not None and answer.ids[:1] == [notes.after_first]
    cursors = notes.found.setdefault("cursor", {})
    cursors["renewable"] = same
    cursors["renewal"] = "the same page" if same else "another page" if answer.ids else said(answer.response)


def _take_first_page(notes: Notes, answer: Answer, asked: int, refused: Mapping[str, Any]) -> None:
    response, sample, page = answer.response, answer.sample, answer.whole
    notes.sample, notes.page, notes.first_date = sample, page, http_date(response.header("Date"))
    notes.answered("GET", f"{API_PATH}/events", response, "" if page.total is None else f"{page.total:,} events")
    notes.found["page"] = {
        **refused,
        "asked": asked,
        "received": page.received,
        "capped": page.received < asked and page.has_more,
        "whole_data": not page.has_more,
        "seconds": response.read_at - response.sent_at,
        "bytes": len(response.body),
        "wire_bytes": response.wire_bytes,
        "gzip": response.header("Content-Encoding") == "gzip",
        "envelope": "nested" if "pagination" in content_of(response) else "flat",
        "total": page.total,
        "cursor_life_s": page.cursor_life_s,
        "unreadable_events": sample.unreadable,
        "chaos": response.header("X-Chaos-Applied"),
    }
    notes.found["timestamps"] = sample.spellings()
    notes.found["fields"] = [
        {"name": one.name, "types": one.types, "missing": one.missing, "null": one.null} for one in sample.fields()
    ]


def _refuse(notes: Notes, response: Response, outcome: Outcome) -> None:
    url = f"{notes.settings.api_base_url}/events"
    if outcome is Outcome.KEY_REFUSED:
        raise KeyRefusedError(
            f"The API refuses the key: it answered {said(response)}.",
            hint="Check TARGET_API_KEY; a key lives for 3 hours from its first call.",
        )
    raise NotTheApiError(
        f"{url} is not the events endpoint of this API: it answered {said(response)}.",
        hint="Check API_BASE_URL: scheme, host, port and path, with or without /api/v1.",
    )


def _anatomy(notes: Notes, cursor: str) -> dict[str, Any]:
    plain = decode(cursor)
    life_s = notes.first_page.cursor_life_s
    if plain is None:
        return {"form": "opaque", "characters": len(cursor), "life_s": life_s}
    last = notes.sample.ids[-1] if notes.sample.ids else None
    by_end = None if notes.first_date is None else plain.expires_ms / 1000 - notes.first_date
    return {
        "form": "base64url of id, ts, v and exp" + (", padded" if cursor.endswith("=") else ", without padding"),
        "characters": len(cursor),
        "life_s": life_s,
        "life_by_exp_s": by_end,
        "names_the_last_event": last == plain.event_id,
    }
