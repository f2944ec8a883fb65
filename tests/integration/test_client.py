"""One request over a real socket: bodies that come by the byte, are compressed to nothing, or end too early."""

from __future__ import annotations

import gzip
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from datasync_ingest.api import client
from datasync_ingest.api.client import ApiClient, Ask
from datasync_ingest.api.outcomes import Answered, Fault, TooLarge
from datasync_ingest.settings import Secret, Settings

MIB = 2**20
Serve = Callable[[BaseHTTPRequestHandler], None]


def _handler(serve: Serve) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            serve(self)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def serving(serve: Serve, *, most: int = 4 * MIB) -> Iterator[Callable[[], bytes]]:
    """A server that does `serve` for each request; gives a function that asks it and returns the body."""

    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(serve)) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        settings = Settings(Secret("key-for-tests"), api_base_url=url, max_page_bytes=most)
        try:
            with closing(ApiClient(settings)) as subject:
                yield lambda: subject.get(url, {}).body
        finally:
            server.shutdown()
            thread.join()


def answer(body: bytes, *, status: int = 200, length: int | None = None, encoding: str = "") -> Serve:
    def serve(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        if encoding:
            handler.send_header("Content-Encoding", encoding)
        handler.end_headers()
        handler.wfile.write(body)

    return serve


@pytest.mark.parametrize("size", [0, 1, 1000, MIB, 3 * MIB + 7, 4 * MIB])
def test_a_body_comes_as_it_is_plain_or_compressed(size: int) -> None:
    body = bytes(index % 251 for index in range(size))
    with serving(answer(body)) as plain:
        assert plain() == body
    with serving(answer(gzip.compress(body, 1), encoding="gzip")) as packed:
        assert packed() == body
    halves = gzip.compress(body[: size // 2]) + gzip.compress(body[size // 2 :])
    with serving(answer(halves, encoding="gzip")) as in_members:
        assert in_members() == body


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_a_body_that_is_too_large_is_a_fault_of_its_own(encoding: str) -> None:
    body = b" " * (4 * MIB + 1)
    with serving(answer(gzip.compress(body) if encoding else body, encoding=encoding)) as ask, pytest.raises(TooLarge):
        ask()


def test_an_error_that_is_too_large_says_nothing_of_the_page() -> None:
    with serving(answer(b" " * 5 * MIB, status=502)) as ask, pytest.raises(Answered) as raised:
        ask()
    assert not isinstance(raised.value, TooLarge)


def test_a_bomb_is_inflated_a_chunk_at_a_time() -> None:
    bomb = gzip.compress(b" " * 200 * MIB)
    with serving(answer(bomb, encoding="gzip"), most=8 * MIB) as ask:
        tracemalloc.start()
        try:
            with pytest.raises(TooLarge):
                ask()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 20 * MIB


def test_a_large_body_is_held_once() -> None:
    with serving(answer(b"x" * 32 * MIB), most=64 * MIB) as ask:
        ask()
        tracemalloc.start()
        try:
            assert len(ask()) == 32 * MIB
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 48 * MIB


def test_a_body_that_ends_too_early_is_a_fault() -> None:
    with serving(answer(b"half", length=8)) as ask, pytest.raises(Fault, match="broke off"):
        ask()


def test_a_body_that_comes_by_the_byte_ends_by_the_time_for_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BODY_TIMEOUT_S", 0.2)
    over = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        try:
            while not over.wait(0.02):
                handler.wfile.write(b" ")
        except ConnectionError:
            pass

    with serving(drip) as ask:
        began = time.monotonic()
        try:
            with pytest.raises(Fault, match="took longer"):
                ask()
        finally:
            over.set()
        assert time.monotonic() - began < 10


def test_a_connection_that_is_refused_is_said_in_two_words() -> None:
    settings = Settings(Secret("key-for-tests"), api_base_url="http://127.0.0.1:9")
    with closing(ApiClient(settings)) as subject, pytest.raises(Fault, match=r"^Connection refused$"):
        subject.get(settings.api_base_url, {})


def test_a_request_without_the_key_carries_none_and_counts_its_bytes() -> None:
    seen: list[str | None] = []

    def serve(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers.get("X-API-Key"))
        answer(gzip.compress(b" " * MIB), encoding="gzip")(handler)

    with serving(serve) as keyed:
        keyed()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(serve)) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        settings = Settings(None, api_base_url=f"http://127.0.0.1:{server.server_port}")
        with closing(ApiClient(settings)) as subject:
            got = subject.send(Ask(settings.api_base_url, keyed=False))
        thread.join()
    assert seen == ["key-for-tests", None]
    assert len(got.body) == MIB
    assert got.wire_bytes == len(gzip.compress(b" " * MIB))
