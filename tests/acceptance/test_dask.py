"""`bin/ingest --pool dask` as a user runs it: a cluster that loses half of its workers, one with TLS, and refusals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from distributed.security import Security

from datasync_ingest.simulator.process import SimulatorProcess
from tests.cluster import Cluster
from tests.harness import Database, Workplace, family, until

Start = Callable[..., SimulatorProcess]


@dataclass(frozen=True)
class Refusal:
    """What is asked for, and how that ends."""

    words: tuple[str, ...]
    code: int
    sentence: str
    environment: tuple[tuple[str, str], ...] = ()


PARTIES = ("SCHEDULER", "WORKER", "CLIENT")
NOBODY = "tcp://127.0.0.1:1"
REFUSALS = {
    "a scheduler without the pool": Refusal(
        ("--scheduler", NOBODY), 2, "--scheduler is for --pool dask, which was not chosen."
    ),
    "the pool without a scheduler": Refusal(("--pool", "dask"), 2, "--pool dask needs a scheduler, and none is named."),
    "an address that is none": Refusal(
        ("--pool", "dask", "--scheduler", "http://x:1"), 2, "is not the address of a Dask scheduler"
    ),
    "the embedded database": Refusal(
        ("--pool", "dask", "--scheduler", NOBODY),
        2,
        "The embedded PostgreSQL cannot be reached from the workers of a cluster.",
        (("DATABASE_URL", ""),),
    ),
    "nobody at the address": Refusal(
        ("--pool", "dask", "--scheduler", NOBODY, "--db-patience", "1s"),
        5,
        "No Dask scheduler answers at tcp://127.0.0.1:1: ",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_work_is_refused_before_the_key_is_used(name: str, simulator: Start, workplace: Workplace) -> None:
    refusal, api = REFUSALS[name], simulator(events=100)
    workplace.environment.update({"API_BASE_URL": api.url, **dict(refusal.environment)})
    ended = workplace.ingest(*refusal.words, expect=refusal.code)
    assert refusal.sentence in ended.err
    assert "Traceback" not in ended.err
    assert api.counters()["requests"]["events"] == 0


def test_the_variable_alone_is_no_reason_to_use_a_cluster(simulator: Start, workplace: Workplace) -> None:
    workplace.ingest(API_BASE_URL=simulator(events=100).url, DASK_SCHEDULER_ADDRESS=NOBODY)


def dask(cluster: Cluster, *words: str) -> tuple[str, ...]:
    return ("--pool", "dask", "--scheduler", cluster.address, "--batch-size", "100", *words)


def require_exact(workplace: Workplace, database: Database, api: SimulatorProcess) -> None:
    assert workplace.exported_ids() == sorted(api.ids()) == database.ids()
    assert database.value("SELECT sum(inserted) FROM ingested_pages") == len(api.ids())


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_run_that_is_stopped_and_one_that_loses_half_of_its_workers_lose_and_repeat_nothing(
    simulator: Start, workplace: Workplace, database: Database, tmp_path: Path
) -> None:
    api = simulator(events=6_000, latency_ms=30)
    workplace.environment["API_BASE_URL"] = api.url
    (tmp_path / "cluster").mkdir()
    with Cluster(tmp_path / "cluster") as cluster:
        workers = cluster.start_workers(database, 2)

        stopped = workplace.start("ingest", *dask(cluster))
        until(lambda: workplace.completed_pages() >= 3, what="some pages")
        stopped.send_signal(signal.SIGINT)
        _, err = stopped.communicate(timeout=60)
        assert stopped.returncode == 130, err
        assert "Stopped by SIGINT" in err
        assert "Traceback" not in err
        assert family(stopped) == []

        halved = workplace.start("ingest", *dask(cluster, "--json"))
        done = workplace.completed_pages()
        until(lambda: workplace.completed_pages() >= done + 5, what="some more pages")
        os.kill(workers.pids[0], signal.SIGKILL)
        _, err = halved.communicate(timeout=120)
        assert halved.returncode == 0, err
        assert "Traceback" not in err
        assert re.search(rf"the cluster of {cluster.address} has [12] workers for us, no dashboard that answers", err)
    require_exact(workplace, database, api)
    assert api.counters()["pages_fetched_twice"] == 0


@pytest.mark.long
def test_a_cluster_with_tls(simulator: Start, workplace: Workplace, database: Database, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    made = ("-subj", "/CN=cluster", "-keyout", str(key), "-out", str(cert))
    subprocess.run(["openssl", "req", *words, *made], check=True, capture_output=True)
    files = {"CA_FILE": cert, **{f"{who}__CERT": cert for who in PARTIES}, **{f"{who}__KEY": key for who in PARTIES}}
    environment = {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(path) for name, path in files.items()}
    security = Security(tls_ca_file=str(cert), tls_client_cert=str(cert), tls_client_key=str(key))
    api = simulator(events=300)
    workplace.environment["API_BASE_URL"] = api.url
    with Cluster(tmp_path, scheme="tls", environment=environment, security=security) as cluster:
        cluster.start_workers(database)
        assert cluster.address.startswith("tls://")
        refused = workplace.ingest(*dask(cluster, "--db-patience", "2s"), expect=5)
        assert f"No Dask scheduler answers at {cluster.address}" in refused.err
        assert "Traceback" not in refused.err
        workplace.environment.update(environment)
        workplace.ingest(*dask(cluster))
    require_exact(workplace, database, api)
