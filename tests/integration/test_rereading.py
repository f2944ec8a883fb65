"""What an older version rejected or repaired, read once more by this one; the books of the pages stay balanced."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import psycopg2
import pytest

from datasync_ingest.events import decode_page
from datasync_ingest.messages import PageId, RawPage
from datasync_ingest.postgres.pages import PageStore
from datasync_ingest.postgres.rereading import Reread
from datasync_ingest.postgres.source import SourceDatabase
from datasync_ingest.postgres.writers import DEFAULT_WRITER, WRITERS
from datasync_ingest.settings import PUBLIC
from tests.harness import Database

WALK = str(uuid.UUID(int=3))
GOOD = {"id": "good", "name": "kept", "timestamp": 1_769_541_612_369}
KNOWN = {"id": "known"}
ODD = {"id": "odd", "timestamp": "yesterday"}
COUNTS = "SELECT received, inserted, already_there, rejected, repaired FROM ingested_pages"


@pytest.fixture
def source(database: Database) -> Iterator[SourceDatabase]:
    with SourceDatabase(database.conninfo, schema=PUBLIC, patience_s=5, waiting=print) as opened:
        opened.prepare("http://api")
        yield opened


@pytest.fixture
def page(source: SourceDatabase, database: Database) -> None:
    """A page of one good event and four that cannot be read."""
    events = [KNOWN, *[{"no": "id"}] * 4]
    body = json.dumps({"data": events, "hasMore": False}).encode()
    raw = RawPage(PageId(WALK, 0), None, None, True, 5, 5, None, None, None, None, None, body=body)
    store = PageStore(
        database.conninfo,
        schema=PUBLIC,
        insert=WRITERS[DEFAULT_WRITER],
        patience_s=5,
        application_name="test",
        sleep=lambda _: None,
    )
    store.commit(raw, decode_page(body), waiting=print)
    store.close()
    assert database.query(COUNTS) == [(5, 1, 0, 4, 0)]


def as_an_older_version_left_it(database: Database, position: int, event: object) -> None:
    raw = psycopg2.Binary(json.dumps(event).encode())
    database.query("UPDATE rejected_events SET raw = %s WHERE position = %s", raw, position)


@pytest.mark.usefixtures("page")
def test_rejected_events_that_can_be_read_now_get_their_rows(source: SourceDatabase, database: Database) -> None:
    for position, event in [(1, GOOD), (2, KNOWN), (3, ODD)]:
        as_an_older_version_left_it(database, position, event)
    assert source.reread() == Reread(accepted=3, mended=0)
    assert database.ids() == ["good", "known", "odd"]
    assert database.query(COUNTS) == [(5, 3, 1, 1, 1)]
    assert database.query("SELECT position FROM rejected_events") == [(4,)]
    assert database.query("SELECT position, event_id FROM repaired_events") == [(3, "odd")]
    assert source.reread() == Reread(accepted=0, mended=0), "what is still odd stays, and is counted once"
    assert database.query(COUNTS) == [(5, 3, 1, 1, 1)]


@pytest.mark.usefixtures("page")
def test_repaired_events_that_need_no_repair_now_get_their_values(source: SourceDatabase, database: Database) -> None:
    as_an_older_version_left_it(database, 1, ODD)
    source.reread()
    raw = psycopg2.Binary(json.dumps({**ODD, "timestamp": 1_769_541_612_369}).encode())
    database.query("UPDATE repaired_events SET raw = %s", raw)
    assert source.reread() == Reread(accepted=0, mended=1)
    assert database.value("SELECT count(*) FROM repaired_events") == 0
    row = database.query("SELECT extract(epoch FROM occurred_at) * 1000, extra FROM ingested_events WHERE id = 'odd'")
    assert row == [(1_769_541_612_369, {"timestamp": "yesterday"})], "filled in; what was kept beside it stays"
    assert database.query(COUNTS) == [(5, 2, 0, 3, 0)]


@pytest.mark.usefixtures("page")
def test_what_postgresql_refuses_stays_among_the_rejected(source: SourceDatabase, database: Database) -> None:
    database.query(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'refused' USING ERRCODE = '22P02'; END $$"
    )
    database.query("CREATE TRIGGER refuse BEFORE INSERT ON ingested_events FOR EACH ROW EXECUTE FUNCTION refuse()")
    as_an_older_version_left_it(database, 1, GOOD)
    assert source.reread() == Reread(accepted=0, mended=0)
    assert database.query(COUNTS) == [(5, 1, 0, 4, 0)]
