"""What a page says about itself, in both envelopes, and what is no page at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasync_ingest.api.envelope import NotAPageError, read
from datasync_ingest.messages import Position

EVENTS = [
    {"id": "a", "timestamp": 1769541612369},
    {"id": "b", "timestamp": "2026-01-27T19:20:12.368Z"},
    {"id": "c", "timestamp": 1769541612367},
]


def nested(**changes: Any) -> dict[str, Any]:
    pagination = {"limit": 5000, "hasMore": True, "nextCursor": "n", "cursorExpiresIn": 116}
    meta = {"total": 3_000_000, "returned": 3, "requestId": "r"}
    return {"data": EVENTS, "pagination": {**pagination, **changes}, "meta": meta}


def flat(**changes: Any) -> dict[str, Any]:
    return {"data": EVENTS, "hasMore": True, "nextCursor": "n", **changes}


@pytest.mark.parametrize("envelope", [nested(), flat()], ids=["nested", "flat"])
def test_both_envelopes_say_the_same(envelope: dict[str, Any]) -> None:
    found = read(json.dumps(envelope).encode())
    assert (found.received, found.has_more, found.next_cursor) == (3, True, "n")
    assert (found.first, found.last) == (Position(1769541612369, "a"), Position(1769541612367, "c"))


def test_total_and_request_id_are_read_where_they_are() -> None:
    assert (read(json.dumps(nested()).encode()).total, read(json.dumps(flat()).encode()).total) == (3_000_000, None)
    assert read(json.dumps(nested()).encode()).request_id == "r"


@pytest.mark.parametrize("total", [None, -1, "3000000", 1.5, True, [1]])
def test_a_total_of_another_kind_is_no_total(total: Any) -> None:
    body = json.dumps({**nested(), "meta": {"total": total}}).encode()
    assert read(body).total is None


@pytest.mark.parametrize(
    ("event", "position"),
    [
        ({"id": 17, "ts": 1769541612369}, Position(1769541612369, "17")),
        ({"id": "a", "timestamp": "2026-01-27T19:20:12.369Z"}, Position(1769541612369, "a")),
        ({"id": "a"}, Position(None, "a")),
        ({"id": "a", "timestamp": "yesterday"}, Position(None, "a")),
        ({"timestamp": 1769541612369}, None),
        ({"id": None}, None),
        ({"id": ""}, None),
        ({"id": True}, None),
        ({"id": ["a"]}, None),
        ("not an object", None),
        (None, None),
    ],
)
def test_a_position_is_read_from_whatever_event_stands_there(event: Any, position: Position | None) -> None:
    assert read(json.dumps({"data": [event], "hasMore": False}).encode()).first == position


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"<html><body>It works!</body></html>",
        b'{"hasMore": false}',
        b'{"data": null, "hasMore": false}',
        b'{"data": {}, "hasMore": false}',
        b'{"data": []}',
        b'{"data": [], "pagination": {"nextCursor": "n"}}',
        b'{"data": [], "pagination": {"hasMore": "false"}}',
        b'{"data": [], "hasMore": 0}',
        json.dumps(nested()).encode()[:-1],
        json.dumps(nested()).encode()[:40],
        json.dumps(nested()).encode() + b"x",
    ],
)
def test_what_is_not_a_whole_page_is_refused(body: bytes) -> None:
    with pytest.raises(NotAPageError):
        read(body)


@given(st.integers(0, len(json.dumps(nested())) - 1))
def test_a_body_that_is_cut_anywhere_is_refused(length: int) -> None:
    with pytest.raises(NotAPageError):
        read(json.dumps(nested()).encode()[:length])


@pytest.mark.parametrize(("cursor", "expected"), [("", None), (None, None), (42, "42")])
def test_a_cursor_is_a_text_or_none(cursor: Any, expected: str | None) -> None:
    assert read(json.dumps(nested(nextCursor=cursor)).encode()).next_cursor == expected
