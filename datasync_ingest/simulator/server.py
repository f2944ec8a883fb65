"""Sockets: HTTP/1.1 with keep-alive over the service, a thread a connection."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qsl, urlsplit

from .answers import Answer, Request
from .hostile import gzipped
from .service import Service

_BLOCK_BYTES = 1 << 16
_WORTH_COMPRESSING_BYTES = 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: the kernel sends RST and not FIN


class Server(ThreadingHTTPServer):
    """Listens when made; `serve_forever` serves."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, service: Service, host: str, port: int) -> None:
        self.service = service
        super().__init__((host, port), _handler_of(service))
        name = f"[{host}]" if ":" in host else host
        self.origin = service.world.origin = f"http://{name}:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is no error of ours; anything else is told as usual."""
        import sys

        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _handler_of(service: Service) -> type[_Handler]:
    class Handler(_Handler):
        pass

    Handler.service = service
    return Handler


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    service: ClassVar[Service]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    rbufsize = _BLOCK_BYTES
    _is_new = True  # no request has come yet

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the counters tell more."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self._body()
        request = Request(
            method=self.command,
            path=parts.path,
            target=self.path,
            query=dict(parse_qsl(parts.query)),
            headers=self.headers,
            body=body,
            opens=self._is_new,
        )
        self._is_new = False
        answer = self.service.answer(request)
        if answer.delay_s:
            time.sleep(answer.delay_s)
        if answer.silent:
            self._reset()
        elif answer.early:
            self._send_early(answer, body)
        else:
            _drain(body)  # what the service did not want, so that the connection can go on
            self._send(answer)

    def _body(self) -> Iterator[bytes]:
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0 and (block := self.rfile.read(min(left, _BLOCK_BYTES))):
            left -= len(block)
            yield block

    def _send_early(self, answer: Answer, body: Iterator[bytes]) -> None:
        """As nginx does: the answer, the end of our side, and only then what the client is still sending."""
        answer.headers["Connection"] = "close"
        self._send(answer)
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            _drain(body)
        self.close_connection = True

    def _send(self, answer: Answer) -> None:
        parts = self._encoded(answer)
        size = sum(map(len, parts))
        headers = {
            "Server": "nginx",
            "Content-Type": answer.content_type,
            "Content-Length": str(size),
            "Vary": "Accept-Encoding",
            **({"Content-Encoding": answer.encoding} if answer.encoding == "gzip" else {}),
            **answer.headers,
        }
        lines = [f"HTTP/1.1 {answer.status} {self.responses.get(answer.status, ('Unknown',))[0]}"]
        lines += [f"{name}: {text}" for name, text in headers.items()]
        self.connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        if answer.reset:
            self._reset_after(parts, size // 2)
            return
        for part in parts:
            self.connection.sendall(part)

    def _encoded(self, answer: Answer) -> Sequence[bytes | memoryview]:
        """The body as it goes over the wire; a cut one is cut before it is compressed, as a crashed server would."""
        parts = _first(answer.parts, answer.size // 2) if answer.cut else answer.parts
        accepts = "gzip" in self.headers.get("Accept-Encoding", "")
        if answer.encoding or not accepts or not self.service.world.options.gzip:
            return parts
        if answer.size < _WORTH_COMPRESSING_BYTES:
            return parts
        answer.encoding = "gzip"
        return [gzipped(*parts)]

    def _reset_after(self, parts: Sequence[bytes | memoryview], size: int) -> None:
        with contextlib.suppress(OSError):
            for part in _first(parts, size):
                self.connection.sendall(part)
        self._reset()

    def _reset(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.close_connection = True


def _drain(body: Iterator[bytes]) -> None:
    for _ in body:
        pass


def _first(parts: Sequence[bytes | memoryview], size: int) -> list[bytes | memoryview]:
    """The first `size` bytes of the parts."""
    taken: list[bytes | memoryview] = []
    for part in parts:
        taken.append(part[:size])
        size -= len(taken[-1])
    return taken
