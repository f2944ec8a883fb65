"""A simulator in a process of its own, and what can be asked of it while it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from .cli import READY

_STOP_S = 10.0
_ASK_S = 120.0  # seconds; the ids of 3,000,000 events take a few


class SimulatorError(Exception):
    """Raised when the process does not start, or refuses what it is asked."""


class SimulatorProcess:
    """A context manager: the simulator answers at `url` while the block runs, and never outlives this process.

    `options` are those of `bin/simulate-api`, by flag without the dashes; a list repeats a flag.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = {"port": 0, **options}
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> SimulatorProcess:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __package__, *self._flags(), "--until-stdin-ends"],
            stdin=subprocess.PIPE,  # its end tells the child of our death, by whatever cause
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C in our terminal is for us: the API must outlive the requests under way
        )
        try:
            self.url = self._first_line().removeprefix(READY)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with process:
            with suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()

    @property
    def pid(self) -> int:
        """Raises SimulatorError where it does not run."""
        if self._process is None:
            raise SimulatorError("the simulator does not run")
        return self._process.pid

    def counters(self) -> dict[str, Any]:
        """See `Counters.as_json`."""
        found: dict[str, Any] = json.loads(self._ask("GET", "counters"))
        return found

    def reset_counters(self) -> None:
        self._ask("POST", "reset")

    def options(self, **options: Any) -> None:
        """Changes options of the running simulator, by name; a list for `fault`."""
        texts = {name: value if isinstance(value, list) else str(value) for name, value in options.items()}
        self._ask("POST", "options", json.dumps(texts))

    def ids(self) -> list[str]:
        """Every id that there is now, newest event first."""
        return self._ask("GET", "ids").decode().splitlines()

    def events(self) -> list[dict[str, Any]]:
        """Every event that there is now, as it is served without faults, newest first."""
        return [json.loads(line) for line in self._ask("GET", "events").splitlines()]

    def damaged(self) -> list[tuple[str, bytes]]:
        """Every event that was served damaged, in each of its forms: its true id and the text."""
        lines = map(json.loads, self._ask("GET", "damaged").splitlines())
        return [(line["id"], line["text"].encode("latin-1")) for line in lines]

    def _flags(self) -> list[str]:
        pairs = [(name, one) for name, value in self._options.items() for one in _listed(value)]
        return [f"--{name}={value}" for name, value in pairs]

    def _first_line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line.startswith(READY):
            raise SimulatorError(f"the simulator ended with exit code {self._process.wait()} before it answered")
        return line

    def _ask(self, method: str, what: str, body: str | None = None) -> bytes:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=_ASK_S)
        try:
            connection.request(method, f"/simulator/{what}", body=body)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise SimulatorError(content.decode(errors="replace").strip())
        return content


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
