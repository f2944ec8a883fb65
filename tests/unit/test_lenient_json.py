"""The walk over a JSON text's structure: it agrees with a real parser, tells a cut from an oddity, and is linear."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasync_ingest.lenient_json import CutOffError, MalformedError, depth, elements, members, string_end

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
KEYS = st.text(max_size=4)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)
INDENTS = st.sampled_from([None, 0, 3])


def object_of(text: bytes) -> dict[str, Any]:
    return {json.loads(text[key]): json.loads(text[value]) for key, value in members(text)}


@given(OBJECTS, INDENTS, st.booleans())
def test_an_object_has_the_members_that_a_parser_finds(value: dict[str, Any], indent: int | None, ascii: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii).encode(errors="surrogatepass")
    if ascii:
        assert repr(object_of(b" \r\n" + text + b"\t")) == repr(value)  # repr: NaN is NaN there
    else:
        assert [json.loads(text[key].decode(errors="surrogatepass")) for key, _ in members(text)] == list(value)


@given(st.lists(VALUES, max_size=4), INDENTS)
def test_an_array_has_the_elements_that_a_parser_finds(value: list[Any], indent: int | None) -> None:
    text = json.dumps(value, indent=indent).encode()
    assert repr([json.loads(text[element]) for element in elements(text)]) == repr(value)


@given(OBJECTS, INDENTS, st.data())
def test_any_beginning_of_an_object_is_cut_off(value: dict[str, Any], indent: int | None, data: Any) -> None:
    text = json.dumps(value, indent=indent).encode()
    with pytest.raises(CutOffError):
        members(text[: data.draw(st.integers(0, len(text) - 1))])


def test_every_beginning_of_an_odd_page_is_cut_off() -> None:
    text = b'{"data": [{"id": "a", "x": NaN}, {"id": "\\ud800\xff", "y": "\\"]}"}], "meta": {}, "hasMore": true}'
    assert len(members(text)) == 3
    for length in range(len(text)):
        with pytest.raises(CutOffError):
            members(text[:length])


@given(OBJECTS, st.binary(max_size=3), st.data())
def test_what_is_no_json_is_told_and_nothing_else_happens(value: dict[str, Any], junk: bytes, data: Any) -> None:
    text = json.dumps(value).encode()
    at = data.draw(st.integers(0, len(text)))
    damaged = text[:at] + junk + text[at + 1 :]
    try:
        found = members(damaged)
    except (CutOffError, MalformedError):
        return
    assert all(damaged[key].startswith(b'"') and damaged[value] for key, value in found)


@pytest.mark.parametrize(
    "oddity",
    [
        *(b"NaN", b"-Infinity", b"01", b".5", b"1.", b"+1", b"undefined", b"None", b"1e999999", b"\xff"),
        *(b'"\\ud800"', b'"\\u0000"', b'"\x00\x01\n"', b'"\xff\xfe"', b'"\\x"', b'"\\u12"', b'"\\\\"', b'"\\""'),
        *(b"[1,]", b'{"a" 1}', b"[" * 100_000 + b"]" * 100_000, b'{"":' * 100_000 + b"0" + b"}" * 100_000),
    ],
    ids=lambda oddity: repr(oddity[:20]),
)
def test_an_oddity_is_a_value_like_any_other(oddity: bytes) -> None:
    text = b'{"a": [1, ' + oddity + b' , 2], "b":' + oddity + b"}"
    (_, array), (key, value) = members(text)
    assert (text[key], text[value]) == (b'"b"', oddity)
    assert [text[element] for element in elements(text, array.start)] == [b"1", oddity, b"2"]


def test_repeated_keys_and_a_byte_order_mark_are_passed_on() -> None:
    text = b'\xef\xbb\xbf{"a":1,"a":2}'
    assert [text[value] for _, value in members(text)] == [b"1", b"2"]


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"[]",
            b"1",
            b'"a"',
            b"<html></html>",
            b"}",
            b'{"a":1}x',
            b'{"a":1}{}',
            b"{,}",
            b'{"a":1,}',
            b'{"a":1,,"b":2}',
        ),
        *(
            b'{"a"}',
            b'{"a" 1}',
            b"{a:1}",
            b'{"a":}',
            b'{"a":1 2}',
            b'{"a":[}',
            b'{"a":[{]}}',
            b'{"a":1]',
            b'\x0c{"a":1}',
        ),
        *(b'{"a":"b""c"}', b'{"a"::1}', b'{"a":,}'),
    ],
)
def test_another_structure_is_malformed_and_not_cut_off(text: bytes) -> None:
    with pytest.raises(MalformedError):
        members(text)


@pytest.mark.parametrize("text", [b"", b" ", b"{", b'{"a', b'{"a\\"', b'{"a":[1,2]', b'{"a":tru', b'{"a":{"b":"}'])
def test_a_text_that_ends_too_early_is_cut_off(text: bytes) -> None:
    with pytest.raises(CutOffError):
        members(text)


@given(st.text('"\\a', max_size=20))
def test_a_string_ends_where_a_parser_says(content: str) -> None:
    text = json.dumps(content).encode()
    assert string_end(text + b'"x"', 0) == len(text)


@given(VALUES)
def test_depth_counts_open_brackets(value: Any) -> None:
    def deepest(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(deepest, inner), default=0)

    assert depth(json.dumps(value).encode()) == deepest(value)


@pytest.mark.parametrize(
    ("begin", "unit", "end"),
    [
        (b'"', b"x", b'"'),
        (b'"', b"\\\\", b'"'),
        (b'"', b'\\"', b'"'),
        (b'["', b'\\\\","', b'"]'),
        (b"[0", b",1", b"]"),
        (b"[0", b",[]", b"]"),
        (b"[0", b" ", b"]"),
        (b"[", b"[],", b"]"),
    ],
    ids=["text", "backslashes", "quotes", "strings", "numbers", "arrays", "blanks", "arrays without an end"],
)
def test_the_time_grows_no_faster_than_the_text(begin: bytes, unit: bytes, end: bytes) -> None:
    def seconds(length: int) -> float:
        text = b'{"a":' + begin + unit * (length // len(unit)) + end + b"}"
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            members(text)
            best = min(best, time.process_time() - began)
        return best

    short, long = seconds(200_000), seconds(1_600_000)  # quadratic time would be 64 times as much
    assert long < 24 * short + 0.01
