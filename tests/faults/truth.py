"""The exact comparison: every id, every column of every event, and the books, against what the simulator served."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from itertools import chain
from typing import Any

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from datasync_ingest.events import EventRow, Rows, decode_page, fallback_rows
from datasync_ingest.postgres.copy_text import copy_text
from datasync_ingest.tolerant import read_id

_COLUMNS = ", ".join(EventRow._fields)
_VERSIONS = "CREATE TEMPORARY TABLE versions (LIKE ingested_events) ON COMMIT DROP"
_INSERT = f"INSERT INTO versions ({_COLUMNS}) VALUES %s"
_CHANGED = """
    SELECT row_to_json(e)::text, (SELECT string_agg(row_to_json(v)::text, ' or ') FROM versions v WHERE v.id = e.id)
    FROM ingested_events e
    WHERE NOT EXISTS (SELECT FROM versions v WHERE v.id = e.id AND ROW(v.*) IS NOT DISTINCT FROM ROW(e.*))
    LIMIT 1
"""
# What must be 0 or empty -> the query.
_BOOKS = {
    "pages whose books do not balance": (
        "SELECT walk, sequence FROM ingested_pages WHERE received <> inserted + already_there + rejected"
    ),
    "inserted by the pages' books, and in the table": (
        "SELECT booked, there FROM (SELECT coalesce(sum(inserted), 0) AS booked FROM ingested_pages) AS pages,"
        " (SELECT count(*) AS there FROM ingested_events) AS events WHERE booked <> there"
    ),
    "pages whose rejected events are not those of their books": (
        "SELECT walk, sequence FROM ingested_pages AS page WHERE rejected <>"
        " (SELECT count(*) FROM rejected_events AS kept WHERE (kept.walk, kept.sequence) = (page.walk, page.sequence))"
    ),
    "pages whose repaired events are not those of their books": (
        "SELECT walk, sequence FROM ingested_pages AS page WHERE repaired <>"
        " (SELECT count(*) FROM repaired_events AS kept WHERE (kept.walk, kept.sequence) = (page.walk, page.sequence))"
    ),
}


Load = Callable[[Cursor, Rows], None]


@dataclass(frozen=True)
class Truth:
    """Every event as it is without faults, newest first, and every form in which one was served damaged."""

    events: Sequence[dict[str, Any]]
    damaged: Sequence[tuple[str, bytes]]

    @cached_property
    def ids(self) -> list[str]:
        return sorted(str(event["id"]) for event in self.events)

    @cached_property
    def rows(self) -> Rows:
        """Of all events."""
        return decode_page(json.dumps({"data": list(self.events)}, separators=(",", ":")).encode()).rows


def by_values(cursor: Cursor, rows: Rows) -> None:
    execute_values(cursor, _INSERT, rows, page_size=1000)


def by_copy(cursor: Cursor, rows: Rows) -> None:
    """Several times as fast."""
    cursor.copy_expert(f"COPY versions ({_COLUMNS}) FROM STDIN", BytesIO(copy_text(rows)))


def first_difference(truth: Truth, exported: Sequence[str], conninfo: str, *, load: Load = by_values) -> str | None:
    """None where nothing is missing, twice or changed and the books balance; else the first thing that is wrong.

    `load` brings the truth into PostgreSQL, which is better not done by the writer that is compared.
    """
    with closing(psycopg2.connect(conninfo)) as connection, connection.cursor() as cursor:
        try:
            return next(_differences(truth, exported, cursor, load), None)
        finally:
            connection.rollback()


def _differences(truth: Truth, exported: Sequence[str], cursor: Cursor, load: Load) -> Iterator[str]:
    yield from _wrong_ids(truth, exported, _rejected_ids(truth, cursor))
    cursor.execute("SELECT id FROM ingested_events ORDER BY id")
    if [row[0] for row in cursor.fetchall()] != list(exported):
        yield "the exported ids are not those of the table"
    for what, query in _BOOKS.items():
        cursor.execute(query)
        if found := cursor.fetchone():
            yield f"{what}: {found}"
    cursor.execute("SELECT raw FROM rejected_events")
    served = {text for _, text in truth.damaged}
    unknown = [bytes(row[0]) for row in cursor.fetchall() if bytes(row[0]) not in served]
    if unknown:
        yield f"rejected, but never served: {unknown[0][:2000]!r}"
    yield from _changed_events(truth, cursor, load)


def _rejected_ids(truth: Truth, cursor: Cursor) -> set[str]:
    """The true ids of the events that were rejected."""
    cursor.execute("SELECT raw FROM rejected_events")
    rejected = {bytes(row[0]) for row in cursor.fetchall()}
    return {event_id for event_id, text in truth.damaged if text in rejected}


def _wrong_ids(truth: Truth, exported: Sequence[str], rejected: set[str]) -> Iterator[str]:
    if len(set(exported)) != len(exported):
        yield f"{len(exported) - len(set(exported))} ids were exported twice"
    missing = sorted(set(truth.ids) - set(exported) - rejected)
    if missing:
        yield f"{len(missing)} events are missing, the first is {missing[0]}"
    strange = sorted(set(exported) - set(truth.ids))
    if strange:
        yield f"{len(strange)} ids were never served, the first is {strange[0]}"


def _changed_events(truth: Truth, cursor: Cursor, load: Load) -> Iterator[str]:
    cursor.execute(_VERSIONS)
    load(cursor, truth.rows)
    for _, text in truth.damaged:
        _insert_damaged(cursor, text)
    cursor.execute("CREATE INDEX ON versions (id); ANALYZE versions")
    cursor.execute(_CHANGED)
    if found := cursor.fetchone():
        yield f"changed: the table has {found[0][:2000]}\nand was served {str(found[1])[:4000]}"


def _insert_damaged(cursor: Cursor, text: bytes) -> None:
    """The row of a damaged event, or the first of those that stand for it where PostgreSQL refuses that."""
    event_id = read_id(text)
    if event_id is None:
        return
    for row in chain(decode_page(b'{"data":[' + text + b"]}").rows, fallback_rows(text, event_id)):
        cursor.execute("SAVEPOINT damaged")
        try:
            execute_values(cursor, _INSERT, [row])
        except (psycopg2.Error, ValueError):
            cursor.execute("ROLLBACK TO SAVEPOINT damaged")
            continue
        return
