"""What holds for every page, whatever its events are: the books balance, the bytes are kept, PostgreSQL can take it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from datasync_ingest.api import envelope
from datasync_ingest.events import _clean_rows, decode_page
from datasync_ingest.tolerant import read_event, read_id
from tests.odd_events import ODD_EVENTS, comparable

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
KEYS = st.text(max_size=4)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=6
)
TIMES = st.integers(0, 10**18) | st.floats(0, 1e18) | st.datetimes().map(lambda moment: f"{moment.isoformat()}Z")
IDS = st.sampled_from(["a", "b", "c"]) | st.integers(0, 3) | st.text(max_size=3)


def mostly(*usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One of the usual values, and now and then any other."""
    return st.one_of(*usual, *usual, VALUES)


SESSION = st.fixed_dictionaries(
    {}, optional={"id": mostly(st.text()), "deviceType": mostly(st.text()), "browser": mostly(st.text()), "os": VALUES}
)
EVENT = st.fixed_dictionaries(
    {"id": mostly(IDS)},
    optional={
        **{name: mostly(st.text(), st.none()) for name in ("sessionId", "userId", "type", "name")},
        "properties": mostly(st.dictionaries(KEYS, SCALARS, max_size=4)),
        "timestamp": mostly(TIMES, st.none()),
        "ts": mostly(TIMES, st.none()),
        "session": mostly(SESSION, st.none()),
        "unknown": VALUES,
    },
)
TEXTS = (EVENT | VALUES).flatmap(
    lambda value: st.booleans().map(
        lambda is_ascii: json.dumps(value, ensure_ascii=is_ascii).encode(errors="surrogatepass")
    )
)
ODD_TEXTS = st.sampled_from([odd.raw for odd in ODD_EVENTS.values() if len(odd.raw) < 10_000])
BLANKS = st.sampled_from([b"", b" ", b"\n\t "])


@st.composite
def raw_events(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Events as texts, and a page of them."""
    raws = draw(st.lists(TEXTS | ODD_TEXTS, max_size=4))
    blank = draw(BLANKS)
    return raws, b'{"data":[' + (blank + b"," + blank).join(raws) + blank + b'],"hasMore":false}' + blank


@given(raw_events())
def test_the_books_of_any_page_balance_and_keep_its_bytes(page: tuple[list[bytes], bytes]) -> None:
    raws, body = page
    decoded = decode_page(body)
    assert decoded.received == len(decoded.rows) + len(decoded.rejected) == len(raws) == envelope.read(body).received
    assert [row.id for row in decoded.rows] == sorted(row.id for row in decoded.rows)
    assert sorted(row.id for row in decoded.rows) == sorted(filter(None, map(read_id, raws)))
    assert [event.position for event in decoded.rejected] == [n for n, raw in enumerate(raws) if read_id(raw) is None]
    assert all(event.raw == raws[event.position] for event in decoded.rejected)
    assert all(
        (event.raw, event.event_id) == (raws[event.position], read_id(raws[event.position]))
        for event in decoded.repaired
    )
    assert len({event.position for event in decoded.repaired}) == len(decoded.repaired)


@given(raw_events())
def test_every_row_of_any_page_is_found_again(page: tuple[list[bytes], bytes]) -> None:
    raws, body = page
    decoded = decode_page(body)
    found = [decoded.raw_of(index) for index in range(len(decoded.rows))]
    assert len({place.position for place in found}) == len(found)
    for row, (position, raw) in zip(decoded.rows, found, strict=True):
        assert raw == raws[position]
        assert list(decode_page(b'{"data":[' + raw + b"]}").rows) == [row]


@given(raw_events())
def test_the_rows_of_any_page_are_what_postgresql_can_hold(page: tuple[list[bytes], bytes]) -> None:
    for row in decode_page(page[1]).rows:
        texts = [text for text in row if text is not None]
        assert all(type(text) is str for text in texts)
        assert not any("\0" in text for text in texts)
        assert all(text.encode().decode() == text for text in texts)
        for text in filter(None, (row.properties, row.extra)):
            assert json.loads(text, parse_constant=_refuse) is not None or text == "null"
            assert "\\u0000" not in text.replace("\\\\", "")


def _refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is not JSON")


@given(TEXTS | ODD_TEXTS)
def test_both_decoders_agree_on_what_the_strict_one_takes(raw: bytes) -> None:
    rows = _clean_rows(b'{"data":[' + raw + b"]}")
    if rows is None:
        return
    (row,) = rows
    found = read_event(raw)
    assert not isinstance(found, str)
    if not any("PostgreSQL's" in repair for repair in found.repairs):  # which only PostgreSQL tells the strict one
        assert found.repairs == []
        assert comparable(found.row) == comparable(row)
        assert (found.row.properties, found.row.extra) == (row.properties, row.extra)


@given(st.dictionaries(st.text("abc"), st.decimals(allow_nan=False, allow_infinity=False, places=30) | st.integers()))
def test_no_number_is_rounded(numbers: dict[str, Decimal | int]) -> None:
    written = "{" + ", ".join(f'"{name}": {number:f}' for name, number in numbers.items()) + "}"
    for odd in ("1", "NaN"):
        (row,) = decode_page(
            f'{{"data": [{{"id": "a", "properties": {written}, "x": {written}, "y": {odd}}}]}}'.encode()
        ).rows
        assert row.properties == written
        assert row.extra is not None
        assert f'"x":{written},' in row.extra


@given(st.binary())
def test_no_bytes_make_the_tolerant_reader_raise(raw: bytes) -> None:
    for text in (
        raw,
        b'{"id":"a","x":' + raw + b"}",
        b'{"id":"a","name":"' + raw + b'"}',
        b'{"' + raw + b'":1,"id":"a"}',
    ):
        found = read_event(text)
        assert isinstance(found, str) == (read_id(text) is None)
