"""Real processes ended by real signals: nothing is lost, nothing is left behind, little is fetched again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial

import psutil
import psycopg2
import pytest

from datasync_ingest.pools.processes import PAGES_QUEUED_PER_WORKER
from datasync_ingest.simulator.process import SimulatorProcess
from tests.acceptance.test_ingest import require_exact
from tests.harness import API_KEY, Database, Workplace, alive, family, kill, until
from tests.pools import held_up, waiting_backends
from tests.servers import reachable_folder

Start = Callable[..., SimulatorProcess]
WORKERS = 2
AT_RISK = WORKERS * PAGES_QUEUED_PER_WORKER + WORKERS + 1  # queue bound + workers + the one on its way


def start_and_wait(workplace: Workplace, pages: int, api: SimulatorProcess, *words: str) -> subprocess.Popen[str]:
    """Starts an ingest and returns when that many more pages than before are marked."""
    target = workplace.completed_pages() + pages
    process = workplace.start("ingest", "--worker-concurrency", str(WORKERS), *words, API_BASE_URL=api.url)
    until(lambda: workplace.completed_pages() >= target or process.poll() is not None, what=f"page {target}")
    return process


def require_gone(members: list[psutil.Process]) -> None:
    until(lambda: not alive(members), timeout_s=5, what="the end of every process")


@pytest.mark.long
def test_killed_ten_times_at_random_it_loses_and_repeats_nothing(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    chance = random.Random(20260127)
    api = simulator(events=60_000, latency_ms=20)
    flags = ("--batch-size", "250")
    for _ in range(10):
        process = start_and_wait(workplace, chance.randint(1, 12), api, *flags)
        time.sleep(chance.random() * 0.1)  # not a wait for anything: the kill shall fall at any moment of a page's way
        members = family(process)
        assert process.poll() is None, process.communicate()[1]
        kill(process)
        require_gone(members)
    workplace.ingest(*flags, API_BASE_URL=api.url)
    require_exact(database, api)
    assert api.counters()["pages_fetched_twice"] <= 10 * AT_RISK


@pytest.mark.parametrize(
    ("signum", "to_group", "code"),
    [
        (signal.SIGINT, True, 130),
        (signal.SIGINT, False, 130),
        (signal.SIGTERM, False, 143),
        (signal.SIGTERM, True, 143),
        (signal.SIGHUP, True, 129),
    ],
)
def test_a_signal_ends_the_run_in_order_and_the_next_run_goes_on(
    signum: int, to_group: bool, code: int, simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=20_000, latency_ms=20)
    process = start_and_wait(workplace, 5, api, "--batch-size", "250")
    members = family(process)
    if to_group:
        os.killpg(process.pid, signum)
    else:
        process.send_signal(signum)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert f"Stopped by {signal.Signals(signum).name}" in err
    assert "Run the same command again" in err
    assert "Traceback" not in err
    require_gone(members)
    fetched_before = api.counters()["pages"]
    assert workplace.completed_pages() == fetched_before, "what was fetched was committed"
    workplace.ingest("--batch-size", "250", API_BASE_URL=api.url)
    require_exact(database, api)
    assert api.counters()["pages_fetched_twice"] == 0


def test_a_stop_during_the_wait_for_the_rate_limit_is_prompt(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=5_000, rate_limit=3, rate_window=600)
    process = start_and_wait(workplace, 3, api, "--batch-size", "100")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - began < 5, "it waits for a window that turns in ten minutes"


@pytest.mark.parametrize("when", ["at the start", "at the end"])
def test_a_stop_is_seen_while_the_database_does_not_answer(
    when: str, simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=5_000, latency_ms=40)
    flags = ("--batch-size", "250")
    process = start_and_wait(workplace, 3, api, *flags)
    if when == "at the start":
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    with closing(psycopg2.connect(database.conninfo)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE rejected_events IN ACCESS EXCLUSIVE MODE")  # in the way of the books, not of pages
        if when == "at the start":
            process = workplace.start("ingest", *flags, API_BASE_URL=api.url)
        until(partial(waiting_backends, database), what="a run that waits for the database")
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=50)
        assert process.returncode == 130, err
        assert time.monotonic() - began < 10, "PostgreSQL's lock_timeout is 60 s"
        assert workplace.completed_pages() == 20 or when == "at the start"
    workplace.ingest(*flags, API_BASE_URL=api.url)
    require_exact(database, api)


@pytest.mark.parametrize(
    "words", [("export-ids",), ("submit", "--yes", "--github-repo", "https://github.com/me/repo")], ids=lambda w: w[0]
)
def test_a_stop_of_what_comes_after_a_run_is_seen_while_the_database_does_not_answer(
    words: tuple[str, ...], simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=500)
    workplace.ingest(API_BASE_URL=api.url)
    assert workplace.run("export-ids").code == 0
    file = workplace.directory / "event_ids.txt"
    before = file.stat()
    with closing(psycopg2.connect(database.conninfo)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE ingested_events IN ACCESS EXCLUSIVE MODE")
        process = workplace.start(*words, API_BASE_URL=api.url)
        until(partial(waiting_backends, database), what="a command that waits for the database")
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=50)
    assert process.returncode == 130, err
    assert time.monotonic() - began < 10, "PostgreSQL's lock_timeout is 60 s"
    assert "Traceback" not in err
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert list(workplace.directory.glob("*.tmp")) == []


def test_a_second_signal_ends_it_at_once_and_still_loses_nothing(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=12_000, latency_ms=20)
    process = start_and_wait(workplace, 3, api, "--batch-size", "250")
    members = family(process)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 143
    require_gone(members)
    workplace.ingest("--batch-size", "250", API_BASE_URL=api.url)
    require_exact(database, api)


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_restart_inside_a_spent_window_meets_no_429(
    how: str, simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=1_500, rate_limit=5, rate_window=4)
    process = start_and_wait(workplace, 5, api, "--batch-size", "100")
    process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGINT)
    process.communicate(timeout=20)
    workplace.ingest("--batch-size", "100", API_BASE_URL=api.url)
    require_exact(database, api)
    assert api.counters()["statuses_429"] == 0


def test_a_second_run_on_the_same_directory_is_kept_out(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=5_000, rate_limit=3, rate_window=600)
    process = start_and_wait(workplace, 3, api, "--batch-size", "100")
    ended = workplace.ingest(API_BASE_URL=api.url, expect=6)
    assert "in use by bin/ingest (process" in ended.err
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)


def test_two_directories_on_one_database_are_kept_apart_and_take_turns(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=5_000, rate_limit=4, rate_window=2)
    process = start_and_wait(workplace, 3, api, "--batch-size", "1000")
    process.send_signal(signal.SIGSTOP)  # so that it is under way for as long as the other needs
    (workplace.directory / "second").mkdir()
    second = Workplace(workplace.directory / "second", workplace.environment)
    ended = second.ingest(API_BASE_URL=api.url, expect=6)
    assert "Another run is writing into this database" in ended.err
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    second.ingest("--batch-size", "1000", API_BASE_URL=api.url)
    require_exact(database, api)


def marked(workplace: Workplace, pages: int) -> bool:
    return workplace.completed_pages() >= pages


def pool_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The worker processes of a run; one that is just being replaced is not among them."""
    found = []
    for member in family(process):
        with suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(member.cmdline()):
                found.append(member)
    return found


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_while_the_workers_load_is_told_and_leaves_nothing(
    signum: signal.Signals, simulator: Start, workplace: Workplace
) -> None:
    api = simulator(events=5_000, latency_ms=10_000)  # so that a late signal still finds it at work
    process = workplace.start("ingest", API_BASE_URL=api.url)
    until(lambda: pool_of(process), what="a worker")
    members = family(process)
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signum, err
    assert f"Stopped by {signum.name}" in err
    assert "leaked" not in err
    assert out == ""
    require_gone(members)


@pytest.mark.parametrize("at_once", [1, WORKERS], ids=["one worker", "all workers"])
def test_killed_workers_are_replaced_and_the_run_is_complete(
    at_once: int, simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=20_000, latency_ms=20)
    process = start_and_wait(workplace, 3, api, "--batch-size", "250")
    for target in range(10, 40, 5):
        for worker in until(lambda: pool_of(process)[:at_once], what="a worker"):
            with suppress(psutil.NoSuchProcess):  # the pool has ended it already, with the one before
                worker.kill()
        until(partial(marked, workplace, target), what=f"page {target}")
    members = family(process)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err.count("was killed by SIGKILL") >= 5
    assert "Traceback" not in err
    require_gone(members)
    require_exact(database, api)
    assert api.counters()["pages_fetched_twice"] == 0


def test_a_page_that_no_worker_survives_is_kept_and_tried_again_when_asked_for(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=5_000, latency_ms=20)
    process = start_and_wait(workplace, 2, api, "--batch-size", "250", "--worker-concurrency", "1")
    walk = database.value("SELECT walk::text FROM ingested_pages LIMIT 1")
    with held_up(database, 18, walk=walk):
        for deaths in (1, 2, 3):  # PostgreSQL keeps the backend of a killed worker until its lock is there
            until(partial(waiting_backends, database, deaths), what=f"page 18, time {deaths}")
            (worker,) = pool_of(process)
            worker.kill()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "1 fetched pages could not be written, 250 events are missing" in err
    assert f"Page {walk[:8]}/18 (250 events): 3 workers died over it" in err
    assert "--retry-poisoned" in err
    assert workplace.completed_pages() == 19, "what came after it was committed"
    before = api.counters()["counted"]["events"]
    again = workplace.ingest("--batch-size", "250", API_BASE_URL=api.url, expect=5)
    assert "--retry-poisoned" in again.err
    assert api.counters()["counted"]["events"] == before + 1, (
        "the page is kept: it is not asked for again, only what is new"
    )
    workplace.ingest("--batch-size", "250", "--retry-poisoned", API_BASE_URL=api.url)
    require_exact(database, api)


def test_an_embedded_server_that_dies_in_mid_run_is_started_again(simulator: Start) -> None:
    api = simulator(events=12_000, latency_ms=20)
    with reachable_folder() as directory:
        workplace = Workplace(directory, {"TARGET_API_KEY": API_KEY})
        process = start_and_wait(workplace, 3, api, "--batch-size", "250")
        (pid_file,) = directory.glob("data/postgres/**/postmaster.pid")
        os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
        _, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
        assert "database" in err
        assert workplace.exported_ids() == sorted(api.ids())
        assert api.counters()["pages_fetched_twice"] == 0
