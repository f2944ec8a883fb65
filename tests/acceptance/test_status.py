"""`bin/status` as a person uses it: before, during and after a run, watched, with whatever is broken."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import psycopg2
import pytest

from datasync_ingest.ledger.reading import LedgerView, seen
from datasync_ingest.simulator.process import SimulatorProcess
from tests.harness import API_KEY, Database, Workplace, clean_environment, kill, until
from tests.servers import EmbeddedUser, query, reachable_folder

Start = Callable[..., SimulatorProcess]

pytestmark = pytest.mark.timeout(60)


def at(workplace: Workplace, database: str) -> Workplace:
    """The same, with another database if one is named."""
    return replace(workplace, environment={**workplace.environment, **({"DATABASE_URL": database} if database else {})})


def status(workplace: Workplace, *, expect: int = 0, database: str = "") -> dict[str, Any]:
    ended = at(workplace, database).run("status", "--json")
    assert ended.code == expect, ended.err
    assert ended.err == ""
    found: dict[str, Any] = json.loads(ended.out)
    return found


def shown(workplace: Workplace, *words: str, expect: int = 0, database: str = "") -> str:
    ended = at(workplace, database).run("status", *words)
    assert ended.code == expect, ended.err
    assert ended.err == ""
    return ended.out


@contextmanager
def slow_run(workplace: Workplace, simulator: Start, *words: str) -> Iterator[subprocess.Popen[str]]:
    """An ingest of 200 pages of 50 events, of which at least three are committed; it takes 20 s if nobody ends it."""
    api = simulator(events=10_000, latency_ms=100)
    process = workplace.start("ingest", "--batch-size", "50", *words, API_BASE_URL=api.url)
    try:
        until(lambda: workplace.completed_pages() >= 3, what="three pages")
        yield process
    finally:
        kill(process)


def test_before_anything_was_ingested_it_says_so_and_makes_nothing(workplace: Workplace) -> None:
    out = shown(workplace)
    assert "Nothing was ingested into" in out
    assert "Nothing was ingested into it yet." in out, "the database"
    found = status(workplace)
    assert (found["run"], found["sidecar"], found["progress"]) == (None, None, None)
    assert not (workplace.directory / "data").exists()


def test_a_run_is_told_while_it_runs(workplace: Workplace, simulator: Start) -> None:
    with slow_run(workplace, simulator) as process:
        found = until(lambda: (now := status(workplace))["progress"]["left_s"] and now, what="a time left")
        assert found["run"]["state"] == "active"
        assert f"(process {process.pid}, since " in found["holder"]
        progress = found["progress"]
        assert 150 <= progress["events"] < 10_000
        assert progress["total"] == 10_000
        assert progress["rate"] > 0
        assert found["key"]["is_ours"]
        assert 10_000 < found["key"]["left_s"] <= 10_800
        assert found["sidecar"]["walks"] == {"active": 1}
        assert found["database"]["events"] >= 150
        assert "is active: bin/ingest" in shown(workplace)
        assert process.poll() is None
    assert "was killed" in shown(workplace)
    assert status(workplace)["run"]["state"] == "killed"


def test_a_finished_run_is_told_with_what_it_left(workplace: Workplace, simulator: Start, database: Database) -> None:
    api = simulator(events=500, fault=["wrong-type=0.05", "long-id=0.02"])
    workplace.ingest("--batch-size", "100", API_BASE_URL=api.url, expect=None)
    assert workplace.run("export-ids", "--incomplete").code == 0
    found = status(workplace)
    held = found["database"]
    assert found["run"]["state"] == "ended"
    assert found["run"]["exit_code"] == 0
    assert held["events"] == database.value("SELECT count(*) FROM ingested_events")
    assert sum(held["by_type"].values()) == sum(held["by_day"].values()) == held["events"]
    assert sum(held["rejected"].values()) == database.value("SELECT count(*) FROM rejected_events")
    assert held["repaired_events"] == database.value("SELECT count(*) FROM repaired_events") > 0
    assert held["belongs_to_sidecar"]
    assert found["sidecar"]["export"]["ids"] == held["events"]
    out = shown(workplace)
    assert re.search(r"ended at .* exit code 0: complete\.", out)
    assert "last export" in out
    assert API_KEY not in out
    assert "\x1b" not in out


def test_a_garbage_and_a_half_copied_sidecar_are_named_and_the_table_is_told_all_the_same(
    workplace: Workplace, simulator: Start
) -> None:
    workplace.ingest("--batch-size", "100", API_BASE_URL=simulator(events=500).url)
    whole = workplace.ledger.read_bytes()
    for content in (b"this is not a database" * 100, whole[: len(whole) // 2]):
        workplace.ledger.write_bytes(content)
        out = shown(workplace, expect=2)
        assert f"The sidecar {workplace.ledger} cannot be read" in out
        assert "copy it again" in out
        assert "500" in out
        found = status(workplace, expect=2)
        assert found["sidecar"]["exit_code"] == 2
        assert found["database"]["events"] == 500


def test_a_copy_made_in_mid_run_is_read_or_named(workplace: Workplace, simulator: Start) -> None:
    with slow_run(workplace, simulator):
        (workplace.directory / "copy").mkdir()
        for path in workplace.ledger.parent.glob("ledger.sqlite3*"):
            shutil.copy(path, workplace.directory / "copy")
        ended = workplace.run("status", DATA_DIR="copy")
    assert ended.code in (0, 2)
    assert "Traceback" not in ended.err
    assert "was killed" in ended.out or "cannot be read" in ended.out


def test_a_database_that_is_down_or_locked_or_not_ours_is_named_and_the_sidecar_is_told(
    workplace: Workplace, simulator: Start, database: Database
) -> None:
    workplace.ingest(API_BASE_URL=simulator(events=500).url)
    down = "postgresql://me:hunter2@127.0.0.1:9/events"
    out = shown(workplace, expect=4, database=down)
    assert "The database does not answer" in out
    assert "500 of 500 events" in out
    assert "hunter2" not in out
    assert status(workplace, expect=4, database=down)["database"]["exit_code"] == 4
    unreadable = "postgresql://me:hunter2@[::1/events"
    for words in ((), ("--json",)):
        out = shown(workplace, *words, expect=4, database=unreadable)
        assert "PostgreSQL refused the connection" in out
        assert "hunter2" not in out
    with closing(psycopg2.connect(database.conninfo)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE repaired_events IN ACCESS EXCLUSIVE MODE")
        found = status(workplace)["database"]
    assert found["events"] == 500
    assert found["repaired"] is None
    assert any("locked" in sentence for sentence in found["untold"])
    database.query("UPDATE ingest_source SET database_id = gen_random_uuid()")
    assert not status(workplace)["database"]["belongs_to_sidecar"]


def test_a_run_commits_while_somebody_reads_its_sidecar(workplace: Workplace, simulator: Start) -> None:
    def read(view: LedgerView) -> int:
        (before,) = view.rows("SELECT count(*) FROM pages")[0]
        until(lambda: workplace.completed_pages() >= before + 3, what="three pages more")
        assert view.rows("SELECT count(*) FROM pages") == [(before,)]
        return int(before)

    with slow_run(workplace, simulator) as process:
        assert seen(workplace.ledger.parent, read)
        assert process.poll() is None


def test_no_ingest_is_refused_because_somebody_watches(workplace: Workplace, simulator: Start) -> None:
    api = simulator(events=50)
    watchers = [workplace.start("status", "--watch", "0.2", "--json") for _ in range(2)]
    try:
        for _ in range(4):
            workplace.ingest(API_BASE_URL=api.url)
    finally:
        for watcher in watchers:
            watcher.send_signal(signal.SIGINT)
    for watcher in watchers:
        out, err = watcher.communicate(timeout=30)
        assert (watcher.returncode, err) == (130, "")
        states = [(json.loads(line)["run"] or {}).get("state") for line in out.splitlines()]
        assert "ended" in states


def test_off_a_terminal_a_watch_prints_blocks_until_it_is_stopped(workplace: Workplace) -> None:
    process = workplace.start("status", "--watch", "0.2s")
    assert process.stdout is not None
    heads = 0
    while heads < 3:
        heads += process.stdout.readline().startswith("No run is active.")
    process.terminate()
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (143, "")
    assert "\x1b" not in out


def test_on_a_terminal_a_watch_draws_in_place_until_ctrl_c(workplace: Workplace) -> None:
    terminal, inside = pty.openpty()
    process = subprocess.Popen(
        workplace.arguments("status", "--watch", "0.2"),
        cwd=workplace.directory,
        env=clean_environment(TERM="xterm", COLUMNS="40", LINES="8", **workplace.environment),
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    os.close(inside)
    text = ""
    while text.count("\x1b[J") < 2:
        text += os.read(terminal, 4096).decode()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    os.close(terminal)
    drawn = re.split(r"\x1b\[\d+F\x1b\[J", text)[1].splitlines()
    assert len(drawn) <= 7
    assert all(len(re.sub(r"\x1b\[[\d;]*m", "", line)) < 40 for line in drawn)
    assert "more lines than fit" in drawn[-1]


@pytest.mark.parametrize("words", [["--watch", "often"], ["--watch", "0"]])
def test_an_interval_that_cannot_be_is_refused(words: list[str], workplace: Workplace) -> None:
    ended = workplace.run("status", *words)
    assert ended.code == 2
    assert words[1] in ended.err


def test_the_embedded_server_is_visited_but_neither_started_nor_stopped_unless_asked_for(simulator: Start) -> None:
    with reachable_folder() as folder:
        workplace = Workplace(folder, {"TARGET_API_KEY": API_KEY})
        assert "There is none yet." in shown(workplace, "--start-database")
        workplace.ingest(API_BASE_URL=simulator(events=50).url)
        server = folder / "data" / "postgres"
        pid_file = server / "server" / "data" / "postmaster.pid"
        assert "--start-database" in shown(workplace)
        assert not pid_file.exists()
        ended = workplace.run("status", "--json", "--start-database")
        assert json.loads(ended.out)["database"]["events"] == 50
        assert not pid_file.exists()
        with EmbeddedUser(server) as run:
            conninfo = run.conninfo()
            assert status(workplace)["database"]["events"] == 50
            assert query(conninfo, "SELECT 1") == 1
            assert "50" in shown(workplace, "--start-database")
            assert query(conninfo, "SELECT 1") == 1
        assert not pid_file.exists()
