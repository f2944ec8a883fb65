"""`bin/ingest --metrics-port --metrics-file` as a subprocess: scraped while it runs, held against what it did."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable

import pytest
from psycopg2.extensions import make_dsn

from datasync_ingest.simulator.process import SimulatorProcess
from tests.acceptance.test_stopping import pool_of
from tests.harness import Database, Workplace, until
from tests.unit.test_monitoring import Samples, get, samples

Start = Callable[..., SimulatorProcess]
FLAGS = ("--batch-size", "100", "--worker-concurrency", "2", "--metrics-port", "0", "--metrics-file", "m.prom")


def started(workplace: Workplace, api: SimulatorProcess) -> tuple[subprocess.Popen[str], str]:
    """A run, and the URL that it says its metrics are at."""
    process = workplace.start("ingest", "--json", *FLAGS, API_BASE_URL=api.url)
    assert process.stderr is not None
    found = re.search(r"metrics are at (http://127\.0\.0\.1:\d+)/metrics", process.stderr.readline())
    assert found
    return process, found[1]


def scrape(url: str) -> Samples:
    status, body = get(f"{url}/metrics")
    assert status == 200
    return samples(body.decode())


def at_end(workplace: Workplace) -> Samples:
    return samples((workplace.directory / "m.prom").read_text())


def sums(found: Samples, name: str, label: str) -> dict[str, int]:
    """The values of a metric by one of its labels, without zeros."""
    by_label: dict[str, int] = {}
    for (metric, labels), value in found.items():
        if metric == name and value:
            key = dict(labels)[label]
            by_label[key] = by_label.get(key, 0) + int(value)
    return by_label


def test_what_is_scraped_and_what_is_written_is_what_was_done(simulator: Start, workplace: Workplace) -> None:
    faults = ["503@2", "429@5", "cut@7", "reset@9", "repeat-event=0.01", "nul=0.05"]
    api = simulator(events=2_000, latency_ms=20, fault=faults)
    process, url = started(workplace, api)
    during = until(lambda: (found := scrape(url)).get(("datasync_table_events", ()), 0) >= 100 and found)
    assert during["datasync_workers", ()] == 2
    assert 100 < during["datasync_cursor_remaining_seconds", ()] <= 117, "`Date` has whole seconds"
    assert get(f"{url}/healthz")[0] == 200
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    summary, counters, found = json.loads(out), api.counters(), at_end(workplace)
    for outcome in ("inserted", "already_there", "rejected"):
        assert found["datasync_events_total", (("outcome", outcome),)] == summary[outcome]
    assert found["datasync_events_repaired_total", ()] == summary["repaired"] > 0
    assert found["datasync_pages_total", ()] == found["datasync_commit_duration_seconds_count", ()] == summary["pages"]
    assert found["datasync_table_events", ()] == summary["events_in_table"]
    by_status = sums(found, "datasync_requests_total", "status")
    assert sum(by_status.values()) == summary["requests"] == counters["requests"]["events"]
    assert by_status["503"] == counters["statuses"]["503"] == 1
    assert by_status["429"] == counters["statuses_429"] == summary["answered_429"] == 1
    by_outcome = sums(found, "datasync_requests_total", "outcome")
    assert by_outcome == {"page": summary["pages"], "fault": 2, "limited": 1, "not_whole": 1}
    assert sums(found, "datasync_fetch_duration_seconds_count", "outcome") == by_outcome
    seconds = {name.replace(" ", "_"): value for name, value in summary["seconds_by_cause"].items()}
    for cause, value in seconds.items():
        assert found["datasync_walk_seconds_total", (("cause", cause),)] == pytest.approx(value, abs=0.05)
    assert found["datasync_exit_code", ()] == 0
    assert all(value <= found[name] for name, value in during.items() if name[0].endswith("_total"))


def test_stopped_workers_are_not_well_and_a_wait_for_the_rate_limit_is(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=5_000, rate_limit=3, rate_window=600)
    process, url = started(workplace, api)

    def health() -> tuple[int, dict[str, object]]:
        status, body = get(f"{url}/healthz")
        return status, json.loads(body)

    until(lambda: "rate limit" in str(health()[1].get("waiting", "")), what="the wait for the rate limit")
    status, known = health()
    assert (status, known["healthy"], known["workers_at_work"]) == (200, True, 2)
    workers = [worker.pid for worker in pool_of(process)]
    assert len(workers) == 2
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: health()[0] == 503, what="503")
    assert health()[1]["reason"] == "none of 2 workers is at work"
    assert scrape(url)["datasync_workers", ()] == 2, "it is served all the same"
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    until(lambda: health()[0] == 200, what="200")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    with pytest.raises(ConnectionRefusedError):
        health()
    found = at_end(workplace)
    assert found["datasync_exit_code", ()] == 130
    assert found["datasync_events_total", (("outcome", "inserted"),)] == 300


def test_a_taken_port_ends_the_command_before_anything_begins(workplace: Workplace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = workplace.ingest(API_BASE_URL="http://127.0.0.1:9", METRICS_PORT=str(port), expect=2)
    where = f"METRICS_PORT={port} cannot be listened on at 127.0.0.1"
    assert ended.err.startswith(f"error: {where}: Address already in use.")
    assert "Choose another port" in ended.err
    assert list(workplace.directory.iterdir()) == []


def test_a_run_that_never_came_to_its_workers_leaves_its_file_too(workplace: Workplace, database: Database) -> None:
    nowhere = make_dsn(database.conninfo, dbname="nowhere")
    workplace.ingest("--metrics-file", "m.prom", DATABASE_URL=nowhere, API_BASE_URL="http://127.0.0.1:9", expect=4)
    assert at_end(workplace)["datasync_exit_code", ()] == 4
