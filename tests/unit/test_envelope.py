"""What a page says about itself, in both envelopes, and what is no page at all."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasync_ingest.api.envelope import Envelope, NotAPageError, read
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


@pytest.mark.parametrize(
    ("stamps", "last"),
    [
        ([1_700_000_500_000, 1_700_000_100_000, 3.5], None),
        ([1_700_000_500_000, None, 3.5], None),
        ([None, 1_700_000_500_000, 3.5, 3.5], None),
        ([1_700_000_500_000, 1_700_000_500_000, 1_699_960_000_000], 1_699_960_000_000),
        ([1_700_000_500_000, 1_690_000_000_000, 1_600_000_000_000], 1_600_000_000_000),
        ([1_700_000_500_000, 1_700_000_100_000, 1_800_000_000_000], None),
        ([None, None, 3.5], 3500),
        ([3.5], 3500),
    ],
)
def test_a_time_that_does_not_go_with_the_others_of_its_page_is_not_where_the_page_ends(
    stamps: list[Any], last: int | None
) -> None:
    data = [{"id": f"e{number}", "timestamp": stamp} for number, stamp in enumerate(stamps)]
    found = read(json.dumps({"data": data, "hasMore": False}).encode())
    assert found.last == Position(last, f"e{len(data) - 1}")


def test_total_and_request_id_are_read_where_they_are() -> None:
    assert (read(json.dumps(nested()).encode()).total, read(json.dumps(flat()).encode()).total) == (3_000_000, None)
    assert read(json.dumps(nested()).encode()).request_id == "r"


def test_the_life_of_the_cursor_is_read_where_it_is_told_strictly_and_leniently() -> None:
    body = json.dumps(nested(cursorExpiresIn=4)).encode()
    assert read(body).cursor_life_s == read(body.replace(b'"id": "b"', b'"id": NaN')).cursor_life_s == 4
    assert read(json.dumps(flat()).encode()).cursor_life_s is None


@pytest.mark.parametrize("life", [None, 0, -1, "116", True, 1.5])
def test_a_life_of_another_kind_is_not_told(life: Any) -> None:
    assert read(json.dumps(nested(cursorExpiresIn=life)).encode()).cursor_life_s is None


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


ODDITIES = [
    *(b"NaN", b"01", b"1e999999", b'"\\ud800"', b'"\x01"', b'"\xff"', b"[" * 5000 + b"]" * 5000, b'{"\xff": "\\x"}'),
]


@pytest.mark.parametrize("oddity", ODDITIES, ids=lambda oddity: repr(oddity[:10]))
@pytest.mark.parametrize("envelope", [nested(), flat()], ids=["nested", "flat"])
def test_an_oddity_anywhere_changes_nothing_of_what_the_page_says(envelope: dict[str, Any], oddity: bytes) -> None:
    clean = json.dumps(envelope).encode()
    expected = read(clean)
    assert read(clean[:-1] + b', "odd": ' + oddity + b"}") == expected
    assert read(clean.replace(b"[", b'[{"id": "a", "timestamp": 1769541612369, "odd": ' + oddity + b"}, ")) == replace(
        expected, received=4
    )
    assert read(clean.replace(b'"limit": 5000', b'"limit": ' + oddity)) == expected
    assert read(clean.replace(b'"returned": 3', b'"returned": ' + oddity)) == expected


@pytest.mark.parametrize("oddity", [b"NaN", b"1e400", b"-1", b"9" * 19, b"1" * 5000, b'"3"', b'"\\ud800"', b"[1,]"])
def test_an_odd_total_is_no_total(oddity: bytes) -> None:
    assert read(b'{"data": [], "hasMore": false, "meta": {"total": ' + oddity + b"}}").total is None


@pytest.mark.parametrize("oddity", [b"NaN", b'"x"', b"[]", b"17", b"true"])
def test_a_pagination_or_meta_that_is_no_object_says_nothing(oddity: bytes) -> None:
    body = b'{"data": [], "pagination": ' + oddity + b', "meta": ' + oddity + b', "hasMore": true, "nextCursor": "n"}'
    assert read(body) == Envelope(0, True, "n", None, None, None, None)
    with pytest.raises(NotAPageError, match="hasMore"):
        read(b'{"data": [], "pagination": ' + oddity + b"}")


@pytest.mark.parametrize("oddity", [b"1.5", b"NaN", b"true", b"{}", b'["n"]', b'"n\\ud800"', b'"n\\u0000"', b'"n\xff"'])
def test_a_cursor_that_can_be_neither_kept_nor_sent_is_none(oddity: bytes) -> None:
    found = read(b'{"data": [], "pagination": {"hasMore": true, "nextCursor": ' + oddity + b"}}")
    assert (found.has_more, found.next_cursor) == (True, None)


@pytest.mark.parametrize(
    "oddity", [b'"a\\u0000"', b'"a\\ud800"', b'"a\xff"', b'"a\\n"', b'"' + b"a" * 1001 + b'"', b"1.0"]
)
def test_an_event_without_a_usable_id_has_no_position(oddity: bytes) -> None:
    found = read(b'{"data": [{"id": ' + oddity + b', "timestamp": 1769541612369}], "hasMore": false}')
    assert (found.received, found.first, found.last) == (1, None, None)


def test_where_only_one_envelope_speaks_that_one_counts() -> None:
    body = {"data": [], "hasMore": True, "nextCursor": "n", "pagination": {"limit": 100}}
    assert read(json.dumps(body).encode()) == Envelope(0, True, "n", None, None, None, None)
    with pytest.raises(NotAPageError, match="hasMore"):
        read(json.dumps({**body, "hasMore": None}).encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": [NaN}',
        b'{"data": [NaN], "hasMore": true',
        b'{"data": [NaN], "hasMore": tru',
        b'{"data": [{"id": "\\ud800',
        b'{"data": [{"id": "\\ud800"}], "hasMore": false}x',
        b'{"data": NaN, "hasMore": false}',
        b'{"data": [], "hasMore": NaN}',
        b'{"data": [], "pagination": {"hasMore" true}}',
        b"<html>NaN</html>",
        b"NaN",
    ],
)
def test_an_odd_body_that_is_no_page_is_refused(body: bytes) -> None:
    with pytest.raises(NotAPageError):
        read(body)
