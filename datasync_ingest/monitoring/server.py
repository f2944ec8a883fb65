"""A small web server in threads of its own, which ends with the run; neither waits for the other."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from ..errors import ConfigurationError

_POLL_S = 0.1  # how long the end of the run waits for the server at most
_CLIENT_S = 10.0  # a client that sends nothing for so long is left

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A GET: the headers that a page may want to know, None where they were not sent."""

    accept: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent."""

    status: int
    content_type: str
    body: bytes


Page = Callable[[Request], Answer]


@contextmanager
def serving(host: str, port: int, pages: Mapping[str, Page]) -> Iterator[str]:
    """Serves each page at its path while the block runs; yields the URL below which they are. 0 takes a free port.

    Raises ConfigurationError where that address cannot be had.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        server = _Server(family, (str(address[0]), port), pages)
    except OSError as error:
        raise ConfigurationError(
            f"METRICS_PORT={port} cannot be listened on at {host}: {error.strerror}.",
            hint="Choose another port (0 takes a free one) or address, or leave it out. Nothing was begun.",
        ) from None
    with closing(server):
        thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), name="metrics", daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a client that hangs must not hold up the end of the process ...
    block_on_close = False  # ... nor the end of the run

    def __init__(self, family: socket.AddressFamily, address: tuple[str, int], pages: Mapping[str, Page]) -> None:
        self.address_family = family
        self.pages = pages
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without HTTPServer's look-up of the host's name, which may take as long as name servers like."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def url(self) -> str:
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}"

    def close(self) -> None:
        self.server_close()

    def handle_error(self, *_: Any) -> None:
        """A client that leaves in the middle is no news."""
        _log.debug("a client of the metrics failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = _CLIENT_S

    def do_GET(self) -> None:
        answer = self._answer()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self) -> Answer:
        assert isinstance(self.server, _Server)
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            return Answer(404, "text/plain; charset=utf-8", f"There is: {', '.join(self.server.pages)}\n".encode())
        return page(Request(accept=self.headers.get("Accept")))

    def log_message(self, *_: object) -> None:
        """A scrape every few seconds is no news."""
