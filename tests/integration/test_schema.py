"""The schema of an earlier version is brought up to date by the run that finds it."""

from __future__ import annotations

from datasync_ingest.postgres.preparing import SCHEMA_VERSION
from datasync_ingest.postgres.source import SourceDatabase
from datasync_ingest.settings import PUBLIC
from tests.harness import Database

VERSION_1 = """
    ALTER TABLE ingested_pages DROP COLUMN sweep, DROP COLUMN since_ms, DROP COLUMN until_ms;
    UPDATE ingest_source SET schema_version = 1;
    INSERT INTO ingested_pages (walk, sequence, ends_walk, page_limit, received, inserted, already_there, rejected,
                                repaired)
    VALUES ('00000000-0000-0000-0000-000000000001', 0, true, 5, 1, 0, 0, 1, 0);
    INSERT INTO rejected_events (walk, sequence, position, reason, raw)
    VALUES ('00000000-0000-0000-0000-000000000001', 0, 0, 'it has no id', '{}');
"""


def test_a_schema_of_the_first_version_gets_what_it_lacks(database: Database) -> None:
    with SourceDatabase(database.conninfo, schema=PUBLIC, patience_s=5, waiting=print) as source:
        identity = source.prepare("http://api")
        database.query(VERSION_1)
        assert source.holdings().rejected == 1, "who only reads need not wait for that"
        assert source.prepare("http://api") == identity
        (page,) = source.pages()
        assert page.window is None
    assert database.value("SELECT schema_version FROM ingest_source") == SCHEMA_VERSION
