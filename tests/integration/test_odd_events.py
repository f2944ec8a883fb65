"""Every odd event of the table through a real PostgreSQL: no page fails, and what is read back is as the table says."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import cursor as Cursor

from datasync_ingest.api import envelope
from datasync_ingest.events import EventRow, decode_page
from datasync_ingest.messages import Counts, PageId, RawPage
from datasync_ingest.postgres.pages import PageStore
from datasync_ingest.postgres.source import SourceDatabase
from datasync_ingest.postgres.writers import WRITERS
from datasync_ingest.settings import PUBLIC
from tests.harness import Database
from tests.odd_events import ODD_EVENTS, Odd, comparable

WALK = str(uuid.UUID(int=9))
REFUSED = "PostgreSQL refused the row: 22003 value overflows numeric format"
MOMENT = """to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
ROW = f"id, session_id, user_id, type, name, properties::text, {MOMENT}, device_type, browser, extra::text"


@dataclass
class Books:
    """A database with its store, fed with bodies as the API sends them."""

    database: Database
    store: PageStore
    cursor: Cursor
    sequence: int = 0

    def commit(self, *events: bytes) -> Counts:
        body = b'{"data": [' + b", ".join(events) + b'], "hasMore": true, "nextCursor": "next"}'
        found = envelope.read(body)
        page = RawPage(
            PageId(WALK, self.sequence),
            cursor=None,
            next_cursor=found.next_cursor,
            ends_walk=False,
            limit=5000,
            received=found.received,
            after=None,
            first=found.first,
            last=found.last,
            total=None,
            request_id=None,
            body=body,
        )
        self.sequence += 1
        return self.store.commit(page, decode_page(body), waiting=pytest.fail).counts

    def rows(self) -> dict[str, EventRow]:
        self.cursor.execute(f"SELECT {ROW} FROM ingested_events")
        return {row[0]: EventRow(*row) for row in self.cursor}

    def set_aside(self, table: str) -> dict[tuple[int, int], tuple[str, bytes]]:
        """Reason and bytes by sequence and position, of `rejected_events` or `repaired_events`."""
        self.cursor.execute(f"SELECT sequence, position, reason, raw FROM {table}")
        return {(sequence, position): (reason, bytes(raw)) for sequence, position, reason, raw in self.cursor}

    def forget(self) -> None:
        """All events; of so few, DELETE is done sooner than TRUNCATE."""
        self.cursor.execute("DELETE FROM ingested_events; DELETE FROM rejected_events; DELETE FROM repaired_events")


@pytest.fixture(params=WRITERS)
def books(request: pytest.FixtureRequest, database: Database) -> Iterator[Books]:
    with SourceDatabase(database.conninfo, schema=PUBLIC, patience_s=5, waiting=print) as source:
        source.prepare("http://api")
    store = PageStore(
        database.conninfo, schema=PUBLIC, insert=WRITERS[request.param], patience_s=10, application_name="odd events"
    )
    with closing(psycopg2.connect(database.conninfo)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        yield Books(database, store, cursor)
    store.close()


def as_stored(odd: Odd) -> Odd:
    return replace(odd, repaired=REFUSED) if odd.passed_on else odd


def expected_counts(*odds: Odd) -> Counts:
    rejected = sum(odd.rejected is not None for odd in odds)
    repaired = sum(odd.repaired is not None for odd in odds)
    return Counts(received=len(odds), inserted=len(odds) - rejected, rejected=rejected, repaired=repaired)


def differing(found: dict[Any, Any], expected: dict[Any, Any]) -> dict[Any, tuple[Any, Any]]:
    """What differs, so that a failure shows the two or three that do and not all that do not."""
    return {
        key: (found.get(key), expected.get(key))
        for key in found.keys() | expected.keys()
        if found.get(key) != expected.get(key)
    }


@pytest.mark.long
def test_each_odd_event_alone_is_stored_as_the_table_says(books: Books) -> None:
    for name, odd in ODD_EVENTS.items():
        stored = as_stored(odd)
        assert books.commit(odd.raw) == expected_counts(stored), name
        place = (books.sequence - 1, 0)
        rows = {event_id: comparable(row) for event_id, row in books.rows().items()}
        expected = {} if odd.row is None else {odd.row.id: comparable(odd.row)}
        assert differing(rows, expected) == {}, name
        rejected = {} if stored.rejected is None else {place: (stored.rejected, odd.raw)}
        repaired = {} if stored.repaired is None else {place: (stored.repaired, odd.raw)}
        assert differing(books.set_aside("rejected_events"), rejected) == {}, name
        assert differing(books.set_aside("repaired_events"), repaired) == {}, name
        books.forget()


@pytest.mark.long
def test_all_odd_events_in_one_page_are_stored_as_the_table_says(books: Books) -> None:
    odds = [as_stored(numbered(odd, number)) for number, odd in enumerate(ODD_EVENTS.values())]
    clean = b'{"id": "clean", "name": "n"}'
    counts = books.commit(clean, *(odd.raw for odd in odds))
    assert counts == expected_counts(*odds) + Counts(received=1, inserted=1)
    rows = {event_id: comparable(row) for event_id, row in books.rows().items()}
    assert rows.pop("clean").name == "n"
    assert differing(rows, {odd.row.id: comparable(odd.row) for odd in odds if odd.row}) == {}
    places = {(0, position): odd for position, odd in enumerate(odds, 1)}
    rejected = {place: (odd.rejected, odd.raw) for place, odd in places.items() if odd.rejected}
    repaired = {place: (odd.repaired, odd.raw) for place, odd in places.items() if odd.repaired}
    assert differing(books.set_aside("rejected_events"), rejected) == {}
    assert differing(books.set_aside("repaired_events"), repaired) == {}


def numbered(odd: Odd, number: int) -> Odd:
    """The same with an id of its own, where it has the table's common one."""
    if odd.columns.get("id") != "odd":
        return odd
    event_id = f"odd-{number}"
    return replace(
        odd, raw=odd.raw.replace(b'"odd"', f'"{event_id}"'.encode()), columns={**odd.columns, "id": event_id}
    )


def test_what_a_smaller_server_refuses_costs_the_json_alone(books: Books) -> None:
    """`max_stack_depth` is the server's: ours holds 1,000 levels, the smallest one does not."""
    with closing(psycopg2.connect(books.database.conninfo)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE \"{connection.info.dbname}\" SET max_stack_depth = '100kB'")
    deep = b'{"id": "deep", "name": "n", "properties": ' + b"[" * 900 + b"]" * 900 + b', "x": 1}'
    counts = books.commit(b'{"id": "a", "properties": {"page": "/"}}', deep, b'{"id": "b", "x": 1}')
    assert counts == Counts(received=3, inserted=3, repaired=1)
    rows = books.rows()
    assert (rows["a"].properties, rows["b"].extra) == ('{"page": "/"}', '{"x": 1}')
    assert rows["deep"] == EventRow("deep", None, None, None, "n", None, None, None, None, None)
    reason, raw = books.set_aside("repaired_events")[0, 1]
    assert (reason, raw) == ("PostgreSQL refused the row: 54001 stack depth limit exceeded", deep)


def test_odd_ids_at_the_ends_of_a_page_do_not_fail_its_books(books: Books) -> None:
    odd_ids = [b'{"id": "\\u0000"}', b'{"id": "\\ud800"}', b'{"id": "\xff"}', b"NaN", b'{"id": 7}']
    for raw in odd_ids:
        books.commit(raw)
    positions = books.database.query("SELECT first_position, last_position FROM ingested_pages ORDER BY sequence")
    assert positions == [(None, None)] * 4 + [("-:7", "-:7")]
