"""What becomes of an odd event: one table, one body, over every way in which an event is read."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import NamedTuple

import pytest

from datasync_ingest.api import envelope
from datasync_ingest.events import DecodedPage, EventRow, Rows, UnreadablePageError, decode_page
from datasync_ingest.messages import Position
from datasync_ingest.tolerant import fallback_rows, read_event
from tests.odd_events import ODD_EVENTS, Odd, comparable, row_of

NEIGHBOURS = [
    b'{"id": "%s", "sessionId": "s", "userId": "u", "type": "click", "name": "n", "properties": {"page": "/home"},'
    b' "timestamp": 1769541612369, "session": {"id": "s", "deviceType": "mobile", "browser": "Chrome"}}' % name
    for name in (b"a-neighbour", b"z-neighbour")
]


def page(*events: bytes) -> bytes:
    return b'{"data": [' + b", ".join(events) + b'], "pagination": {"hasMore": true, "nextCursor": "next"}}'


class Outcome(NamedTuple):
    """What became of one event."""

    row: EventRow | None
    repaired: str | None
    rejected: str | None


def alone(odd: Odd) -> Outcome:
    """By whichever decoder a page takes that holds nothing else."""
    return _outcome(decode_page(page(odd.raw)), odd, position=0)


def between_neighbours(odd: Odd) -> Outcome:
    decoded = decode_page(page(NEIGHBOURS[0], odd.raw, NEIGHBOURS[1]))
    clean = list(decode_page(page(*NEIGHBOURS)).rows)
    assert [row for row in decoded.rows if row in clean] == clean
    rest = [row for row in decoded.rows if row not in clean]
    return _outcome(DecodedPage(Rows.of(rest), decoded.rejected, decoded.repaired, decoded.body), odd, position=1)


def in_odd_company(odd: Odd) -> Outcome:
    """Beside an event for which msgspec refuses the whole page."""
    decoded = decode_page(page(b'{"id": "~", "name": "\\ud800"}', odd.raw))
    companion = row_of({"id": "~", "name": "\ufffd"})
    assert companion in decoded.rows
    rows = [row for row in decoded.rows if row != companion]
    repaired = [event for event in decoded.repaired if event.position != 0]
    return _outcome(DecodedPage(Rows.of(rows), decoded.rejected, repaired, decoded.body), odd, position=1)


def by_the_tolerant_reader(odd: Odd) -> Outcome:
    found = read_event(odd.raw)
    if isinstance(found, str):
        return Outcome(None, None, found)
    return Outcome(found.row, "; ".join(found.repairs) or None, None)


def _outcome(decoded: DecodedPage, odd: Odd, *, position: int) -> Outcome:
    """Of the only event of which the books of the page still speak; its bytes and place must be right there."""
    in_the_books = {(event.position, event.raw) for event in decoded.rejected}
    in_the_books |= {(event.position, event.raw) for event in decoded.repaired}
    assert in_the_books <= {(position, odd.raw)}
    assert [event.event_id for event in decoded.repaired] == [row.id for row in decoded.rows if decoded.repaired]
    return Outcome(
        next(iter(decoded.rows), None),
        next((event.reason for event in decoded.repaired), None),
        next((event.reason for event in decoded.rejected), None),
    )


@pytest.mark.parametrize("odd", ODD_EVENTS.values(), ids=ODD_EVENTS)
@pytest.mark.parametrize("read", [alone, between_neighbours, in_odd_company, by_the_tolerant_reader])
def test_an_odd_event_becomes_what_the_table_says(read: Callable[[Odd], Outcome], odd: Odd) -> None:
    outcome = read(odd)
    if odd.passed_on and read is not by_the_tolerant_reader:
        assert comparable(outcome.row) == comparable(odd.row_passed_on)
        assert outcome[1:] == (None, None)
    else:
        assert comparable(outcome.row) == comparable(odd.row)
        assert outcome[1:] == (odd.repaired, odd.rejected)


@pytest.mark.parametrize("odd", ODD_EVENTS.values(), ids=ODD_EVENTS)
def test_a_page_with_an_odd_event_is_whole_and_its_cut_is_none(odd: Odd) -> None:
    body = page(NEIGHBOURS[0], odd.raw)
    found = envelope.read(body)
    assert (found.received, found.has_more, found.next_cursor) == (2, True, "next")
    assert found.first == Position(1_769_541_612_369, "a-neighbour")
    assert (None if found.last is None else found.last.event_id) == odd.columns.get("id")
    for cut in (1, 2, len(body) // 2, len(body) - 12):
        with pytest.raises(envelope.NotAPageError):
            envelope.read(body[:-cut])
        with pytest.raises(UnreadablePageError):
            decode_page(body[:-cut])


@pytest.mark.parametrize("odd", [odd for odd in ODD_EVENTS.values() if not odd.rejected][::7])
def test_the_last_resort_of_a_row_is_its_id_alone(odd: Odd) -> None:
    first, without_json, last = fallback_rows(odd.raw, odd.columns["id"])
    assert comparable(first) == comparable(odd.row)
    assert without_json == first._replace(properties=None, extra=None)
    assert last == row_of({"id": odd.columns["id"]})


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b"<html></html>", b'{"data": {}}', b'{"data": NaN}', page(b'{"id": "a"}', b"")]
)
def test_what_is_no_page_is_said_to_be_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadablePageError):
        decode_page(body)


def test_a_row_is_found_again_where_ids_repeat() -> None:
    raws = [
        b'{"id": 7, "name": "\\u0000"}',
        b"null",
        b'{"id": "b"}',
        b'{"id": "7", "name": "second"}',
        b'{"id": ""}',
        b'{"id":7,"name":NaN}',
    ]
    decoded = decode_page(page(*raws))
    assert [row.id for row in decoded.rows] == ["7", "7", "7", "b"]
    assert [row.name for row in decoded.rows] == ["\ufffd", "second", None, None]
    assert [decoded.raw_of(index) for index in range(4)] == [(place, raws[place]) for place in (0, 3, 5, 2)]


def test_an_odd_event_of_a_long_page_changes_no_other() -> None:
    """Odd pages are read in blocks, and the rows of one id stay in the order of the page across them."""
    raws = [b'{"id": "%d", "name": "%d"}' % (number % 30, number) for number in range(140)]
    raws[3], raws[64], raws[65], raws[139] = (
        b"null",
        b'{"id": 4, "name": 7}',
        b'{"id": 5, "other": 1}',
        b'{"name": NaN}',
    )
    decoded = decode_page(page(*raws))
    alone = [row for raw in raws for row in decode_page(page(raw)).rows]
    assert list(decoded.rows) == sorted(alone, key=lambda row: row.id)
    assert [event.position for event in decoded.rejected] == [3, 139]
    assert [(event.position, event.event_id, event.raw) for event in decoded.repaired] == [(64, "4", raws[64])]


def test_numbers_are_kept_as_they_are_written() -> None:
    numbers = '{"a":1.50,"b":1E5,"c":-0.0,"d":0.1000000000000000055511151231257827,"e":12345678901234567890123}'
    (row,) = decode_page(page(f'{{"id": "a", "properties": {numbers}, "unknown": {numbers}, "x": NaN}}'.encode())).rows
    assert row.properties == numbers
    assert row.extra == f'{{"unknown":{numbers},"x":"NaN"}}'


def test_the_last_data_of_a_page_wins_in_every_reader() -> None:
    for oddity in (b"1", b"NaN"):
        body = b'{"data": [], "x": ' + oddity + b', "d\\u0061ta": [{"id": "a"}], "hasMore": false}'
        assert [row.id for row in decode_page(body).rows] == ["a"]
        assert envelope.read(body).received == 1


@pytest.mark.parametrize("member", [b'"name": "%s"', b'"properties": {"x": "%s"}', b'"other": "%s"'])
def test_odd_characters_cost_memory_by_their_number_alone(member: bytes) -> None:
    length = 50_000
    body = b'{"data": [{"id": "a", %s}], "hasMore": false}' % (member % (b"\x01" * length))
    tracemalloc.start()
    try:
        (row,) = decode_page(body).rows
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert row.id == "a"
    assert peak < 40 * length
