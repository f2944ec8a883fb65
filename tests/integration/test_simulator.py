"""The simulator as a process: what goes over its sockets, and how it ends."""

from __future__ import annotations

import gzip
import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import psutil
import pytest

from datasync_ingest.simulator.process import SimulatorError, SimulatorProcess
from tests.harness import TOP, alive, clean_environment, until

KEY = "a-key"


@pytest.fixture
def api() -> Iterator[SimulatorProcess]:
    with SimulatorProcess({"events": 2_000, "api-key": KEY, "rate-limit": 0, "cache-life": 0}) as running:
        yield running


def ask(
    api: SimulatorProcess, connection: http.client.HTTPConnection | None = None, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    made = connection or connect(api)
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    made.request("GET", "/api/v1/events?limit=500", headers={"X-API-Key": KEY, **named})
    answer = made.getresponse()
    try:
        return answer, answer.read()
    finally:
        if connection is None:
            made.close()


def connect(api: SimulatorProcess) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(api.url).netloc, timeout=30)


def test_a_connection_is_kept_and_a_body_is_compressed_for_those_who_accept_it(api: SimulatorProcess) -> None:
    with closing(connect(api)) as connection:
        plain, body = ask(api, connection)
        used = connection.sock
        packed, small = ask(api, connection, Accept_Encoding="gzip, deflate")
        assert connection.sock is used
    assert plain.getheader("Content-Encoding") is None
    assert packed.getheader("Content-Encoding") == "gzip"
    assert len(small) < len(body) / 3
    assert json.loads(gzip.decompress(small))["data"] == json.loads(body)["data"]


def test_a_cut_body_agrees_with_its_length_and_a_reset_breaks_the_connection(api: SimulatorProcess) -> None:
    api.options(fault=["cut@1", "reset@2"])
    answer, body = ask(api)
    assert int(answer.getheader("Content-Length") or 0) == len(body) > 1_000
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(body)
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        ask(api)
    assert len(json.loads(ask(api)[1])["data"]) == 500
    assert api.counters()["pages"] == 1


def test_a_bomb_is_small_on_the_wire_and_huge_when_inflated(api: SimulatorProcess) -> None:
    api.options(fault=["bomb@1", "huge@2"])
    packed, small = ask(api, Accept_Encoding="gzip")
    assert packed.getheader("Content-Encoding") == "gzip"
    assert len(small) < 2**20
    inflated = gzip.decompress(small)
    assert len(inflated) > 200 * 2**20
    assert len(json.loads(inflated)["data"]) == 500
    assert len(ask(api)[1]) > 200 * 2**20


def test_all_ids_and_events_are_told_without_a_key(api: SimulatorProcess) -> None:
    ids, events = api.ids(), api.events()
    assert [event["id"] for event in events] == ids
    assert len(set(ids)) == 2_000


def test_an_option_that_cannot_be_is_refused_with_a_sentence(api: SimulatorProcess) -> None:
    with pytest.raises(SimulatorError, match="events cannot be changed once the simulator runs"):
        api.options(events=5)


def test_it_ends_with_the_block_and_with_the_process_that_started_it(api: SimulatorProcess) -> None:
    with SimulatorProcess({"events": 10}) as other:
        process = psutil.Process(other.pid)
    assert not process.is_running()
    code = (
        "import sys, time; from datasync_ingest.simulator.process import SimulatorProcess;"
        "simulator = SimulatorProcess({'events': 10}).__enter__(); print(simulator.pid, flush=True); time.sleep(100)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], env=clean_environment(), stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    orphan = psutil.Process(int(starter.stdout.readline()))
    starter.kill()
    starter.communicate()
    until(lambda: not alive([orphan]), timeout_s=10, what="the end of the simulator")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_where_it_is_and_ends_by_a_signal(signum: int) -> None:
    command = [sys.executable, "-m", "datasync_ingest", "simulate-api", "--events", "10", "--port", "0"]
    with subprocess.Popen(command, cwd=TOP, env=clean_environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("The API is at http://127.0.0.1:")
        process.send_signal(signum)
        assert process.wait(10) == 0


def test_what_cannot_be_is_said_in_a_sentence_with_exit_code_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for flags, words in [
            (["--port", str(taken.getsockname()[1])], "cannot be listened on"),
            (["--fault", "nonsense=1"], "is not a known fault"),
            (["--envelope", "round"], "is not one of nested, flat"),
            (["--omit", "id"], "cannot be left out"),
        ]:
            command = [sys.executable, "-m", "datasync_ingest", "simulate-api", "--events", "10", *flags]
            done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
            assert done.returncode == 2, done.stderr
            assert words in done.stderr
            assert "Traceback" not in done.stderr
