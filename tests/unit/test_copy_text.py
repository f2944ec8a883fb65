"""Rows in COPY's text format: every value comes back as it went in."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasync_ingest.events import decode_page
from datasync_ingest.postgres.copy_text import copy_text
from datasync_ingest.rows import EventRow, Rows

VALUES = st.one_of(st.none(), st.text(st.sampled_from('a\\tN\n\r\t"é'), max_size=8))
ROWS = st.lists(st.tuples(VALUES.filter(bool), *[VALUES] * (len(EventRow._fields) - 1)), max_size=6)
_MEANING = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}


def read(text: bytes) -> list[tuple[str | None, ...]]:
    """As PostgreSQL reads it."""
    lines = text.decode().split("\n")
    assert lines.pop() == ""
    return [tuple(value(column) for column in line.split("\t")) for line in lines]


def value(column: str) -> str | None:
    return None if column == "\\N" else re.sub(r"\\.", lambda escape: _MEANING[escape[0]], column)


@given(ROWS)
def test_every_value_comes_back(rows: list[tuple[str | None, ...]]) -> None:
    assert read(copy_text(Rows.of(map(EventRow._make, rows)))) == sorted(rows, key=lambda row: str(row[0]))


def test_no_rows_are_no_bytes() -> None:
    assert copy_text(Rows.of([])) == b""


@pytest.mark.parametrize(
    ("name", "properties", "is_plain"),
    [
        ("name", '{"a":"b"}', True),
        ("name", '{"a":\n\t"b"}', False),
        ("name", '{"a":"b\\\\c\\u0041"}', False),
        ("line\tand\r\nline\\", "null", False),
    ],
)
def test_a_page_is_plain_only_where_nothing_is_escaped(name: str, properties: str, is_plain: bool) -> None:
    page = f'{{"data":[{{"id":"b"}},{{"id":"a","name":{json.dumps(name)},"properties":{properties}}}]}}'
    rows = decode_page(page.encode()).rows
    assert rows.is_plain == is_plain
    assert read(copy_text(rows)) == list(rows)
    assert (rows[0].name, rows[0].properties) == (name, None if properties == "null" else properties)
