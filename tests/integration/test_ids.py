"""All ids as a stream, out of a real PostgreSQL that may stop answering."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from datasync_ingest.postgres import ids as ids_module
from datasync_ingest.postgres.connection import connect
from datasync_ingest.postgres.ids import ids
from datasync_ingest.postgres.source import SourceDatabase
from datasync_ingest.settings import PUBLIC
from tests.harness import Database, until
from tests.pools import waiting_backends

ODD = ["\\" * 9, "\\", "a\\\\b", "\\N", "\\.", "caf\u00e9", "x y"]


@pytest.fixture
def conninfo(database: Database) -> str:
    with SourceDatabase(database.conninfo, schema=PUBLIC, patience_s=5, waiting=print) as source:
        source.prepare("http://test/api/v1")
    database.query(
        "INSERT INTO ingested_events (id) SELECT 'id-' || lpad(n::text, 6, '0') FROM generate_series(1, 999) n"
    )
    database.query("INSERT INTO ingested_events (id) SELECT unnest(%s)", ODD)
    return database.conninfo


def expected_ids() -> list[bytes]:
    return sorted(line.encode() for line in [*ODD, *(f"id-{number:06}" for number in range(1, 1000))])


def blocks(conninfo: str) -> closing[Generator[bytes, None, None]]:
    return closing(ids(conninfo, schema=PUBLIC, patience_s=5, waiting=print))


def reading() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read ids"]


class AlarmError(Exception):
    """Raised by the signal handler."""


@contextmanager
def alarm(after_s: float) -> Iterator[None]:
    def handler(*_: object) -> None:
        raise AlarmError

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, after_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("ids_in_a_block", [1, 1006, 1007, 10_000])  # there are 1,006
def test_every_id_goes_by_once_sorted_and_as_it_was_spelled(
    ids_in_a_block: int, conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids_module, "_IDS_IN_A_BLOCK", ids_in_a_block)
    with blocks(conninfo) as found:
        taken = list(found)
    assert all(block.endswith(b"\n") for block in taken)
    assert b"".join(taken).splitlines() == expected_ids()


def test_two_connections_read_what_one_moment_holds(
    conninfo: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids_module, "_IDS_IN_A_BLOCK", 1)
    with blocks(conninfo) as found:
        first = next(found)
        until(lambda: len(reading()) == 2, what="the second connection's thread")
        database.query("DELETE FROM ingested_events WHERE id > 'id-000500'")
        database.query("INSERT INTO ingested_events (id) SELECT 'id-000900.' || n FROM generate_series(1, 99) n")
        lines = (first + b"".join(found)).splitlines()
    assert lines == expected_ids()


@pytest.mark.parametrize("refused", ["connection", "snapshot", "export"])
def test_one_connection_reads_alone_where_no_second_can(
    refused: str, conninfo: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids_module, "_IDS_IN_A_BLOCK", 1)
    if refused == "connection":
        nowhere = make_dsn(conninfo, host="127.0.0.1", port=1)
        monkeypatch.setattr(ids_module, "connect", lambda _, **options: connect(nowhere, **options))
    elif refused == "snapshot":
        monkeypatch.setattr(ids_module, "_OF_THE_SNAPSHOT", "SELECT 1; SET TRANSACTION SNAPSHOT %s")
    else:
        monkeypatch.setattr(ids_module, "_SNAPSHOT", "SELECT a_function_that_is_not_there()")
    with blocks(conninfo) as found:
        assert b"".join(found).splitlines() == expected_ids()


def test_a_signal_ends_the_wait_for_a_database_that_does_not_answer(conninfo: str, database: Database) -> None:
    with closing(psycopg2.connect(conninfo)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE ingested_events IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        with pytest.raises(AlarmError), alarm(1), blocks(conninfo) as found:
            next(found)
        assert time.monotonic() - began < 10, "PostgreSQL's lock_timeout is 60 s"
        assert waiting_backends(database), "it was waited for"
    until(lambda: not reading(), what="the end of the thread, now that the database answers")


def test_a_thread_whose_blocks_nobody_takes_any_more_ends(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids_module, "_IDS_IN_A_BLOCK", 1)
    with blocks(conninfo) as found:
        next(found)
        assert reading()
    until(lambda: not reading(), what="the end of the thread")
