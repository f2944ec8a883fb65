"""A proxy before PostgreSQL or the API that cuts connections, stalls, and keeps the answer to a COMMIT to itself."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_BLOCK_BYTES = 1 << 16
_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"  # the whole message, as psycopg2 sends it
PORT = 5432


class Proxy:
    """A context manager: what comes to `listener`, a bound socket, is forwarded to what `connect` gives."""

    def __init__(self, listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
        self._listener = listener
        self._connect = connect
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self.flowing = threading.Event()
        self.flowing.set()
        self._keep_commit = False
        self.commit_kept = threading.Event()

    def __enter__(self) -> Proxy:
        self._listener.listen(64)
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Cuts all connections, in the middle of whatever they carry."""
        self.flowing.set()
        with self._lock:
            links = list(self._links)
        for link in links:
            link.close()

    def stall(self, seconds: float) -> None:
        """Carries nothing for so long; connections stay."""
        self.flowing.clear()
        time.sleep(seconds)
        self.flowing.set()

    def keep_answer_of_commit(self, timeout_s: float) -> bool:
        """Forwards the next COMMIT and cuts that connection when its answer comes; whether there was one in time."""
        self.commit_kept.clear()
        self._keep_commit = True
        kept = self.commit_kept.wait(timeout_s)
        self._keep_commit = False
        return kept

    def takes_commit(self, data: bytes) -> bool:
        """Whether these bytes end with the COMMIT whose answer nobody shall see."""
        with self._lock:
            taken = self._keep_commit and data.endswith(_COMMIT)
            self._keep_commit = self._keep_commit and not taken
        return taken

    def forget(self, link: _Link) -> None:
        with self._lock:
            self._links.discard(link)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = self._connect()
                except OSError:
                    client.close()
                    continue
                link = _Link(self, client, server)
                with self._lock:
                    self._links.add(link)
                link.start()


def before_postgres(folder: Path, target: Path) -> Proxy:
    """Between a new socket in `folder` and PostgreSQL's in `target`."""

    def connect() -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(target / name))
        except OSError:
            server.close()
            raise
        return server

    name = f".s.PGSQL.{PORT}"
    folder.mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / name))
    return Proxy(listener, connect)


def before_api(port: int) -> tuple[Proxy, int]:
    """Between a new port of the loopback interface, which is returned, and the API's."""
    listener = socket.create_server(("127.0.0.1", 0))
    return Proxy(listener, lambda: socket.create_connection(("127.0.0.1", port))), listener.getsockname()[1]


class _Link:
    """One connection through the proxy: a thread for each direction; the end of either is the end of both."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._keeps_answer = False

    def start(self) -> None:
        for pump in (self._questions, self._answers):
            threading.Thread(target=pump, name="proxy", daemon=True).start()

    def close(self) -> None:
        self._proxy.forget(self)
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # the threads that read from them wake and close them

    def _questions(self) -> None:
        with suppress(OSError), self._client:
            while data := self._client.recv(_BLOCK_BYTES):
                self._proxy.flowing.wait()
                self._keeps_answer = self._keeps_answer or self._proxy.takes_commit(data)
                self._server.sendall(data)
        self.close()

    def _answers(self) -> None:
        with suppress(OSError), self._server:
            while data := self._server.recv(_BLOCK_BYTES):
                self._proxy.flowing.wait()
                if self._keeps_answer:
                    self._proxy.commit_kept.set()
                    break
                self._client.sendall(data)
        self.close()
