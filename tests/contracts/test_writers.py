"""One body over every writer: what a page's transaction must do, whichever way its rows are inserted."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import cursor as Cursor

from datasync_ingest.events import Rows, decode_page
from datasync_ingest.messages import CompletedPage, Counts, PageId, Position, RawPage
from datasync_ingest.postgres.pages import PageStore, Written
from datasync_ingest.postgres.source import SourceDatabase
from datasync_ingest.postgres.writers import DEFAULT_WRITER, WRITERS
from datasync_ingest.settings import PUBLIC
from tests.harness import Database, balanced

WALK = str(uuid.UUID(int=7))


def event(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"id-{number:06}",
        "sessionId": "s",
        "userId": "u",
        "type": "click",
        "name": "n",
        "properties": {"page": "/home"},
        "timestamp": 1_769_541_612_369 - number,
        "session": {"id": "s", "deviceType": "mobile", "browser": "Chrome"},
        **fields,
    }


def page(sequence: int, events: list[dict[str, Any]]) -> RawPage:
    return RawPage(
        PageId(WALK, sequence),
        cursor=None,
        next_cursor="next",
        ends_walk=False,
        limit=100,
        received=len(events),
        after=None,
        first=Position(5, "first"),
        last=Position(None, "last"),
        total=None,
        request_id=None,
        body=json.dumps({"data": events, "hasMore": True, "nextCursor": "next"}).encode(),
    )


@pytest.fixture(params=WRITERS)
def new_store(request: pytest.FixtureRequest, database: Database) -> Iterator[Callable[[], PageStore]]:
    """Makes stores that use one of the writers; the schema is there."""
    stores: list[PageStore] = []
    with SourceDatabase(database.conninfo, schema=PUBLIC, patience_s=5, waiting=print) as source:
        source.prepare("http://api")

    def make() -> PageStore:
        stores.append(
            PageStore(
                database.conninfo,
                schema=PUBLIC,
                insert=WRITERS[request.param],
                patience_s=10,
                application_name="contract",
            )
        )
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def commit(store: PageStore, raw: RawPage) -> Written:
    return store.commit(raw, decode_page(raw.body), waiting=lambda _: None)


def test_rows_and_page_are_there_after_the_commit(new_store: Callable[[], PageStore], database: Database) -> None:
    written = commit(new_store(), page(0, [event(n) for n in range(100)]))
    assert written == Written(Counts(received=100, inserted=100), repeated=False)
    assert database.value("SELECT count(*) FROM ingested_events") == 100
    row = database.query(
        "SELECT session_id, user_id, type, name, properties, device_type, browser, extra,"
        " extract(epoch FROM occurred_at) * 1000 FROM ingested_events WHERE id = 'id-000001'"
    )[0]
    assert row == ("s", "u", "click", "n", {"page": "/home"}, "mobile", "Chrome", None, 1_769_541_612_368)
    stored = database.query(
        "SELECT received, inserted, already_there, rejected, first_position, last_position FROM ingested_pages"
    )
    assert stored == [(100, 100, 0, 0, "5:first", "-:last")]


def test_a_repeated_page_changes_nothing_and_gives_the_stored_counts(
    new_store: Callable[[], PageStore], database: Database
) -> None:
    raw = page(0, [event(n) for n in range(10)])
    first = commit(new_store(), raw)
    database.query("DELETE FROM ingested_events WHERE id = 'id-000003'")
    again = commit(new_store(), raw)
    assert again == Written(first.counts, repeated=True)
    assert database.value("SELECT count(*) FROM ingested_events") == 9


def test_another_page_under_the_same_identity_is_written_too(
    new_store: Callable[[], PageStore], database: Database
) -> None:
    """The commit of a killed run that arrives late, after the next run has asked for the place with another limit."""
    commit(new_store(), page(0, [event(n) for n in range(5)] + [{"no": "id"}]))
    written = commit(new_store(), page(0, [event(n) for n in range(10)]))
    assert written == Written(Counts(received=10, inserted=10), repeated=False), "the books are those of both commits"
    assert database.value("SELECT count(*) FROM ingested_events") == 10
    assert database.query("SELECT received, inserted, already_there, rejected FROM ingested_pages") == [(10, 10, 0, 0)]
    assert database.value("SELECT count(*) FROM rejected_events") == 0


def test_a_part_of_the_page_under_the_same_identity_leaves_the_books_as_they_are(
    new_store: Callable[[], PageStore], database: Database
) -> None:
    commit(new_store(), page(0, [event(n) for n in range(10)] + [{"no": "id"}]))
    assert commit(new_store(), page(0, [event(n) for n in range(5)])).counts == Counts(received=5, already_there=5)
    assert commit(new_store(), page(1, [event(n) for n in range(5, 15)])).counts.inserted == 5
    assert database.value("SELECT sum(inserted) FROM ingested_pages") == 15
    assert database.value("SELECT count(*) FROM rejected_events") == 1


def test_a_page_that_an_earlier_run_has_under_way_is_rolled_back_before_the_next_run_reads_the_books(
    new_store: Callable[[], PageStore], database: Database
) -> None:
    """Its COMMIT may be held up on its way, and arrive at any time."""
    seen: list[list[CompletedPage]] = []

    def insert(cursor: Cursor, rows: Rows) -> int:
        if not seen:
            source.lock()
            seen.append(source.pages())
        return WRITERS[DEFAULT_WRITER](cursor, rows)

    new_store()  # the schema is there
    earlier = PageStore(database.conninfo, schema=PUBLIC, insert=insert, patience_s=10, application_name="earlier")
    with SourceDatabase(database.conninfo, schema=PUBLIC, patience_s=5, waiting=print) as source, closing(earlier):
        waits: list[str] = []
        raw = page(0, [event(n) for n in range(10)])
        earlier.commit(raw, decode_page(raw.body), waiting=waits.append)
        assert len(waits) == 1, "its connection is lost, and it writes the page once more"
        source.check()
    assert seen == [[]]


def test_events_that_are_there_count_as_already_there(new_store: Callable[[], PageStore], database: Database) -> None:
    store = new_store()
    commit(store, page(0, [event(n) for n in range(10)]))
    written = commit(store, page(1, [event(n) for n in range(5, 15)] + [event(14)]))
    assert written.counts == Counts(received=11, inserted=5, already_there=6)
    assert database.value("SELECT count(*) FROM ingested_events") == 15


def test_the_first_version_of_an_event_stays(new_store: Callable[[], PageStore], database: Database) -> None:
    store = new_store()
    commit(store, page(0, [event(1, name="first")]))
    commit(store, page(1, [event(1, name="second")]))
    assert database.value("SELECT name FROM ingested_events") == "first"


def test_an_empty_page_is_a_page(new_store: Callable[[], PageStore], database: Database) -> None:
    assert commit(new_store(), page(0, [])).counts == Counts()
    assert database.value("SELECT count(*) FROM ingested_pages") == 1


def test_events_without_a_usable_id_go_to_the_rejects_byte_for_byte(
    new_store: Callable[[], PageStore], database: Database
) -> None:
    nameless = {"type": "click", "name": "ünïcode"}
    written = commit(new_store(), page(3, [event(1), nameless, event(2), event(3, id=None)]))
    assert written.counts == Counts(received=4, inserted=2, rejected=2)
    rows = database.query("SELECT walk::text, sequence, position, raw FROM rejected_events ORDER BY position")
    assert [row[:3] for row in rows] == [(WALK, 3, 1), (WALK, 3, 3)]
    assert json.loads(bytes(rows[0][3])) == nameless


def test_a_row_that_postgresql_refuses_is_isolated_and_keeps_its_id(
    new_store: Callable[[], PageStore], database: Database
) -> None:
    database.query(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.name = 'poison' THEN RAISE EXCEPTION 'refused' USING ERRCODE = '22P02'; END IF; RETURN NEW; END $$"
    )
    database.query("CREATE TRIGGER refuse BEFORE INSERT ON ingested_events FOR EACH ROW EXECUTE FUNCTION refuse()")
    events = [event(n) for n in range(50)]
    events[17]["name"] = events[33]["name"] = "poison"
    written = commit(new_store(), page(0, events))
    assert written.counts == Counts(received=50, inserted=50, repaired=2)
    assert database.value("SELECT count(*) FROM ingested_events") == 50
    rows = database.query("SELECT position, event_id, reason, raw FROM repaired_events ORDER BY position")
    assert [(row[0], row[1]) for row in rows] == [(17, "id-000017"), (33, "id-000033")]
    assert all("22P02" in row[2] for row in rows)
    assert json.loads(bytes(rows[0][3])) == events[17]
    assert database.query("SELECT name, type FROM ingested_events WHERE id = 'id-000017'") == [(None, None)]


def test_a_row_that_is_refused_in_every_form_is_rejected(
    new_store: Callable[[], PageStore], database: Database
) -> None:
    database.query(
        "ALTER TABLE ingested_events ADD COLUMN guard int GENERATED ALWAYS AS (1 / (id <> 'id-000002')::int) STORED"
    )
    written = commit(new_store(), page(0, [event(n) for n in range(5)]))
    assert written.counts == Counts(received=5, inserted=4, rejected=1)
    ((position, reason),) = database.query("SELECT position, reason FROM rejected_events")
    assert (position, "22012" in reason) == (2, True)


def test_a_lost_connection_is_made_again_and_the_page_is_written_once(
    new_store: Callable[[], PageStore], database: Database
) -> None:
    store = new_store()
    commit(store, page(0, [event(1)]))
    database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'contract'")
    causes: list[str] = []
    raw = page(1, [event(2)])
    written = store.commit(raw, decode_page(raw.body), waiting=causes.append)
    assert written.counts == Counts(received=1, inserted=1)
    assert causes


def test_workers_that_meet_on_the_same_events_neither_deadlock_nor_repeat(
    new_store: Callable[[], PageStore], database: Database
) -> None:
    events = [event(n) for n in range(400)]
    results: list[Written] = []

    def work(first: int) -> None:
        store = new_store()
        for sequence in range(first, 20, 4):
            ordered = events if sequence % 2 else events[::-1]
            results.append(commit(store, page(sequence, ordered)))

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 20
    assert sum(written.counts.inserted for written in results) == 400
    assert all(written.counts.balanced for written in results)


def test_an_event_commits_with_its_page_or_not_at_all(new_store: Callable[[], PageStore], database: Database) -> None:
    database.query("ALTER TABLE ingested_pages ADD CONSTRAINT no_more CHECK (sequence < 1)")
    store = new_store()
    commit(store, page(0, [event(1)]))
    with pytest.raises(Exception, match="no_more"):
        commit(store, page(1, [event(2)]))
    assert database.ids() == ["id-000001"]
    names = ("received", "inserted", "already_there", "rejected")
    for row in database.query(f"SELECT {', '.join(names)} FROM ingested_pages"):
        assert balanced(dict(zip(names, row, strict=True)))


def test_the_session_commits_durably(new_store: Callable[[], PageStore], database: Database) -> None:
    store = new_store()
    with closing(psycopg2.connect(database.conninfo)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(f'ALTER DATABASE "{connection.info.dbname}" SET synchronous_commit = off')
    database.query("CREATE TABLE seen AS SELECT current_setting('synchronous_commit') AS setting WHERE false")
    database.query(
        "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$"
    )
    database.query("CREATE TRIGGER look BEFORE INSERT ON ingested_pages FOR EACH ROW EXECUTE FUNCTION look()")
    commit(store, page(0, [event(1)]))
    assert database.query("SELECT setting FROM seen") == [("on",)]
