"""Every statement that the program sends, held against what Citus refuses of a distributed `ingested_events`."""

from __future__ import annotations

import json
import re
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from datasync_ingest.events import decode_page
from datasync_ingest.messages import PageId, RawPage
from datasync_ingest.postgres.checking import look
from datasync_ingest.postgres.contents import contents
from datasync_ingest.postgres.ids import ids
from datasync_ingest.postgres.overview import overview
from datasync_ingest.postgres.pages import PageStore
from datasync_ingest.postgres.source import SourceDatabase
from datasync_ingest.postgres.writers import WRITERS
from tests.citus.rules import DISTRIBUTED, RULES, TEMPORARY, refused
from tests.citus.statements import parsed, relations, target
from tests.harness import TOP, Database, until

SCHEMA = "of_one_source"
WALK = str(uuid.UUID(int=11))
LOGGED = re.compile(r"^\S+ \S+ UTC \[\d+\] LOG:  statement: (.*(?:\n\t.*)*)", re.MULTILINE)
END = "the end of what is recorded"


class Recorder:
    """What the sessions on a database have sent, by the server's log."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._log = Path(database.value("SHOW data_directory")).parent / "log"
        self._begin = self._log.stat().st_size
        name = database.value("SELECT current_database()")
        database.query(f"ALTER DATABASE \"{name}\" SET log_statement = 'all'")

    def statements(self) -> list[str]:
        """Each distinct text, without what the test itself has sent."""
        self._database.query(f"SELECT '{END}'")
        text = until(self._text, what="the end of the log")
        found = [one.replace("\n\t", "\n") for one in LOGGED.findall(text)]
        return [one for one in dict.fromkeys(found) if END not in one]

    def _text(self) -> str:
        text = self._log.read_bytes()[self._begin :].decode()
        return text if END in text else ""


def page(sequence: int, *events: object) -> RawPage:
    body = json.dumps({"data": list(events), "hasMore": False}).encode()
    return RawPage(PageId(WALK, sequence), None, None, False, 10, len(events), None, None, None, None, None, body=body)


@pytest.fixture
def sent(database: Database) -> list[str]:
    """What all of the program's questions and writers send, each of them in all of its ways."""
    recorder = Recorder(database)
    conninfo = database.conninfo
    good = [{"id": f"id-{number}", "timestamp": 1_769_541_612_369, "type": "click"} for number in range(5)]
    odd = {"id": "odd", "timestamp": "yesterday"}
    with SourceDatabase(conninfo, schema=SCHEMA, patience_s=5, waiting=print) as source:
        source.lock()
        source.prepare("http://api")
        for number, insert in enumerate(WRITERS.values()):
            store = PageStore(conninfo, schema=SCHEMA, insert=insert, patience_s=5, application_name="recorded")
            with closing(store):
                for raw in (page(number, *good, odd, {"no": "id"}), page(10 + number, *good, {**odd, "id": number})):
                    store.commit(raw, decode_page(raw.body), waiting=print)
                longer = page(number, *good, odd, {"no": "id"}, {"id": f"more-{number}"})
                store.commit(longer, decode_page(longer.body), waiting=print)
        # as an earlier version left them, which understood less
        understood = '\'{"id": "x", "timestamp": 1769541612369}\''
        database.query(f"UPDATE {SCHEMA}.rejected_events SET raw = {understood} /* {END} */")
        database.query(f"UPDATE {SCHEMA}.repaired_events SET raw = {understood} /* {END} */")
        reread = source.reread()
        assert (reread.accepted, reread.mended) != (0, 0)
        assert source.identity() is not None
        assert source.pages()
        assert source.holdings().events
        source.adopt("http://moved")
        source.check()
        assert (
            b"".join(ids(conninfo, schema=SCHEMA, patience_s=5, waiting=print)).count(b"\n") == source.holdings().events
        )
        assert contents(conninfo, SCHEMA)
        assert overview(conninfo, schema=SCHEMA, patience_s=5, waiting=print)
        assert look(conninfo, schema=SCHEMA, patience_s=5, waiting=print).source == "http://moved"
        source.forget_pages()
    return recorder.statements()


def test_every_table_is_named_with_the_schema_that_is_set(sent: list[str]) -> None:
    named = {one for text in sent for kind, tree in parsed(text) for one in relations(kind, tree)}
    ours = {name for schema, name in named if schema == SCHEMA}
    assert ours == {"ingest_source", DISTRIBUTED, "ingested_pages", "rejected_events", "repaired_events"}
    others = {one for one in named if one[0] != SCHEMA and not one[1].startswith("pg_")}
    assert others == {("pg_temp", TEMPORARY)}


def test_all_ways_of_writing_were_recorded(sent: list[str]) -> None:
    seen = {(kind, target(tree)) for text in sent for kind, tree in parsed(text)}
    assert {
        ("create_stmt", DISTRIBUTED),
        ("create_stmt", TEMPORARY),
        ("insert_stmt", DISTRIBUTED),
        ("copy_stmt", DISTRIBUTED),
        ("copy_stmt", TEMPORARY),
        ("insert_stmt", "ingested_pages"),
        ("update_stmt", "ingested_pages"),
        ("delete_stmt", "ingested_pages"),
        ("insert_stmt", "rejected_events"),
        ("delete_stmt", "rejected_events"),
        ("insert_stmt", "repaired_events"),
        ("delete_stmt", "repaired_events"),
        ("update_stmt", "ingest_source"),
    } <= seen
    inserts = [text for text in sent if f'INSERT INTO "{SCHEMA}".{DISTRIBUTED}' in text]
    assert {"SELECT" in text for text in inserts} == {True, False}
    assert any("DO UPDATE" in text for text in inserts)


def test_nothing_that_is_sent_is_refused_by_citus(sent: list[str]) -> None:
    broken = {(text, *rule) for text in sent for rule in refused(text)}
    # Only where the table has pages on the coordinator, see `_borders` in ids.py, which goes on when it is refused.
    assert {rule for text, rule, _ in broken if "TABLESAMPLE" not in text} == set()
    assert {rule for _, rule, _ in broken} == {"no TABLESAMPLE"}


def test_the_ids_of_a_table_that_lies_elsewhere_are_told_without_a_sample(database: Database) -> None:
    """Partitions stand in for shards: the table has no pages of its own."""
    with SourceDatabase(database.conninfo, schema=SCHEMA, patience_s=5, waiting=print) as source:
        source.prepare("http://api")
    database.query(
        f'DROP TABLE {SCHEMA}.{DISTRIBUTED}; CREATE TABLE {SCHEMA}.{DISTRIBUTED} (id text COLLATE "C" PRIMARY KEY,'
        " session_id text, user_id text, type text, name text, properties jsonb, occurred_at timestamptz,"
        " device_type text, browser text, extra jsonb) PARTITION BY HASH (id)"
    )
    for number in range(4):
        database.query(
            f"CREATE TABLE {SCHEMA}.shard_{number} PARTITION OF {SCHEMA}.{DISTRIBUTED}"
            f" FOR VALUES WITH (MODULUS 4, REMAINDER {number})"
        )
    for number, insert in enumerate(WRITERS.values()):
        store = PageStore(database.conninfo, schema=SCHEMA, insert=insert, patience_s=5, application_name="shards")
        with closing(store):
            for sequence in (number, 10 + number):
                raw = page(sequence, *({"id": f"id-{one:05}"} for one in range(number * 500, number * 500 + 1000)))
                store.commit(raw, decode_page(raw.body), waiting=print)
    recorder = Recorder(database)
    told = b"".join(ids(database.conninfo, schema=SCHEMA, patience_s=5, waiting=print)).decode().splitlines()
    assert told == [f"id-{one:05}" for one in range(1500)]
    sent = recorder.statements()
    assert any("string_agg" in text for text in sent)
    assert [rule for text in sent for rule in refused(text)] == []


def test_a_table_that_was_filled_before_it_was_distributed_is_told_too(database: Database) -> None:
    """Its pages are still on the coordinator, and a sample of it is refused: here by a sampling method that does so."""
    name = database.value("SELECT current_database()")
    database.query(
        f'CREATE SCHEMA refusing; ALTER DATABASE "{name}" SET search_path = refusing, pg_catalog;'
        " CREATE FUNCTION refusing.system(internal) RETURNS tsm_handler LANGUAGE internal AS 'tsm_handler_in'"
    )
    with SourceDatabase(database.conninfo, schema=SCHEMA, patience_s=5, waiting=print) as source:
        source.prepare("http://api")
    database.query(f"INSERT INTO {SCHEMA}.{DISTRIBUTED} (id) SELECT 'id-' || n FROM generate_series(1000, 9999) AS n")
    told = b"".join(ids(database.conninfo, schema=SCHEMA, patience_s=5, waiting=print)).decode().splitlines()
    assert told == [f"id-{one}" for one in range(1000, 10_000)]


# What each rule refuses; {E} stands for the table.
BAD: dict[str, tuple[str, ...]] = {
    "a unique constraint or index has the distribution column among its columns": (
        "CREATE TABLE {E} (id text, n bigint PRIMARY KEY)",
        "CREATE TABLE {E} (id text PRIMARY KEY, name text UNIQUE)",
        "CREATE TABLE {E} (id text, n int, UNIQUE (n))",
        "ALTER TABLE {E} ADD UNIQUE (name)",
        "CREATE UNIQUE INDEX ON {E} (name)",
    ),
    "no foreign key joins a distributed and a local table": (
        "CREATE TABLE {E} (id text PRIMARY KEY, walk uuid REFERENCES ingested_pages)",
        "ALTER TABLE repaired_events ADD FOREIGN KEY (event_id) REFERENCES {E}",
    ),
    "the type of the distribution column stays": ("ALTER TABLE {E} ALTER COLUMN id TYPE uuid USING id::uuid",),
    "a sequence is of bigint": (
        "CREATE TABLE {E} (id text PRIMARY KEY, number serial)",
        "CREATE TABLE {E} (id text PRIMARY KEY, number int GENERATED ALWAYS AS IDENTITY)",
    ),
    "no trigger": ("CREATE TRIGGER t BEFORE INSERT ON {E} FOR EACH ROW EXECUTE FUNCTION f()",),
    "no rule": ("CREATE RULE r AS ON INSERT TO {E} DO NOTHING",),
    "it is no temporary, unlogged, inherited or partitioned table": (
        "CREATE UNLOGGED TABLE {E} (id text PRIMARY KEY)",
    ),
    "an INSERT gives the distribution column, and it is not NULL": (
        "INSERT INTO {E} (name) VALUES ('x')",
        "INSERT INTO {E} (name, id) VALUES ('x', 'y'), ('x', NULL)",
        "INSERT INTO {E} (id) VALUES (DEFAULT)",
    ),
    "the values of an INSERT hold no subquery": (
        "INSERT INTO {E} (id, name) VALUES ('x', (SELECT source FROM ingest_source))",
    ),
    "ON CONFLICT is about the distribution column": (
        "INSERT INTO {E} (id, name) VALUES ('x', 'y') ON CONFLICT (name) DO NOTHING",
    ),
    "nothing sets the distribution column of a row that is there": (
        "UPDATE {E} SET id = lower(id)",
        "INSERT INTO {E} (id) VALUES ('x') ON CONFLICT (id) DO UPDATE SET id = excluded.id",
    ),
    "UPDATE and DELETE call no volatile function, nor UPDATE a stable one": (
        "UPDATE {E} SET occurred_at = clock_timestamp()",
        "UPDATE {E} SET name = to_char(occurred_at, 'YYYY')",
        "DELETE FROM {E} WHERE random() < 0.5",
        "INSERT INTO {E} (id) VALUES ('x') ON CONFLICT (id) DO UPDATE SET name = random()",
    ),
    "a local table is not filled out of a distributed one": ("INSERT INTO ingested_pages (walk) SELECT id FROM {E}",),
    "MERGE has no local source": (
        "MERGE INTO {E} AS e USING staged_events AS s ON s.id = e.id WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)",
    ),
    "an INSERT ... SELECT returns nothing and has no CTE": (
        "INSERT INTO {E} (id) SELECT id FROM staged_events ON CONFLICT DO NOTHING RETURNING id",
        "WITH s AS (SELECT 'x' AS id) INSERT INTO {E} (id) SELECT id FROM s",
    ),
    "no TABLESAMPLE": ("SELECT id FROM {E} TABLESAMPLE SYSTEM (1)",),
    "no SELECT ... FOR UPDATE": ("SELECT id FROM {E} FOR UPDATE",),
    "no recursive and no modifying CTE": (
        "WITH RECURSIVE r AS (SELECT id FROM {E} UNION SELECT id FROM r) SELECT * FROM r",
        "WITH gone AS (DELETE FROM {E} RETURNING id) SELECT count(*) FROM gone",
    ),
    "grouping sets are over the rows of a materialized CTE": (
        "SELECT type, browser, count(*) FROM {E} GROUP BY GROUPING SETS ((type), (browser))",
        "SELECT type, count(*) FROM (SELECT type FROM {E}) AS t GROUP BY ROLLUP (type)",
    ),
    "a subquery over it stands in FROM, and does not look out": (
        "SELECT walk FROM repaired_events AS r WHERE EXISTS (SELECT FROM {E} WHERE id = r.event_id)",
        "SELECT * FROM repaired_events AS r, LATERAL (SELECT id FROM {E} WHERE id = r.event_id) AS e",
    ),
}
ROWS = [(rule, text.replace("{E}", DISTRIBUTED)) for rule, texts in BAD.items() for text in texts]


@pytest.mark.parametrize(("rule", "text"), ROWS, ids=[text for _, text in ROWS])
def test_a_rule_refuses_what_it_is_about(rule: str, text: str) -> None:
    assert [name for name, _ in refused(f"{text}; SELECT 1")] == [rule]


def test_every_rule_has_a_statement_that_it_refuses_and_a_place_that_says_so() -> None:
    assert set(BAD) == set(RULES)
    assert all(source.startswith("https://docs.citusdata.com/") for source, _ in RULES.values())
    assert f"against {len(RULES)} rules" in (TOP / "README.md").read_text(encoding="utf-8")
