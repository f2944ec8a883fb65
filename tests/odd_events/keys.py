"""What tells one event from another, and when it was: ids and timestamps."""

from __future__ import annotations

from tests.odd_events.outcome import BAD_ID, BEYOND, CUT, LONG_ID, NO_TIME, NO_WORD, TYPE_OF_ID, Odd, kept

MOMENT = "2026-01-27T19:20:12.369Z"


def _identified(raw_id: str | bytes, kept_id: str, /) -> Odd:
    raw = raw_id if isinstance(raw_id, bytes) else raw_id.encode()
    return Odd(b'{"id": ' + raw + b', "name": "n"}', {"id": kept_id, "name": "n"})


def _unidentified(raw_id: bytes, reason: str, /) -> Odd:
    return Odd(b'{"id": ' + raw_id + b', "name": "n"}', rejected=reason)


def _at(value: str, moment: str = MOMENT) -> Odd:
    return kept(f'"timestamp": {value}', occurred_at=moment)


def _never(value: str) -> Odd:
    """A timestamp that is none: its original is in `extra`."""
    return kept(f'"timestamp": {value}', NO_TIME, extra=f'{{"timestamp": {value}}}')


IDS = {
    "id of text": _identified('"a b"', "a b"),
    "id with blanks around": _identified('" a "', " a "),
    "id in Unicode": _identified('"żółć-😀"', "żółć-😀"),
    "id in escapes": _identified(r'"\u017c\ud83d\ude00\/"', "ż😀/"),
    "id key in escapes": Odd(rb'{"\u0069d": "odd"}', {"id": "odd"}),
    "id as integer": _identified("17", "17"),
    "id as negative integer": _identified("-17", "-17"),
    "id as negative zero": _identified("-0", "0"),
    "id as integer past 64 bits": _identified("123456789012345678901234567890", "123456789012345678901234567890"),
    "id as integer of 1,000 digits": _identified("1" * 1000, "1" * 1000),
    "id as integer of 1,001 digits": _unidentified(b"1" * 1001, LONG_ID),
    "id as integer of 5,000 digits": _unidentified(b"1" * 5000, LONG_ID),
    "id as integer with a leading zero": _unidentified(b"017", TYPE_OF_ID),
    "id as whole float": _unidentified(b"17.0", TYPE_OF_ID),
    "id as float": _unidentified(b"17.5", TYPE_OF_ID),
    "id as power": _unidentified(b"1e3", TYPE_OF_ID),
    "id as NaN": _unidentified(b"NaN", TYPE_OF_ID),
    "id as bool": _unidentified(b"true", TYPE_OF_ID),
    "id as list": _unidentified(b'["a"]', TYPE_OF_ID),
    "id as object": _unidentified(b'{"id": "a"}', TYPE_OF_ID),
    "id null": _unidentified(b"null", "no id"),
    "id missing": Odd(b'{"name": "n"}', rejected="no id"),
    "id empty": _unidentified(b'""', "the id is empty"),
    "id with a line break": _unidentified(rb'"a\nb"', BAD_ID),
    "id with a raw line break": _unidentified(b'"a\nb"', BAD_ID),
    "id with DEL": _unidentified(b'"a\x7f"', BAD_ID),
    "id with a C1 control": _unidentified(rb'"a\u0085"', BAD_ID),
    "id with U+0000": _unidentified(rb'"a\u0000"', BAD_ID),
    "id with a lone surrogate": _unidentified(rb'"a\ud800"', BAD_ID),
    "id with invalid UTF-8": _unidentified(b'"a\xff"', BAD_ID),
    "id with an invalid escape": _unidentified(rb'"\x41"', BAD_ID),
    "id of 1,000 bytes": _identified('"' + "x" * 1000 + '"', "x" * 1000),
    "id of 1,001 bytes": _unidentified(b'"' + b"x" * 1001 + b'"', LONG_ID),
    "id of 500 letters, 1,000 bytes": _identified('"' + "ż" * 500 + '"', "ż" * 500),
    "id of 501 letters, 1,002 bytes": _unidentified(('"' + "ż" * 501 + '"').encode(), LONG_ID),
    "id twice": Odd(b'{"id": "first", "id": "odd"}', {"id": "odd"}),
    "id twice, the last one null": Odd(b'{"id": "first", "id": null}', rejected="no id"),
}

TIMESTAMPS = {
    "timestamp in ms": _at("1769541612369"),
    "timestamp in ms as text": _at('"1769541612369"'),
    "timestamp in ms as float": _at("1769541612369.0"),
    "timestamp in ms as power": _at("1.769541612369e12"),
    "timestamp in ms with decimals": _at("1769541612369.25", "2026-01-27T19:20:12.369250Z"),
    "timestamp in s": _at("1769541612", "2026-01-27T19:20:12Z"),
    "timestamp in s with decimals": _at("1769541612.369"),
    "timestamp in s with decimals as text": _at('"1769541612.369"'),
    "timestamp in us": _at("1769541612369000"),
    "timestamp in us as text": _at('"1769541612369123"', "2026-01-27T19:20:12.369123Z"),
    "timestamp 0": _at("0", "1970-01-01T00:00:00Z"),
    "timestamp as the API spells it": _at(f'"{MOMENT}"'),
    "timestamp without decimals": _at('"2026-01-27T19:20:12Z"', "2026-01-27T19:20:12Z"),
    "timestamp without seconds": _at('"2026-01-27T19:20Z"', "2026-01-27T19:20:00Z"),
    "timestamp in microseconds": _at('"2026-01-27T19:20:12.369123Z"', "2026-01-27T19:20:12.369123Z"),
    "timestamp with an offset": _at('"2026-01-27T20:20:12.369+01:00"'),
    "timestamp with a short offset": _at('"2026-01-27T13:50:12.369-0530"'),
    "timestamp with a blank": _at('"2026-01-27 19:20:12.369+00"'),
    "timestamp in escapes": _at(r'"2026\u002d01-27T19:20:12.369Z"'),
    "timestamp of 1970": _at('"1970-01-01T00:00:00.000Z"', "1970-01-01T00:00:00Z"),
    "timestamp of 9999": _at('"9999-12-31T23:59:59.999Z"', "9999-12-31T23:59:59.999Z"),
    "timestamp of 1969": _never('"1969-12-31T23:59:59.999Z"'),
    "timestamp of 10000": _never('"10000-01-01T00:00:00Z"'),
    "timestamp without offset": _never('"2026-01-27T19:20:12.369"'),
    "timestamp without time": _never('"2026-01-27"'),
    "timestamp of no such day": _never('"2026-02-30T00:00:00.000Z"'),
    "timestamp in ns": _never("1769541612369000000"),
    "timestamp finer than us": _never("1769541612369.0000000000000001"),
    "timestamp finer than us as text": _never('"2026-01-27T19:20:12.3691234Z"'),
    "timestamp negative": _never("-1"),
    "timestamp past 64 bits": _never("123456789012345678901234567890"),
    "timestamp 1e999999": kept(
        '"timestamp": 1e999999', f"{NO_TIME}; extra {BEYOND}", extra='{"timestamp": "1e999999"}'
    ),
    "timestamp NaN": kept('"timestamp": NaN', f"{NO_TIME}; extra {NO_WORD}", extra='{"timestamp": "NaN"}'),
    "timestamp as a word": _never('"yesterday"'),
    "timestamp empty": _never('""'),
    "timestamp as bool": _never("true"),
    "timestamp as list": _never("[1769541612369]"),
    "timestamp as object": _never('{"$date": 1769541612369}'),
    "timestamp with U+0000": kept(
        r'"timestamp": "1769541612369\u0000"', f"{NO_TIME}; extra {CUT}", extra=r'{"timestamp": "1769541612369\ufffd"}'
    ),
    "timestamp null": kept('"timestamp": null'),
    "ts in the place of timestamp": kept('"ts": 1769541612369', occurred_at=MOMENT),
    "ts beside a timestamp of null": kept('"timestamp": null, "ts": 1769541612369', occurred_at=MOMENT),
    "ts null": kept('"ts": null'),
    "ts unreadable": kept('"ts": "yesterday"', NO_TIME, extra='{"ts": "yesterday"}'),
    "ts and timestamp": kept('"timestamp": 1769541612369, "ts": 17', occurred_at=MOMENT, extra='{"ts": 17}'),
    "ts and an unreadable timestamp": kept(
        '"timestamp": "soon", "ts": 1769541612369', NO_TIME, extra='{"timestamp": "soon", "ts": 1769541612369}'
    ),
}
