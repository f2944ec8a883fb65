"""What a run logs: its first and last line, fields on every line, no secret that a server repeats."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from datasync_ingest.simulator.process import SimulatorProcess
from tests.harness import Workplace

Start = Callable[..., SimulatorProcess]
KEY = 'k+/e"y'
OPAQUE = "opaque.0123456789abcdef/0123456789+abcdef=="
PLAIN = "eyJpZCI6ImUxIiwidHMiOjE3NjkwMDAwMDAwMDAsInYiOjIsImV4cCI6NDA3MDkwODgwMDAwMH0"


class Parrot(BaseHTTPRequestHandler):
    """Serves a page of one event, then refuses the next with all that it was asked, by header, path and text."""

    cursor = ""
    ends = True

    def do_GET(self) -> None:
        self.server.asked += 1  # type: ignore[attr-defined]
        asked = self.server.asked  # type: ignore[attr-defined]
        if asked in (2, 3) or (asked > 3 and not self.ends):
            self._refuse(503 if asked == 2 else 404 if not self.ends else 500, f"request-{asked}\n")
            return
        last = asked > 3
        page = {
            "data": [{"id": f"e{asked}", "timestamp": 1_769_000_000_000 - asked}],
            "pagination": {"hasMore": not last, "nextCursor": None if last else self.cursor},
            "meta": {"total": 2, "returned": 1, "requestId": f"page-{asked}"},
        }
        self._send(200, json.dumps(page).encode())

    def _refuse(self, status: int, request: str) -> None:
        text = f"cannot GET {self.path} for {KEY}\x1b[31m, cursor {self.cursor}, see ?api_key={KEY}\n at line 7"
        body = {"error": {"code": "PARROT", "message": text}, "requestId": request}
        self._send(status, json.dumps(body).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def parrot(cursor: str, *, ends: bool = True) -> Iterator[str]:
    handler = type("OneParrot", (Parrot,), {"cursor": cursor, "ends": ends})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked = 0  # type: ignore[attr-defined]
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def require_nothing_told(text: str, cursor: str) -> None:
    assert KEY not in text
    assert json.dumps(KEY)[1:-1] not in text
    assert cursor[:7] not in text
    assert "\x1b" not in text


@pytest.mark.parametrize(("log_format", "cursor"), [("text", OPAQUE), ("json", PLAIN)])
def test_a_server_that_repeats_key_and_cursor_brings_neither_into_a_line(
    log_format: str, cursor: str, workplace: Workplace
) -> None:
    workplace.environment |= {"TARGET_API_KEY": KEY, "LOG_FORMAT": log_format}
    with parrot(cursor) as url:
        ended = workplace.ingest("--debug", API_BASE_URL=url)
    require_nothing_told(ended.err + ended.out, cursor)
    assert f"{cursor[:6]}" in ended.err, "it is shortened, not hidden"
    assert "cannot GET /api/v1/events" in ended.err
    with closing(sqlite3.connect(workplace.ledger)) as connection:
        history = connection.execute("SELECT message FROM incidents UNION SELECT detail FROM requests").fetchall()
    require_nothing_told(repr(history), cursor)
    if log_format == "text":
        assert re.search(r"warning: page \w{8}/1: .*503 PARROT .* \[run 1, attempt 1, request request-2\]", ended.err)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nor_into_the_sentence_that_ends_the_run(log_format: str, workplace: Workplace) -> None:
    workplace.environment |= {"TARGET_API_KEY": KEY, "LOG_FORMAT": log_format}
    with parrot(OPAQUE, ends=False) as url:
        ended = workplace.ingest("--debug", API_BASE_URL=url, expect=3)
    require_nothing_told(ended.err + ended.out, OPAQUE)
    assert "is not the events endpoint of this API: it answered 404 PARROT" in ended.err
    if log_format == "json":
        *_, end, sentence = map(json.loads, ended.err.splitlines())
        assert (end["run"], end["exit_code"]) == (1, 3)
        assert (sentence["level"], sentence["exit_code"]) == ("error", 3)
        assert "Check API_BASE_URL" in sentence["hint"]


def test_each_line_of_a_run_is_an_object_with_what_it_is_about(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=3_000, fault=["503@3", "429@5"])
    flags = ("--batch-size", "500", "--stop-grace", "7")
    ended = workplace.ingest(*flags, API_BASE_URL=api.url, LOG_FORMAT="json")
    lines = [json.loads(line) for line in ended.err.splitlines()]
    assert all(line["run"] == 1 for line in lines)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z", line["time"]) for line in lines)
    first, last = lines[0], lines[-1]
    assert first["source"] == api.url
    assert first["settings"] == {
        "WORKER_CONCURRENCY": "1",
        "BATCH_SIZE": "500",
        "STOP_GRACE": "7.0",
        "LOG_FORMAT": "json",
    }
    assert (last["exit_code"], last["ending"]) == (0, "complete")
    faults = [line for line in lines if line["level"] == "warning"]
    assert [(line["attempt"], line["page"].split("/")[1]) for line in faults] == [(1, "2"), (1, "3")]


def test_the_first_and_the_last_line_of_a_run_say_which_and_what(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=50)
    workplace.ingest(API_BASE_URL=api.url)
    ended = workplace.ingest("--batch-size", "10", API_BASE_URL=api.url)
    first, *_, last = ended.err.splitlines()
    where = re.escape(f"{api.url} into the PostgreSQL that you named; data directory {workplace.directory / 'data'}")
    assert re.fullmatch(rf"\d\d:\d\d:\d\d run 2 begins: {where}; WORKER_CONCURRENCY=1, BATCH_SIZE=10", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d run 2 ends after \d+ s with exit code 0", last)
