"""Metrics and health of a run that the test tells of, and the server that serves them."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from datasync_ingest.activity import FETCHING, RATE_LIMIT
from datasync_ingest.errors import ConfigurationError, DatabaseError
from datasync_ingest.messages import Counts, PageId, RawPage, Receipt, RequestEnded
from datasync_ingest.monitoring import monitoring
from datasync_ingest.monitoring.health import FRESH_S, Pulse
from datasync_ingest.monitoring.metrics import Metrics
from datasync_ingest.monitoring.server import Answer, Request, serving
from datasync_ingest.progress import Snapshot
from datasync_ingest.settings import Settings
from tests.harness import TOP, clean_environment

PAGE = RawPage(PageId("w", 0), None, "c", False, 5, 5, None, None, None, 9, None, body=b"")
RECEIPT = Receipt(PAGE.page, 0, Counts(9, 5, 3, 1, 2), False, 0.02, 0.2)
REQUEST = RequestEnded(PAGE.page, 1, 0.0, 0.3, 200, "page", size=1000)
STANDING = Snapshot(
    5,
    0,
    9,
    1.0,
    None,
    1,
    7,
    2,
    4,
    1,
    60.0,
    "",
    {FETCHING: 1.5},
    FETCHING,
    cursor_left_s=100.0,
    workers=2,
    pids=(11, 12),
)
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def samples(text: str) -> Samples:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def served(metrics: Metrics) -> Samples:
    return samples(metrics.page(Request(None)).body.decode())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> Metrics:
    return Metrics(clock=clock, wall=clock)


# --- metrics ---


def test_what_is_told_is_counted(metrics: Metrics) -> None:
    metrics.committed(PAGE, RECEIPT)
    metrics.requested(REQUEST)
    metrics.requested(replace(REQUEST, status=None, outcome="not whole", size=0))
    found = served(metrics)
    for outcome, count in {"inserted": 5, "already_there": 3, "rejected": 1}.items():
        assert found["datasync_events_total", (("outcome", outcome),)] == count
    assert found["datasync_events_repaired_total", ()] == 2
    assert found["datasync_pages_total", ()] == 1
    assert found["datasync_requests_total", (("outcome", "page"), ("status", "200"))] == 1
    assert found["datasync_requests_total", (("outcome", "not_whole"), ("status", "none"))] == 1
    assert found["datasync_received_bytes_total", ()] == 1000
    assert found["datasync_commit_duration_seconds_sum", ()] == pytest.approx(0.2)
    assert found["datasync_fetch_duration_seconds_bucket", (("le", "0.5"), ("outcome", "page"))] == 1


def test_runs_of_several_schemas_are_told_apart_by_a_label_on_every_series(tmp_path: Path) -> None:
    with monitoring(Settings(schema="acme", metrics_file=tmp_path / "acme.prom")):
        pass
    lines = [line for line in (tmp_path / "acme.prom").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 20
    assert all('schema="acme"' in line for line in lines)
    with monitoring(Settings(metrics_file=tmp_path / "usual.prom")):
        pass
    assert "schema=" not in (tmp_path / "usual.prom").read_text()


def test_how_it_stands_is_as_of_now_and_what_is_not_known_is_left_out(metrics: Metrics, clock: Clock) -> None:
    metrics.shown(STANDING)
    clock.now += 40
    found = served(metrics)
    assert found["datasync_cursor_remaining_seconds", ()] == 60
    assert found["datasync_key_remaining_seconds", ()] == 20
    assert found["datasync_rate_limit_remaining_requests", ()] == 7
    assert found["datasync_queue_pages", ()] == 2
    assert found["datasync_spool_pages", ()] == 4
    assert found["datasync_workers", ()] == 2
    assert found["datasync_walk_seconds_total", (("cause", "fetching"),)] == 1.5
    assert found["datasync_walk_seconds_total", (("cause", "rate_limit"),)] == 0
    metrics.shown(replace(STANDING, requests_left=None, cursor_left_s=None, total=None))
    names = {name for name, _ in served(metrics)}
    assert not names & {
        "datasync_rate_limit_remaining_requests", "datasync_cursor_remaining_seconds", "datasync_api_events"
    }  # fmt: skip


def test_after_the_end_there_is_nothing_that_would_go_on(metrics: Metrics) -> None:
    metrics.shown(STANDING)
    metrics.ended(5)
    found = served(metrics)
    assert found["datasync_exit_code", ()] == 5
    assert ("datasync_cursor_remaining_seconds", ()) not in found


def test_names_keep_to_the_conventions_and_are_in_the_readme(metrics: Metrics) -> None:
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    metrics.shown(STANDING)
    metrics.requested(REQUEST)
    text = metrics.page(Request(None)).body.decode()
    metrics.ended(0)
    text += metrics.page(Request(None)).body.decode()
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == 20
    for family in families:
        name = family.name + ("_total" if family.type == "counter" else "")
        assert f"`{name}" in readme, name
        assert family.documentation.endswith("."), name
        assert name.startswith("datasync_")
        assert family.type != "histogram" or name.endswith("_seconds")


def test_openmetrics_is_served_to_those_who_ask_for_it(metrics: Metrics) -> None:
    answer = metrics.page(Request("application/openmetrics-text; version=1.0.0"))
    assert answer.content_type.startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")


# --- health ---


class Patient:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.at_work = {11, 12}
        self.pulse = Pulse(clock=clock, at_work=self.at_work.__contains__)

    def after(self, seconds: float, **changes: object) -> bool:
        """Whether it is well after so long, during which the run has stood like this."""
        for _ in range(int(seconds)):
            self.clock.now += 1
            self.pulse.shown(replace(STANDING, **changes))  # type: ignore[arg-type]
        return self.pulse.health()[0]


@pytest.fixture
def patient(clock: Clock) -> Patient:
    return Patient(clock)


def test_a_run_is_not_well_before_its_workers_are_there(patient: Patient) -> None:
    assert patient.pulse.health() == (False, {"healthy": False, "reason": "the run is starting"})


def test_a_run_that_waits_for_the_rate_limit_is_well_however_long(patient: Patient) -> None:
    assert patient.after(10 * FRESH_S, queued=0, doing=RATE_LIMIT)


def test_a_request_that_brings_nothing_is_no_progress(patient: Patient) -> None:
    assert patient.after(FRESH_S - 1, queued=0)
    patient.pulse.requested(replace(REQUEST, outcome="fault", status=503))
    assert not patient.after(2, queued=0)
    assert patient.pulse.health()[1]["reason"] == "no page was fetched for 121 s"
    patient.pulse.requested(REQUEST)
    assert patient.after(1, queued=0)


def test_pages_that_nobody_commits_are_no_progress_whatever_is_fetched(patient: Patient) -> None:
    assert patient.after(FRESH_S, queued=1)
    patient.pulse.requested(REQUEST)
    assert not patient.after(1, queued=1, doing=RATE_LIMIT)
    assert "no page was committed" in patient.pulse.health()[1]["reason"]
    patient.pulse.committed(PAGE, RECEIPT)
    assert patient.after(1, queued=1)


def test_a_run_that_shows_nothing_any_more_is_not_well(patient: Patient) -> None:
    assert patient.after(1, queued=0, doing=RATE_LIMIT)
    patient.clock.now += FRESH_S + 1
    assert not patient.pulse.health()[0]


def test_one_worker_at_work_is_enough_and_none_is_too_few(patient: Patient) -> None:
    patient.at_work.remove(11)
    assert patient.after(1)
    assert patient.pulse.health()[1]["workers_at_work"] == 1
    patient.at_work.remove(12)
    assert not patient.after(1)
    assert patient.pulse.health()[1]["reason"] == "none of 2 workers is at work"


# --- the server ---


def get(url: str, method: str = "GET") -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request(method, parts.path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def hello(request: Request) -> Answer:
    del request
    return Answer(200, "text/plain", b"hello")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_pages_are_served_at_their_paths_until_the_block_ends(host: str) -> None:
    with serving(host, 0, {"/hello": hello}) as url:
        assert get(f"{url}/hello?name=x") == (200, b"hello")
        assert get(f"{url}/hello", "HEAD") == (200, b"")
        assert get(f"{url}/hello", "POST")[0] == 501
        assert get(f"{url}/other") == (404, b"There is: /hello\n")
    with pytest.raises(ConnectionRefusedError):
        get(f"{url}/hello")


def test_a_client_that_says_nothing_holds_up_nobody() -> None:
    with serving("127.0.0.1", 0, {"/hello": hello}) as url:
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname or "", parts.port or 0)):
            assert get(f"{url}/hello")[0] == 200


# --- what the user asks for ---


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def refused(settings: Settings) -> str:
    with pytest.raises(ConfigurationError) as caught, monitoring(settings):
        raise AssertionError("the run has begun")
    assert caught.value.hint
    return str(caught.value)


def test_a_taken_port_is_named_before_anything_begins(taken: int) -> None:
    assert refused(Settings(metrics_port=taken)) == (
        f"METRICS_PORT={taken} cannot be listened on at 127.0.0.1: Address already in use."
    )


def test_an_address_that_is_not_this_machines_is_named(taken: int) -> None:
    assert "cannot be listened on" in refused(Settings(metrics_port=0, metrics_host="192.0.2.1"))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: folder / "missing" / "x.prom", "No such file or directory"),
        (lambda folder: folder, "Is a directory"),
    ],
)
def test_a_file_that_could_not_be_written_is_named_before_anything_begins(
    make: Callable[[Path], Path], reason: str, tmp_path: Path
) -> None:
    assert reason in refused(Settings(metrics_file=make(tmp_path)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("error", "code"), [(None, 0), (DatabaseError("gone"), 4), (ValueError("a bug"), 1)])
def test_the_file_is_whole_at_every_ending(error: Exception | None, code: int, tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    try:
        with monitoring(Settings(metrics_file=path)) as (metrics, _):
            metrics.committed(PAGE, RECEIPT)
            assert list(tmp_path.iterdir()) == []
            if error is not None:
                raise error
    except (DatabaseError, ValueError):
        pass
    found = samples(path.read_text())
    assert found["datasync_exit_code", ()] == code
    assert found["datasync_pages_total", ()] == 1
    assert [one.name for one in tmp_path.iterdir()] == ["x.prom"]


def test_without_the_wish_for_metrics_the_library_is_not_imported() -> None:
    program = (
        "import sys\nfrom datasync_ingest.commands import ingest\nfrom datasync_ingest.monitoring import monitoring\n"
        "from datasync_ingest.settings import Settings\nwith monitoring(Settings()) as nobody: assert nobody == []\n"
        "assert 'prometheus_client' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], env=clean_environment(), check=True)
