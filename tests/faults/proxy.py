"""A proxy before PostgreSQL's socket that cuts connections, stalls, and keeps the answer to a COMMIT to itself."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

_BLOCK_BYTES = 1 << 16
_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"  # the whole message, as psycopg2 sends it
PORT = 5432


class Proxy:
    """A context manager: listens on a Unix socket in `folder` and forwards to the one in `target`."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.folder = folder
        self._target = target / f".s.PGSQL.{PORT}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self.flowing = threading.Event()
        self.flowing.set()
        self._keep_commit = False
        self.commit_kept = threading.Event()

    def __enter__(self) -> Proxy:
        self.folder.mkdir(exist_ok=True)
        self._listener.bind(str(self.folder / f".s.PGSQL.{PORT}"))
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
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(str(self._target))
                except OSError:
                    server.close()
                    client.close()
                    continue
                link = _Link(self, client, server)
                with self._lock:
                    self._links.add(link)
                link.start()


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
