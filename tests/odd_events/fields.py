"""What an event says beside its id and its moment: texts, session, properties, and fields that nobody knows."""

from __future__ import annotations

from tests.odd_events.outcome import BEYOND, CUT, LEFT_OUT, NO_OBJECT, NO_TEXT, NO_TIME, NO_WORD, Odd, kept


def mistyped(name: str, value: str) -> Odd:
    return kept(f'"{name}": {value}', f"{name} {NO_TEXT}", extra=f'{{"{name}": {value}}}')


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


COLUMNS = {"sessionId": "session_id", "userId": "user_id", "type": "type", "name": "name"}
VALUES_OF_ANOTHER_TYPE = ("17", "17.50", "true", "[]", '["a"]', "{}", '{"a": 1}')

TEXTS = {
    "nothing but an id": Odd(b'{"id": "odd"}', {"id": "odd"}),
    **{f"{name} null": kept(f'"{name}": null') for name in COLUMNS},
    **{f"{name} empty": kept(f'"{name}": ""', **{column: ""}) for name, column in COLUMNS.items()},
    **{f"{name} as {value}": mistyped(name, value) for name in COLUMNS for value in VALUES_OF_ANOTHER_TYPE},
    "name as NaN": kept('"name": NaN', f"name {NO_TEXT}; extra {NO_WORD}", extra='{"name": "NaN"}'),
    "name as an integer past 64 bits": mistyped("name", "123456789012345678901234567890"),
    "name with U+0000": kept(r'"name": "a\u0000b"', f"name {CUT}", name="a\ufffdb"),
    "name with a raw NUL": kept(b'"name": "a\x00b"', f"name {CUT}", name="a\ufffdb"),
    "name with a lone high surrogate": kept(r'"name": "a\ud800b"', f"name {CUT}", name="a\ufffdb"),
    "name with a lone low surrogate": kept(r'"name": "a\uDfFfb"', f"name {CUT}", name="a\ufffdb"),
    "name with a pair the wrong way round": kept(r'"name": "\ude00\ud83d"', f"name {CUT}", name="\ufffd\ufffd"),
    "name with a whole pair": kept(r'"name": "\ud83d\ude00"', name="😀"),
    "name with U+FFFD": kept(r'"name": "\ufffd�"', name="\ufffd\ufffd"),
    "name that only looks like U+0000": kept(r'"name": "\\u0000 \\ud800"', name=r"\u0000 \ud800"),
    "name with invalid UTF-8": kept(b'"name": "a\xffb"', f"name {CUT}", name="a\ufffdb"),
    "name with a surrogate in UTF-8": kept(b'"name": "\xed\xa0\x80"', f"name {CUT}", name="\ufffd\ufffd\ufffd"),
    "name with raw control characters": kept(b'"name": "a\x01\n\t\x1f"', name="a\x01\n\t\x1f"),
    "name with an invalid escape": kept(r'"name": "a\x41\u12"', f"name {CUT}", name=r"a\x41\u12"),
    "name of 1 MB": kept('"name": "' + "x" * 1_000_000 + '"', name="x" * 1_000_000),
    "name twice": kept('"name": "a", "name": "b"', name="b"),
    "type unknown": kept('"type": "dream"', type="dream"),
}

SESSIONS = {
    "session null": kept('"session": null'),
    "session empty": kept('"session": {}'),
    "session whole": kept(
        '"sessionId": "s", "session": {"id": "s", "deviceType": "tablet", "browser": "Edge"}',
        session_id="s",
        device_type="tablet",
        browser="Edge",
    ),
    "session.id without sessionId": kept('"session": {"id": "s"}', session_id="s"),
    "session.id with sessionId null": kept('"sessionId": null, "session": {"id": "s"}', session_id="s"),
    "session.id null": kept('"sessionId": "s", "session": {"id": null}', session_id="s"),
    "session.id another than sessionId": kept(
        '"sessionId": "s", "session": {"id": "t"}', session_id="s", extra='{"session": {"id": "t"}}'
    ),
    "session.id with sessionId of another type": kept(
        '"sessionId": 5, "session": {"id": "t"}', f"sessionId {NO_TEXT}", session_id="t", extra='{"sessionId": 5}'
    ),
    "session.id of another type": kept('"session": {"id": 5}', f"session.id {NO_TEXT}", extra='{"session": {"id": 5}}'),
    "session.deviceType of another type": kept(
        '"session": {"deviceType": ["tv"], "browser": "Edge"}',
        f"session.deviceType {NO_TEXT}",
        browser="Edge",
        extra='{"session": {"deviceType": ["tv"]}}',
    ),
    "session.browser with U+0000": kept(
        r'"session": {"browser": "Ed\u0000ge"}', f"session.browser {CUT}", browser="Ed\ufffdge"
    ),
    "session with unknown fields": kept(
        '"session": {"os": {"name": "BeOS", "version": 5.00}}',
        extra='{"session": {"os": {"name": "BeOS", "version": 5.00}}}',
    ),
    "session with NaN": kept('"session": {"age": NaN}', f"extra {NO_WORD}", extra='{"session": {"age": "NaN"}}'),
    "session with a key that is no text": kept(
        rb'"session": {"\ud800": 1, "browser": "Edge"}',
        f"extra {CUT}",
        browser="Edge",
        extra='{"session": {"\ufffd": 1}}',
    ),
    **{
        f"session as {value}": kept(f'"session": {value}', "session is not an object", extra=f'{{"session": {value}}}')
        for value in ("17", "true", '"s"', "[]", '[{"id": "s"}]')
    },
}


def _properties(value: str) -> Odd:
    return kept(f'"properties": {value}', properties=value)


def _too_extreme(number: str) -> Odd:
    """A number that jsonb refuses."""
    raw = f'{{"id": "odd", "name": "n", "properties": {{"x": [{number}, 1]}}}}'.encode()
    columns = {"id": "odd", "name": "n", "properties": f'{{"x": ["{number}", 1]}}'}
    return Odd(raw, columns, f"properties {BEYOND}", passed_on={"properties": f'{{"x": [{number}, 1]}}'})


PROPERTIES = {
    "properties null": kept('"properties": null'),
    **{
        f"properties as {value}": _properties(value)
        for value in ("{}", '{"a": {"b": [1, null]}}', '"text"', "17", "true", "[]", '[{"a": 1}]')
    },
    "properties with an integer past 64 bits": _properties('{"n": 123456789012345678901234567890}'),
    "properties with a long fraction": _properties('{"n": 0.1234567890123456789012345678901234567890}'),
    "properties with 1e400": _properties('{"n": 1e400}'),
    "properties with the largest number": _properties('{"n": 9e131071}'),
    "properties with the finest number": _properties('{"n": 1e-16383}'),
    "properties with 1e131072": _too_extreme("1e131072"),
    "properties with 1e-16384": _too_extreme("1e-16384"),
    "properties with 1e999999": _too_extreme("1e999999"),
    "properties with -1E+99999999999999999999": _too_extreme("-1E+99999999999999999999"),
    "properties with 200,000 digits": _too_extreme("1" * 200_000),
    "properties with 20,000 decimals": _too_extreme("0." + "1" * 20_000),
    "properties with NaN": kept(
        '"properties": {"a": NaN, "b": -Infinity, "c": [Infinity, 1], "d": "NaN"}',
        f"properties {NO_WORD}",
        properties='{"a": "NaN", "b": "-Infinity", "c": ["Infinity", 1], "d": "NaN"}',
    ),
    "properties with numbers that JSON does not know": kept(
        '"properties": [01, 1., .5, +1, 0x1F, undefined]',
        f"properties {NO_WORD}",
        properties='["01", "1.", ".5", "+1", "0x1F", "undefined"]',
    ),
    "properties NaN": kept('"properties": NaN', f"properties {NO_WORD}", properties='"NaN"'),
    "properties with U+0000": kept(
        r'"properties": {"a": "x\u0000y", "b": "\\u0000"}',
        f"properties {CUT}",
        properties=r'{"a": "x\ufffdy", "b": "\\u0000"}',
    ),
    "properties with a lone surrogate": kept(
        r'"properties": {"a": ["\udead"]}', f"properties {CUT}", properties=r'{"a": ["\ufffd"]}'
    ),
    "properties with a key of U+0000": kept(
        r'"properties": {"a": {"\u0000": 1}}', f"properties {CUT}", properties=r'{"a": {"\ufffd": 1}}'
    ),
    "properties with a key of half a pair": kept(
        r'"properties": {"a": {"\ud800": 1}}', f"properties {CUT}", properties=r'{"a": {"\ufffd": 1}}'
    ),
    "properties with a whole pair": _properties(r'{"a": "\ud83d\ude00"}'),
    "properties with invalid UTF-8": kept(
        b'"properties": {"\xff": "\xfe"}', f"properties {CUT}", properties='{"\ufffd": "\ufffd"}'
    ),
    "properties with raw control characters": kept(b'"properties": {"a": "\x01\n"}', properties=r'{"a": "\u0001\n"}'),
    "properties with an invalid escape": kept(
        r'"properties": {"path": "C:\dir"}', f"properties {CUT}", properties=r'{"path": "C:\\dir"}'
    ),
    "properties with a key twice": _properties('{"a": 1, "a": 2}'),
    "properties twice": kept('"properties": {"a": 1}, "properties": {"b": 2}', properties='{"b": 2}'),
    "properties with 1 MB": _properties('{"a": "' + "x" * 1_000_000 + '"}'),
    "properties 1,000 levels deep": _properties(nested(1000)),
    "properties 1,001 levels deep": kept(
        f'"properties": {nested(1001)}, "name": "n"', f"properties {LEFT_OUT}", name="n"
    ),
    "properties 100,000 levels deep": kept(
        f'"properties": {nested(100_000)}, "name": "n"', f"properties {LEFT_OUT}", name="n"
    ),
    "properties that are no JSON": kept('"properties": {"a": [1,], }, "name": "n"', f"properties {LEFT_OUT}", name="n"),
}

UNKNOWN = {
    "unknown fields": kept('"a": 1.50, "b": {"c": [null]}', extra='{"a": 1.50, "b": {"c": [null]}}'),
    "unknown null": kept('"a": null', extra='{"a": null}'),
    "unknown field twice": kept('"a": 1, "a": 2', extra='{"a": 2}'),
    "unknown field named like a column": kept('"extra": 1, "occurred_at": 2', extra='{"extra": 1, "occurred_at": 2}'),
    "unknown key with U+0000": kept(r'"a\u0000": 1', f"extra {CUT}", extra='{"a\ufffd": 1}'),
    "unknown key with a lone surrogate": kept(r'"a\ud800": 1', f"extra {CUT}", extra='{"a\ufffd": 1}'),
    "unknown key with invalid UTF-8": kept(b'"a\xff": 1', f"extra {CUT}", extra='{"a\ufffd": 1}'),
    "unknown key with a raw control character": kept(b'"a\x01": 1', extra=r'{"a\u0001": 1}'),
    "unknown key empty": kept('"": 1', extra='{"": 1}'),
    "unknown NaN": kept('"a": NaN, "b": 1', f"extra {NO_WORD}", extra='{"a": "NaN", "b": 1}'),
    "unknown 1e999999": kept('"a": 1e999999, "b": 1', f"extra {BEYOND}", extra='{"a": "1e999999", "b": 1}'),
    "unknown integer past 64 bits": kept(
        '"a": 123456789012345678901234567890', extra='{"a": 123456789012345678901234567890}'
    ),
    "unknown 100,000 levels deep": kept(f'"a": {nested(100_000)}, "b": 1', f"extra {LEFT_OUT}", extra='{"b": 1}'),
    "unknown that is no JSON": kept('"a": {"b" 1}, "c": 1', f"extra {LEFT_OUT}", extra='{"c": 1}'),
    "several oddities": kept(
        rb'"name": 5, "type": "\u0000", "timestamp": "soon", "x": NaN',
        f"type {CUT}; name {NO_TEXT}; {NO_TIME}; extra {NO_WORD}",
        type="\ufffd",
        extra='{"name": 5, "timestamp": "soon", "x": "NaN"}',
    ),
}

NO_OBJECTS = {
    f"event as {raw[:20].decode()}": Odd(raw, rejected=NO_OBJECT)
    for raw in (
        *(
            b"17",
            b"1e999999",
            b'"text"',
            b"null",
            b"true",
            b"[]",
            b'[{"id": "a"}]',
            b"NaN",
            b"[" * 100_000 + b"]" * 100_000,
        ),
        *(b'{"id": "a",}', b'{"id": "a" "name": "b"}', b'{id: "a"}'),
    )
} | {"event empty": Odd(b"{}", rejected="no id")}
