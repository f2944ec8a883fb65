"""Several sources in one database, each in a schema of its own: what the README shows, run as it stands there."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from datasync_ingest.simulator.process import SimulatorProcess
from tests.harness import API_KEY, TOP, Database, Workplace, alive, clean_environment, family, until

Start = Callable[..., SimulatorProcess]

README = (TOP / "README.md").read_text(encoding="utf-8")
SECTION = README.split("\n## Many sources\n")[1].split("\n## ")[0]
(LOOP,) = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
SOURCES = {"acme": 700, "globex": 800, "initech": 900}  # events
TABLES = "SELECT count(*) FROM information_schema.tables WHERE table_schema = %s AND table_name ~ 'ingest|events'"


class Sources:
    """The folders of the README's example: `bin` beside `sources`, and a `.env` for each source."""

    def __init__(self, top: Path, database: Database, apis: dict[str, SimulatorProcess]) -> None:
        self.top = top
        self.database = database
        self.apis = apis
        self._shared = {"DATABASE_URL": database.conninfo, "BATCH_SIZE": "100"}
        (top / "bin").mkdir()
        for command in ("ingest", "export-ids"):
            script = top / "bin" / command
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m datasync_ingest {command} "$@"\n')
            script.chmod(0o755)
        for name, api in apis.items():
            folder = top / "sources" / name
            folder.mkdir(parents=True)
            own = f"TARGET_API_KEY={API_KEY}\nDB_SCHEMA={name}\nAPI_BASE_URL={api.url}\n"
            (folder / ".env").write_text(own)

    def begin_loop(self) -> subprocess.Popen[str]:
        words = ["sh", "-c", LOOP]
        return subprocess.Popen(
            words,
            cwd=self.top,
            env=clean_environment(**self._shared),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def loop(self) -> tuple[int, str]:
        process = self.begin_loop()
        out, _ = process.communicate(timeout=200)
        return process.returncode, out

    def workplace(self, name: str, **more: str) -> Workplace:
        return Workplace(self.top / "sources" / name, {**self._shared, **more})

    def ids(self, name: str) -> list[str]:
        return [row[0] for row in self.database.query(f"SELECT id FROM {name}.ingested_events ORDER BY id")]

    def require_exact(self) -> None:
        for name, api in self.apis.items():
            truth = sorted(api.ids())
            assert self.ids(name) == truth
            assert (self.top / "sources" / name / "event_ids.txt").read_text().splitlines() == truth
            (row,) = self.database.query(f"SELECT source FROM {name}.ingest_source")
            assert row[0].startswith(api.url)
            unbalanced = f"SELECT count(*) FROM {name}.ingested_pages WHERE received <> inserted + already_there"
            assert self.database.value(unbalanced) == 0
            assert self.database.value(f"SELECT sum(inserted) FROM {name}.ingested_pages") == len(truth)


@pytest.fixture
def sources(tmp_path: Path, database: Database, simulator: Start) -> Sources:
    apis = {name: simulator(events=events, seed=events) for name, events in SOURCES.items()}
    return Sources(tmp_path, database, apis)


@pytest.mark.long
@pytest.mark.timeout(240)
def test_the_loop_of_the_readme_fills_three_schemas_at_once_and_every_command_means_its_own(sources: Sources) -> None:
    code, out = sources.loop()
    assert code == 0, out
    assert sorted(out.splitlines()) == [f"sources/{name}/ ended with exit code 0" for name in SOURCES]
    sources.require_exact()
    assert sources.database.value(TABLES, "public") == 0, "nothing is where nobody asked for it"
    assert "Complete." in (sources.top / "sources/acme/summary.txt").read_text()

    seen = json.loads(sources.workplace("globex").run("status", "--json").out)
    assert (seen["database"]["events"], seen["database"]["belongs_to_sidecar"]) == (SOURCES["globex"], True)
    page = sources.workplace("initech").run("report", "-o", "-").out
    assert f"{SOURCES['initech']:,}" in page
    counted = sources.workplace("acme").run("psql", "-At", "-c", "SELECT count(*) FROM ingested_events")
    assert counted.out == f"{SOURCES['acme']}\n", counted.err

    before = [sources.ids(name) for name in ("globex", "initech")], asked(sources, "globex")
    ended = sources.workplace("acme").ingest("--fresh", "--retry-rejected")
    assert re.search(r"already there +700\n", ended.out)
    assert before == ([sources.ids(name) for name in ("globex", "initech")], asked(sources, "globex"))

    another(sources)


def asked(sources: Sources, name: str) -> object:
    pages = sources.database.query(f"SELECT * FROM {name}.ingested_pages ORDER BY walk, sequence")
    return sources.apis[name].counters(), pages


def another(sources: Sources) -> None:
    """A data directory and the schema of another."""
    for command, words in (("ingest", ()), ("export-ids", ("-o", "-"))):
        ended = sources.workplace("acme").run(command, *words, "--schema", "globex")
        assert (ended.code, ended.out) == (2, ""), ended.err
        sentence = "belongs to" if command == "ingest" else "was filled into the schema acme, and this is globex"
        assert sentence in ended.err
    repository = "https://github.com/owner/repo"
    held = sources.workplace("acme").run("submit", "--github-repo", repository, "--yes", "--schema", "globex")
    assert (held.code, "was filled into the schema acme" in held.err) == (2, True), held.err
    moved = sources.workplace("acme").run("ingest", "--schema", "unheard_of")
    assert moved.code == 2
    assert "this data directory was filled into the schema acme, and this is unheard_of" in moved.err
    assert sources.database.value("SELECT to_regnamespace('unheard_of') IS NULL"), "nothing was made for it"
    unheard_of = sources.workplace("acme").run("status", "--schema", "unheard_of")
    assert "This data directory was filled into the schema acme, and this is unheard_of." in unheard_of.out
    seen = sources.workplace("acme").run("status", "--schema", "globex")
    assert "schema globex" in seen.out
    assert "It is another database than the one that the sidecar belongs to." in seen.out
    told = sources.workplace("acme").run("report", "-o", "-", "--schema", "globex")
    assert "This data directory was filled into the schema acme, and this is globex." in told.out
    assert sources.ids("globex") == sorted(sources.apis["globex"].ids())


@pytest.mark.timeout(240)
def test_ctrl_c_stops_all_of_the_loop_in_order_and_the_same_lines_go_on(sources: Sources) -> None:
    for api in sources.apis.values():
        api.options(latency_ms=1500)
    process = sources.begin_loop()
    begun = [sources.workplace(name) for name in SOURCES]
    until(lambda: all(one.completed_pages() >= 2 for one in begun), what="pages of all three")
    everybody = family(process)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    until(lambda: not alive(everybody), what="the end of all of them")
    assert not (sources.top / "sources/acme/event_ids.txt").exists()
    assert all("Stopped by SIGINT" in (one.directory / "log.txt").read_text() for one in begun)
    for api in sources.apis.values():
        api.options(latency_ms=0)
    code, out = sources.loop()
    assert code == 0, out
    sources.require_exact()


def test_without_the_right_to_make_a_schema_one_that_is_there_will_do(
    tmp_path: Path, database: Database, simulator: Start
) -> None:
    database.query("CREATE ROLE somebody NOLOGIN")
    try:
        conninfo = make_dsn(database.conninfo, options="-c role=somebody")
        workplace = Workplace(tmp_path, {"TARGET_API_KEY": API_KEY, "DATABASE_URL": conninfo, "DB_SCHEMA": "given"})
        workplace.environment["API_BASE_URL"] = simulator(events=200).url
        refused = workplace.ingest(expect=4)
        assert "The schema given is not there, and may not be made by this user: permission denied" in refused.err
        assert "CREATE SCHEMA given AUTHORIZATION" in refused.err
        checked = workplace.run("quick-test", "--yes")
        assert (checked.code, "has no schema given and does not let this user make one" in checked.out) == (4, True)
        database.query("CREATE SCHEMA given AUTHORIZATION somebody")
        checked = workplace.run("quick-test", "--yes")
        assert "schema given), where the tables can be made" in checked.out
        workplace.ingest()
        assert database.value("SELECT count(*) FROM given.ingested_events") == 200
    finally:
        database.query("DROP OWNED BY somebody CASCADE; DROP ROLE somebody")


def test_a_second_run_is_kept_out_of_its_own_schema_alone(
    workplace: Workplace, database: Database, simulator: Start, tmp_path: Path
) -> None:
    api = simulator(events=300)
    workplace.environment["API_BASE_URL"] = api.url
    key = "SELECT pg_advisory_lock(hashtextextended('busy', 1684108385))"
    holder = psycopg2.connect(database.conninfo)
    try:
        with holder.cursor() as cursor:
            cursor.execute(key)
        kept_out = workplace.ingest("--schema", "busy", expect=6)
        assert "Another run is writing into this database, in the schema busy." in kept_out.err
        workplace.ingest("--schema", "free")
    finally:
        holder.close()
    assert database.value("SELECT count(*) FROM free.ingested_events") == 300


def test_neither_a_search_path_nor_a_reserved_word_leads_elsewhere(
    workplace: Workplace, database: Database, simulator: Start
) -> None:
    database.query(
        "CREATE SCHEMA decoy; CREATE TABLE decoy.ingested_events (id text); CREATE TABLE decoy.ingest_source ()"
    )
    database.query(f'ALTER DATABASE "{database.value("SELECT current_database()")}" SET search_path = decoy')
    workplace.environment["API_BASE_URL"] = simulator(events=250).url
    ended = workplace.ingest()
    assert "warning: the tables in the schema decoy, to which the search path leads, are not used" in ended.err
    workplace.environment["DATA_DIR"] = "other"
    workplace.ingest("--schema", "user", "--writer", "copy")
    assert database.value("SELECT count(*) FROM public.ingested_events") == 250
    assert database.value('SELECT count(*) FROM "user".ingested_events') == 250
    assert database.value("SELECT count(*) FROM decoy.ingested_events") == 0
    counted = workplace.run("psql", "-At", "-c", "SELECT count(*) FROM ingested_events", DB_SCHEMA="user")
    assert counted.out == "250\n", counted.err


def test_what_an_earlier_version_made_where_the_search_path_led_is_named(
    workplace: Workplace, database: Database, simulator: Start
) -> None:
    """It knew no schema, and its sidecar tells of none."""
    workplace.environment["API_BASE_URL"] = simulator(events=200).url
    workplace.ingest("--schema", "of_the_user")
    with closing(sqlite3.connect(workplace.ledger)) as ledger, ledger:
        ledger.execute("DELETE FROM facts WHERE name = 'schema'")
    database.query(f'ALTER DATABASE "{database.value("SELECT current_database()")}" SET search_path = of_the_user')
    for command, words in (("ingest", ()), ("export-ids", ("-o", "-"))):
        ended = workplace.run(command, *words)
        assert ended.code == 2
        assert "this data directory was filled into the schema of_the_user, and this is public" in ended.err
    assert database.value("SELECT to_regclass('public.ingest_source') IS NULL")
    workplace.environment["DB_SCHEMA"] = "of_the_user"
    workplace.ingest()
    assert len(workplace.exported_ids()) == 200
