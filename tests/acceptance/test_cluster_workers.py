"""bin/worker at a real scheduler: who it is there, how it leaves, what ends it, and who comes back."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from datasync_ingest.messages import Receipt, Started, WorkerMessage
from datasync_ingest.pools import POOLS, Pool, PoolOptions
from tests.cluster import Cluster, Workers
from tests.harness import API_KEY, Database, Workplace, alive, family, until
from tests.pools import page, worker_options

ENDS_S = 5.0  # rule 11 of the design: workers leave within 5 s of the parent's death


@pytest.fixture(scope="module")
def lone_scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler without workers."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def scheduler(lone_scheduler: Cluster) -> Iterator[Cluster]:
    """One that keeps no worker of a test."""
    yield lone_scheduler
    for workers in lone_scheduler.workers:
        workers.end()
    until(lambda: not lone_scheduler.at_work(), what="a scheduler without workers")


def has_said(pool: Pool, heard: list[WorkerMessage], kind: type[WorkerMessage]) -> bool:
    """Whether such a message has come by now; adds to `heard` what has."""
    heard += pool.receive(0.1)
    return any(isinstance(message, kind) for message in heard)


def test_a_worker_has_one_thread_one_page_at_a_time_and_the_database_by_its_environment_alone(
    scheduler: Cluster, database: Database
) -> None:
    workers = scheduler.start_workers(database, TARGET_API_KEY=API_KEY)
    identity = scheduler.identity()
    (worker,) = identity["workers"].values()
    assert (worker["nthreads"], worker["resources"], worker["memory_limit"]) == (1, {"datasync_ingest": 1}, 0)
    assert database.conninfo not in str(identity)
    (process,) = (psutil.Process(pid) for pid in workers.pids)
    assert process.environ()["DATABASE_URL"] == database.conninfo
    assert "TARGET_API_KEY" not in process.environ()
    assert database.conninfo not in " ".join(process.cmdline())
    for connection in process.net_connections("tcp"):
        assert connection.laddr[0] == "127.0.0.1"


@pytest.mark.parametrize("at_once", [False, True])
def test_a_stop_finishes_the_page_under_way_and_a_second_one_does_not(
    scheduler: Cluster, database: Database, at_once: bool
) -> None:
    options = worker_options(database)
    pool = POOLS["dask"](PoolOptions(1, scheduler.address))
    workers = scheduler.start_workers(database)
    pool.start(options)
    processes = family(workers.process)
    with closing(psycopg2.connect(database.conninfo)) as connection:
        connection.cursor().execute("LOCK TABLE ingested_pages")
        pool.put(page(0))
        heard: list[WorkerMessage] = []
        until(lambda: has_said(pool, heard, Started), what="a page under way")
        for process in processes:
            process.send_signal(signal.SIGINT)  # as a terminal does it
        until(lambda: "stopping: " in workers.log.read_text(), what="the line about the stop")
        if at_once:
            workers.process.send_signal(signal.SIGTERM)
            assert workers.process.wait(ENDS_S) == 130
        connection.rollback()
    if not at_once:
        assert workers.process.wait(20) == 130
        until(lambda: has_said(pool, heard, Receipt), what="the receipt")
    assert has_said(pool, heard, Receipt) != at_once
    pool.stop(0)
    assert alive(processes) == []
    lines = workers.log.read_text().splitlines()
    assert "Traceback" not in "\n".join(lines)
    assert lines[-1].startswith("Stopped by SIGINT: " + ("pages under way were given up" if at_once else "the workers"))


def test_nothing_outlives_a_killed_parent(scheduler: Cluster, database: Database) -> None:
    workers = scheduler.start_workers(database, 2)
    processes = family(workers.process)
    assert len(processes) >= 3
    workers.process.kill()
    workers.process.wait()
    until(lambda: not alive(processes), timeout_s=ENDS_S, what="the end of the workers")
    until(lambda: not scheduler.at_work(), what="a scheduler without workers")


def test_workers_come_back_after_their_death_and_after_the_schedulers(tmp_path: Path, database: Database) -> None:
    with Cluster(tmp_path) as cluster:
        workers = cluster.start_workers(database)
        until(lambda: workers.log.read_text().count(" is ready at ") == 1, what="a worker that its nanny knows")
        cluster.kill_scheduler()
        until(lambda: "has lost the scheduler" in workers.log.read_text(), what="the line about the loss")
        cluster.start_scheduler()
        until(lambda: workers.log.read_text().count(" is ready at ") == 2, timeout_s=60, what="the worker's return")
        (first,), before = workers.pids, cluster.at_work()
        psutil.Process(first).kill()
        until(lambda: cluster.at_work() not in ([], before), timeout_s=60, what="another worker process")
        assert f"Worker process {first} was killed by signal 9" in workers.log.read_text()
        before = cluster.at_work()
        cluster.ask("unregister", address=before[0], stimulus_id="given up")  # as one that was frozen for too long
        until(lambda: cluster.at_work() not in ([], before), timeout_s=60, what="the return of one that was given up")
        cluster.ask("retire_workers", workers=cluster.at_work(), close_workers=True)
        assert workers.process.wait(60) == 0
        assert workers.log.read_text().splitlines()[-1].endswith("the scheduler has retired every worker")


def test_certificates_of_dasks_configuration_are_used(tmp_path: Path, database: Database) -> None:
    openssl = shutil.which("openssl") or pytest.skip("no openssl to make certificates with")
    request = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out ca.pem -days 2 -subj /CN=tests"
    subprocess.run([openssl, *request.split()], cwd=tmp_path, check=True, capture_output=True)
    tls = {"CA_FILE": "ca.pem"}
    for who in ("SCHEDULER", "WORKER", "CLIENT"):
        tls |= {f"{who}__CERT": "ca.pem", f"{who}__KEY": "key.pem"}
    names = {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(tmp_path / path) for name, path in tls.items()}
    with Cluster(tmp_path, scheme="tls", environment=names) as cluster:
        ready: Callable[[Workers], bool] = lambda workers: " is ready at tls://" in workers.log.read_text()  # noqa: E731
        workers = cluster.begin_workers(database)
        until(lambda: ready(workers), what="a worker with a certificate")


# What is said | what is not there
REFUSED = {
    "No database is named": {"DATABASE_URL": ""},
    "No scheduler is named": {"DASK_SCHEDULER_ADDRESS": "none"},
    "--ports 9000:9002 are 3 ports, and 2 workers need 4.": {},
}


@pytest.mark.parametrize(("sentence", "extra"), REFUSED.items())
def test_what_is_missing_is_said_at_once(workplace: Workplace, sentence: str, extra: dict[str, str]) -> None:
    workplace.environment |= {"DASK_SCHEDULER_ADDRESS": "127.0.0.1:9", **extra}
    ended = workplace.run("worker", "--workers", "2", "--ports", "9000:9002")
    assert ended.code == 2
    assert ended.err.startswith(f"error: {sentence}")


def test_a_scheduler_that_is_away_is_waited_for_and_then_named(workplace: Workplace) -> None:
    ended = workplace.run("worker", "--scheduler", "127.0.0.1:9", "--patience", "1ms", PYTHONWARNINGS="default")
    assert ended.code == 5
    assert "error: No Dask scheduler has answered at tcp://127.0.0.1:9 for " in ended.err


@pytest.mark.long
def test_what_counts_is_the_schema_of_the_run_and_not_a_default_that_the_user_may_not_fill(
    workplace: Workplace, database: Database
) -> None:
    database.query("CREATE ROLE filler NOLOGIN; CREATE SCHEMA filled AUTHORIZATION filler")
    try:
        workplace.environment["DATABASE_URL"] = make_dsn(database.conninfo, options="-c role=filler")
        away = ("worker", "--scheduler", "127.0.0.1:9", "--patience", "1ms")
        assert [workplace.run(*away, DB_SCHEMA=name).code for name in ("public", "filled")] == [5, 5]
        refused = workplace.run(*away, DB_SCHEMA="missing")
        assert (refused.code, "has no schema missing" in refused.err) == (4, True), refused.err
    finally:
        database.query("DROP OWNED BY filler CASCADE; DROP ROLE filler")
