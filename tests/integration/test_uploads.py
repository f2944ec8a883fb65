"""One POST over a real socket: answers that come early, late or never, and what is sent again and what is not."""

from __future__ import annotations

import io
import os
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from datasync_ingest.api import client
from datasync_ingest.api.client import ApiClient, Response, Upload
from datasync_ingest.api.outcomes import Fault, NotConnected
from datasync_ingest.api.submissions import SubmissionApi
from datasync_ingest.errors import ApiUnreachableError, SubmissionUnknownError
from datasync_ingest.settings import Secret, Settings
from datasync_ingest.simulator.process import SimulatorProcess
from tests.harness import API_KEY

MIB = 2**20
REPOSITORY = "https://github.com/me/repo"
REFUSED = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
Serve = Callable[[socket.socket], None]


@contextmanager
def serving(serve: Serve, *, port: int = 0) -> Iterator[str]:
    """Does `serve` with each connection, one after the other; gives the server's URL."""
    with closing(socket.create_server(("127.0.0.1", port))) as listening:
        thread = threading.Thread(target=_accept, args=(listening, serve))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listening: socket.socket, serve: Serve) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            serve(connection)


def post(url: str, size: int, shown: Callable[[int], None] = lambda _: None) -> Response:
    with closing(ApiClient(Settings(Secret(API_KEY), api_base_url=url))) as subject:
        return subject.post(url, {"github_repo": REPOSITORY}, Upload(io.BytesIO(b"x" * size), size, shown))


def drained(connection: socket.socket) -> int:
    return sum(len(block) for block in iter(lambda: connection.recv(MIB), b""))


def test_the_body_has_its_length_its_type_and_the_key() -> None:
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        heard.append(connection.recv(MIB))
        while not heard[-1].endswith(b"xxx"):
            heard.append(connection.recv(MIB))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with serving(serve) as url:
        assert post(url, 3).body == b"{}"
    head, body = b"".join(heard).split(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /?github_repo=https%3A%2F%2Fgithub.com%2Fme%2Frepo HTTP/1.1"
    assert {"Content-Length: 3", "Content-Type: text/plain", f"X-API-Key: {API_KEY}"} <= set(lines)
    assert not any(line.startswith("Transfer-Encoding") for line in lines)
    assert body == b"xxx"


def test_an_answer_before_the_end_of_the_body_is_read() -> None:
    """As nginx refuses: it answers, ends its side, and takes the rest."""

    def serve(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(REFUSED)
        connection.shutdown(socket.SHUT_WR)
        drained(connection)

    with serving(serve) as url:
        assert post(url, 8 * MIB).status == 413


def test_an_answer_of_a_server_that_takes_no_more_is_read_or_is_a_fault() -> None:
    """Closing with bytes unread resets the connection; whether the answer is still there is up to the kernels."""

    def serve(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(REFUSED)

    with serving(serve) as url:
        try:
            assert post(url, 8 * MIB).status == 413
        except NotConnected:
            raise
        except Fault:
            pass


@pytest.mark.parametrize("read", [1000, 4 * MIB])
def test_a_connection_that_breaks_is_a_fault_and_never_counts_as_not_made(read: int) -> None:
    def serve(connection: socket.socket) -> None:
        left = read
        while left > 0:
            left -= len(connection.recv(min(left, MIB)))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with serving(serve) as url, pytest.raises(Fault) as raised:
        post(url, 8 * MIB)
    assert not isinstance(raised.value, NotConnected)


@pytest.mark.parametrize("limit", ["STALL_TIMEOUT_S", "ANSWER_TIMEOUT_S"])
def test_a_server_that_takes_nothing_or_says_nothing_is_waited_for_and_then_a_fault(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, limit, 0.3)
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        if limit == "ANSWER_TIMEOUT_S":
            connection.settimeout(0.1)
            with pytest.raises(TimeoutError):
                drained(connection)
        over.wait(30)

    with serving(serve) as url:
        began = time.monotonic()
        try:
            with pytest.raises(Fault, match="timed out") as raised:
                post(url, 32 * MIB if limit == "STALL_TIMEOUT_S" else 1000)
        finally:
            over.set()
        assert not isinstance(raised.value, NotConnected)
        assert time.monotonic() - began < 10


def test_nobody_listening_and_no_such_host_mean_that_nothing_went_out() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", "http://no-such-host.invalid"):
        with pytest.raises(NotConnected):
            post(url, 10)


def test_a_large_file_is_never_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "ids"
    path.touch()
    os.truncate(path, 64 * MIB)

    def serve(connection: socket.socket) -> None:
        left, buffer = 64 * MIB, bytearray(MIB)
        while left > 0:
            left -= connection.recv_into(buffer)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    settings = Settings(Secret(API_KEY))
    with serving(serve) as url, path.open("rb") as file, closing(ApiClient(settings)) as subject:
        tracemalloc.start()
        try:
            subject.post(url, {}, Upload(file, 64 * MIB, lambda _: None))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 4 * MIB


# --- with the endpoint ---


def test_a_connection_that_is_refused_is_made_again_and_the_submission_arrives_once() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    waits: list[float] = []
    with ExitStack() as opened:

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                running.append(opened.enter_context(SimulatorProcess({"port": port, "events": 10, "api-key": API_KEY})))

        running: list[SimulatorProcess] = []
        settings = Settings(Secret(API_KEY), api_base_url=f"http://127.0.0.1:{port}/api/v1")
        with SubmissionApi(settings, sleep=sleep) as api:
            assert api.submit(REPOSITORY, Upload(io.BytesIO(b"a\nb\n"), 4, lambda _: None)).status == 200
        assert waits == [0.5, 1, 2]
        assert running[0].counters()["requests"]["submit"] == 1


def test_patience_with_a_server_that_is_away_ends_and_says_that_no_try_is_gone() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    settings = Settings(Secret(API_KEY), api_base_url=f"http://127.0.0.1:{port}/api/v1")
    with SubmissionApi(settings, clock=lambda: now[0], sleep=sleep) as api:
        with pytest.raises(ApiUnreachableError, match="no try is gone"):
            api.submit(REPOSITORY, Upload(io.BytesIO(b"a\n"), 2, lambda _: None))
        with pytest.raises(ApiUnreachableError, match="No list of submissions"):
            api.listing()


def test_a_connection_that_breaks_is_not_made_again() -> None:
    connections = []

    def serve(connection: socket.socket) -> None:
        connections.append(connection.recv(1000))

    with (
        serving(serve) as url,
        SubmissionApi(Settings(Secret(API_KEY), api_base_url=url)) as api,
        pytest.raises(SubmissionUnknownError, match="of 8,388,608 bytes"),
    ):
        api.submit(REPOSITORY, Upload(io.BytesIO(b"x" * 8 * MIB), 8 * MIB, lambda _: None))
    assert len(connections) == 1
