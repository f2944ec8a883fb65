"""Every way in which a run can end badly: one clear sentence, what to do, and the exit code of its kind."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from psycopg2.extensions import make_dsn

from datasync_ingest.copying import READING_FACT
from datasync_ingest.ledger import Ledger
from datasync_ingest.simulator.process import SimulatorProcess
from tests.harness import Database, Ended, Workplace, kill, until
from tests.servers import password_server

Start = Callable[..., SimulatorProcess]


@dataclass
class Scene:
    """What a row of the table may set up: a finished ingest of 500 events, and what to change about it."""

    api: SimulatorProcess
    workplace: Workplace
    database: Database

    def run(self, *words: str, **environment: str) -> Ended:
        return self.workplace.ingest(
            *words, expect=None, timeout_s=100.0, **{"API_BASE_URL": self.api.url, **environment}
        )


@pytest.fixture
def scene(simulator: Start, workplace: Workplace, database: Database) -> Scene:
    return Scene(simulator(events=500), workplace, database)


def no_key(scene: Scene) -> Ended:
    return scene.run(TARGET_API_KEY="")


def wrong_key(scene: Scene) -> Ended:
    return scene.run(TARGET_API_KEY="wrong")


def no_server(scene: Scene) -> Ended:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return scene.run(API_BASE_URL=f"http://127.0.0.1:{free.getsockname()[1]}", API_PATIENCE="3s")


def wrong_path(scene: Scene) -> Ended:
    return scene.run(API_BASE_URL=scene.api.url.replace("/api/v1", "/nowhere/api/v1"))


def bad_url(scene: Scene) -> Ended:
    return scene.run(API_BASE_URL="ftp://somewhere")


def web_page(scene: Scene) -> Ended:
    with answering(200, b"<html><body>It works!</body></html>") as url:
        return scene.run(API_BASE_URL=url, API_PATIENCE="3s")


def redirect(scene: Scene) -> Ended:
    with answering(302, b"", Location="https://elsewhere.example/login") as url:
        return scene.run(API_BASE_URL=url)


def no_database(scene: Scene) -> Ended:
    return scene.run(DATABASE_URL="postgresql://me:hunter2@127.0.0.1:9/events", DB_PATIENCE="3s")


def no_such_database(scene: Scene) -> Ended:
    return scene.run(DATABASE_URL=make_dsn(scene.database.conninfo, dbname="no_such_database"))


def bad_database_url(scene: Scene) -> Ended:
    return scene.run(DATABASE_URL="postgresql://me:hunter2@[::1/events")


def no_rights(scene: Scene) -> Ended:
    return scene.run(DATABASE_URL=as_onlooker(scene))


def closed_schema(scene: Scene) -> Ended:
    conninfo = as_onlooker(scene)
    scene.database.query("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    return scene.run(DATABASE_URL=conninfo)


def as_onlooker(scene: Scene) -> str:
    """The test's database as a role without rights; roles belong to the whole server, so it may be there already."""
    exists = scene.database.query("SELECT 1 FROM pg_roles WHERE rolname = 'onlooker'")
    if not exists:
        scene.database.query("CREATE ROLE onlooker")
    return make_dsn(scene.database.conninfo, options="-c role=onlooker")


def unwritable_directory(scene: Scene) -> Ended:
    (scene.workplace.directory / "file").write_text("not a directory")
    return scene.run(DATA_DIR="file/data")


def another_api(scene: Scene) -> Ended:
    assert scene.run().code == 0
    port = parse_port(scene.api.url)
    return scene.run(API_BASE_URL=f"http://localhost:{port}")


def wiped_table(scene: Scene) -> Ended:
    assert scene.run().code == 0
    scene.database.query("TRUNCATE ingested_events")
    return scene.run()


def wiped_database(scene: Scene) -> Ended:
    assert scene.run().code == 0
    for table in ("events", "pages"):
        scene.database.query(f"DROP TABLE ingested_{table}")
    scene.database.query("DROP TABLE ingest_source, rejected_events, repaired_events")
    return scene.run()


def restored_backup(scene: Scene) -> Ended:
    assert scene.run("--batch-size", "100").code == 0
    scene.database.query("DELETE FROM ingested_pages WHERE sequence = 2")
    return scene.run()


def garbage_sidecar(scene: Scene) -> Ended:
    scene.workplace.ledger.parent.mkdir()
    scene.workplace.ledger.write_bytes(b"this is not a database" * 100)
    return scene.run()


def bad_flag(scene: Scene) -> Ended:
    return scene.run("--batch-size", "lots")


def unknown_flag(scene: Scene) -> Ended:
    return scene.run("--frehs")


def lasting_contradiction(scene: Scene) -> Ended:
    scene.api.options(fault=["no-cursor=1"])
    return scene.run("--batch-size", "100")


def nothing_ingested(scene: Scene) -> Ended:
    return scene.workplace.run("export-ids")


def export_of_an_unfinished_walk(scene: Scene) -> Ended:
    scene.api.options(total="off", latency_ms=50)
    process = scene.workplace.start("ingest", "--batch-size", "50", API_BASE_URL=scene.api.url)
    until(lambda: scene.workplace.completed_pages() >= 2, what="two pages")
    kill(process)
    return scene.workplace.run("export-ids")


def unwritable_export(scene: Scene) -> Ended:
    assert scene.run().code == 0
    return scene.workplace.run("export-ids", "-o", "no/such/directory/ids.txt")


# ending: (exit code, words of the sentence, words of what to do)
ENDINGS: dict[Callable[[Scene], Ended], tuple[int, str, str]] = {
    no_key: (2, "No API key", "TARGET_API_KEY="),
    wrong_key: (3, "The API refuses the key", "Check TARGET_API_KEY"),
    no_server: (3, "No page from http://127.0.0.1", "Check API_BASE_URL"),
    wrong_path: (3, "is not the events endpoint of this API: it answered 404", "Check API_BASE_URL"),
    bad_url: (2, "API_BASE_URL='ftp://somewhere' (from the environment)", "where the API is"),
    web_page: (3, "answers, and not as this API does", "Check API_BASE_URL"),
    redirect: (3, "a redirect to https://elsewhere.example/login", "Check API_BASE_URL"),
    no_database: (4, "PostgreSQL could not be reached for 3 s", "DATABASE_URL"),
    no_such_database: (4, 'database "no_such_database" does not exist', "DATABASE_URL"),
    bad_database_url: (4, "PostgreSQL refused the connection", "DATABASE_URL"),
    no_rights: (4, "permission denied for schema public", "rights"),
    closed_schema: (4, "permission denied for schema public", "rights"),
    unwritable_directory: (2, "cannot be used", "DATA_DIR"),
    another_api: (2, "belongs to http://127.0.0.1", "--adopt"),
    wiped_table: (2, "its pages inserted 500 events and the table holds 0", "--fresh"),
    wiped_database: (2, "another database", "--fresh"),
    restored_backup: (2, "1 of the 5 pages that the sidecar has marked are not in it", "--fresh"),
    garbage_sidecar: (2, "cannot be read: file is not a database", "rebuilt from the database"),
    bad_flag: (2, "--batch-size='lots' (from the command line)", "events per request"),
    unknown_flag: (2, "unrecognized arguments: --frehs", "usage"),
    lasting_contradiction: (3, "contradicts itself", "what was committed stays"),
    nothing_ingested: (5, "Nothing was ingested", "Run bin/ingest first"),
    export_of_an_unfinished_walk: (5, "The last walk has not come to its end", "--incomplete"),
    unwritable_export: (2, "cannot be written", "-o"),
}


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
def test_an_ending_is_a_sentence_a_hint_and_its_exit_code(ending: Callable[[Scene], Ended], scene: Scene) -> None:
    code, sentence, hint = ENDINGS[ending]
    ended = ending(scene)
    assert ended.code == code, ended.err
    assert sentence in ended.err
    assert hint in ended.err
    assert "Traceback" not in ended.err
    assert "hunter2" not in ended.err
    assert ended.out == ""


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_ends_in_mid_run_ends_the_run_resumably(
    status: int, simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=6_000, key_life=1, key_refused_status=status, latency_ms=100)
    ended = workplace.ingest("--batch-size", "100", API_BASE_URL=api.url, expect=3)
    assert "The API refuses the key" in ended.err
    assert "put a new one into TARGET_API_KEY" in ended.err
    there = database.value("SELECT count(*) FROM ingested_events")
    assert 0 < there < 6_000
    api.options(key_life=10_800, latency_ms=0)
    workplace.ingest("--batch-size", "100", API_BASE_URL=api.url)
    assert database.ids() == sorted(api.ids())


def test_a_moved_api_is_adopted_when_asked_for(scene: Scene) -> None:
    assert scene.run().code == 0
    moved = f"http://localhost:{parse_port(scene.api.url)}"
    with Ledger.open(scene.workplace.ledger.parent, purpose="a test") as ledger:
        ledger.keep(**{READING_FACT: {"since_inclusive": True, "until_inclusive": True}})
    assert scene.run("--adopt", API_BASE_URL=moved).code == 0
    with Ledger.open(scene.workplace.ledger.parent, purpose="a test") as ledger:
        assert ledger.fact(READING_FACT) is None, "bounds in time may mean something else there"
    assert scene.run(API_BASE_URL=moved).code == 0


@pytest.mark.parametrize("wipe", [wiped_table, wiped_database, restored_backup], ids=lambda wipe: wipe.__name__)
def test_fresh_puts_right_what_diverged(wipe: Callable[[Scene], Ended], scene: Scene) -> None:
    assert wipe(scene).code == 2
    ended = scene.run("--fresh")
    assert ended.code == 0, ended.err
    assert "set aside" in ended.err
    assert scene.database.ids() == sorted(scene.api.ids())
    assert scene.workplace.exported_ids() == sorted(scene.api.ids())


class Fresh(Workplace):
    """Each of its runs is to begin anew."""

    def ingest(self, *words: str, expect: int | None = 0, timeout_s: float = 100.0, **extra: str) -> Ended:
        return super().ingest("--fresh", *words, expect=expect, timeout_s=timeout_s, **extra)


@pytest.mark.parametrize("wrong", [no_database, no_such_database, no_rights], ids=lambda wrong: wrong.__name__)
def test_fresh_leaves_the_sidecar_alone_where_the_database_is_not_reached(
    wrong: Callable[[Scene], Ended], scene: Scene
) -> None:
    assert scene.run("--batch-size", "100").code == 0
    mistaken = Scene(scene.api, Fresh(scene.workplace.directory, scene.workplace.environment), scene.database)
    ended = wrong(mistaken)
    assert ended.code == 4, ended.err
    assert "set aside" not in ended.err
    assert [path.name for path in scene.workplace.ledger.parent.glob("ledger.sqlite3*")] == ["ledger.sqlite3"]
    assert scene.workplace.completed_pages() == 5
    assert scene.run().code == 0


def test_fresh_in_an_empty_data_directory_sets_nothing_aside(scene: Scene) -> None:
    ended = scene.run("--fresh")
    assert ended.code == 0, ended.err
    assert "set aside" not in ended.err
    assert [path.name for path in scene.workplace.ledger.parent.glob("ledger.sqlite3*")] == ["ledger.sqlite3"]


def test_fresh_leaves_the_books_of_another_source_alone(scene: Scene) -> None:
    assert scene.run("--batch-size", "100").code == 0
    other = f"http://localhost:{parse_port(scene.api.url)}"
    ended = scene.run("--fresh", API_BASE_URL=other, DATA_DIR="elsewhere")
    assert ended.code == 2
    assert "--adopt" in ended.err
    assert scene.database.value("SELECT count(*) FROM ingested_pages") == 5
    assert scene.run().code == 0


def test_a_lost_sidecar_is_rebuilt_from_the_database(scene: Scene) -> None:
    assert scene.run("--batch-size", "100").code == 0
    for path in scene.workplace.ledger.parent.glob("ledger.sqlite3*"):
        path.unlink()
    before = scene.api.counters()["counted"]["events"]
    ended = scene.run("--batch-size", "100")
    assert ended.code == 0
    assert "5 committed pages were not marked" in ended.err
    assert scene.api.counters()["counted"]["events"] == before + 1
    assert scene.database.ids() == sorted(scene.api.ids())


def test_a_wrong_password_is_refused_at_once(scene: Scene, tmp_path: Path) -> None:
    """The embedded server has no passwords, so a server on TCP with one is set up from its programs."""
    with password_server(tmp_path / "server") as conninfo:
        right, wrong = f"{conninfo} password=right", f"{conninfo} password=hunter2"
        assert scene.run(DATABASE_URL=right).code == 0
        ended = scene.run(DATABASE_URL=wrong, DATA_DIR="other")
    assert ended.code == 4
    assert "PostgreSQL refused the connection" in ended.err
    assert "Check user, password" in ended.err
    assert "hunter2" not in ended.err


def test_a_directory_without_write_permission_is_named(scene: Scene) -> None:
    (scene.workplace.directory / "closed").mkdir(mode=0o500)
    closed = "/proc/self/closed" if os.geteuid() == 0 else "closed/data"  # root may write everywhere but there
    ended = scene.run(DATA_DIR=closed)
    assert ended.code == 2
    assert "cannot be used" in ended.err
    assert "DATA_DIR" in ended.err


def parse_port(url: str) -> str:
    return url.split(":")[2].split("/")[0]


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """A web server that gives everybody the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
