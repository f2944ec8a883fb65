"""Where a run is struck: the simulated API, PostgreSQL, the proxy before it, and the run's own processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg2
from psycopg2.extensions import cursor as Cursor

from datasync_ingest.simulator.process import SimulatorError
from tests.cluster import Cluster
from tests.faults.proxy import Proxy
from tests.faults.truth import Truth, first_difference
from tests.harness import API_KEY, Workplace, alive, clean_environment, until
from tests.simulators import ForkedSimulator

SILENT_S = 0.1  # after the last fault was switched off, requests that had drawn one are through
COME_BACK_TRIES = 20


class Api:
    """A simulator that can be killed and comes back at the same address with the same events."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = {"api-key": API_KEY, "rate-limit": 0, **options}
        self._process = ForkedSimulator(self._options)
        self._lock = threading.RLock()
        self._rules: dict[str, str] = {}
        self._damaged: set[tuple[str, bytes]] = set()
        self._twice = 0
        self.url = ""  # known from its first start, also while it is away

    def __enter__(self) -> Api:
        self._process.__enter__()
        self.url = self._process.url
        self._options["port"] = urlsplit(self.url).port
        return self

    def __exit__(self, *_: object) -> None:
        self._process.__exit__()

    def set_fault(self, name: str, rule: str | None) -> None:
        """Switches a fault on, or off with None."""
        with self._lock:
            self._rules.pop(name, None)
            if rule is not None:
                self._rules[name] = rule
            self._process.options(fault=list(self._rules.values()))

    def calm(self) -> None:
        """Switches every fault off; no event is new from here on."""
        with self._lock:
            self._rules.clear()
            self._process.options(fault=[], grow_per_page=0)

    def crash(self, away_s: float) -> None:
        """Kills it and starts it again after so many seconds. What it was to tell is asked for before."""
        with self._lock:
            self.calm()
            time.sleep(SILENT_S)
            self._damaged.update(self._process.damaged())
            self._twice += self._process.counters()["pages_fetched_twice"]
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.__exit__()
            time.sleep(away_s)
            self._come_back()

    def _come_back(self) -> None:
        """Again for a while: an outgoing connection of another program may have the port."""
        for left in reversed(range(COME_BACK_TRIES)):
            self._process = ForkedSimulator(self._options)
            try:
                self._process.__enter__()
                return
            except SimulatorError:
                if not left:
                    raise
                time.sleep(0.5)

    @property
    def grows(self) -> bool:
        return bool(self._options.get("grow-per-page"))

    @property
    def can_crash(self) -> bool:
        """Whether it is the same after a crash: not where it must know which events and cursors it has given out."""
        return not self.grows and self._options.get("renewed-cursors", "accept") == "accept"

    def fetched_twice(self) -> int:
        return self._twice + int(self._process.counters()["pages_fetched_twice"])

    def served(self, fault: str) -> int:
        """How many answers have had it since the last crash."""
        return int(self._process.counters()["faults"].get(fault, 0))

    def truth(self) -> Truth:
        return Truth(self._process.events(), sorted(self._damaged.union(self._process.damaged())))


@dataclass
class Run:
    """One `bin/ingest` in a session of its own; its output goes into files."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def members(self) -> list[psutil.Process]:
        """Its processes, those that outlived their parent too."""
        found = []
        for one in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getsid(one.pid) == self.process.pid:
                    found.append(one)
        return alive(found)

    def workers(self) -> list[psutil.Process]:
        found = []
        for one in self.members():
            with suppress(psutil.NoSuchProcess):
                if "spawn_main" in " ".join(one.cmdline()):
                    found.append(one)
        return found

    def send(self, signum: int, *, group: bool = False) -> None:
        """Does nothing when it has ended already."""
        with suppress(ProcessLookupError):
            if not self.ended:
                (os.killpg if group else os.kill)(self.process.pid, signum)


@dataclass
class Site:
    """All that a strike can reach. `conninfo` is PostgreSQL's own, past the proxy; `environment` has the ways there."""

    directory: Path
    api: Api
    api_proxy: Proxy
    conninfo: str
    pid_file: Callable[[], Path]
    revive: Callable[[], None]  # returns when PostgreSQL runs again, or at once where that is the run's own business
    proxy: Proxy | None = None
    environment: dict[str, str] = field(default_factory=dict)
    flags: Sequence[str] = ()
    serving: Callable[[], AbstractContextManager[object]] = nullcontext  # while it is open, PostgreSQL runs
    runs: list[Run] = field(default_factory=list)
    database_lock: threading.Lock = field(default_factory=threading.Lock)
    cluster: Cluster | None = None  # whose workers write the pages

    def workers(self) -> list[psutil.Process]:
        """The processes that write pages for the run."""
        if self.cluster is None:
            return self.run.workers()
        pids = [pid for workers in self.cluster.workers for pid in workers.pids]
        return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]

    @property
    def run(self) -> Run:
        """The one that was started last."""
        return self.runs[-1]

    @property
    def workplace(self) -> Workplace:
        settings = {"TARGET_API_KEY": API_KEY, **self.environment}
        return Workplace(self.directory, settings)

    def start(self, *words: str) -> Run:
        workplace = self.workplace
        output = self.directory / f"run-{len(self.runs) + 1}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "datasync_ingest", "ingest", "--debug", *self.flags, *words],
                cwd=self.directory,
                env=clean_environment(**workplace.environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.runs.append(Run(process, output))
        return self.run

    def at_database(self, action: Callable[[Cursor], None]) -> None:
        """Does something in PostgreSQL, in autocommit, unless that is away or goes away meanwhile."""
        with (
            suppress(psycopg2.Error),
            closing(psycopg2.connect(self.conninfo, application_name="strike", connect_timeout=5)) as connection,
        ):
            connection.autocommit = True
            with connection.cursor() as cursor:
                action(cursor)

    def at_api(self, action: Callable[[], object]) -> None:
        """Does something at the simulator, unless that is away."""
        with suppress(SimulatorError, OSError, HTTPException):
            action()

    def require_gone(self, run: Run, timeout_s: float = 6) -> None:
        """Raises AssertionError where processes of a run that has ended live on."""
        until(lambda: not run.members(), timeout_s=timeout_s, what=f"the end of every process of {run.output.name}")

    def difference(self) -> str | None:
        """See `first_difference`; called when a run has said that it is complete and no fault is on."""
        ended = self.workplace.run("export-ids", "-o", "-")
        if ended.code == 5 and " rejected)" in ended.err:  # it says so, and wants to be told that this is all right
            ended = self.workplace.run("export-ids", "-o", "-", "--incomplete")
        if ended.code != 0:
            return f"bin/export-ids ended with exit code {ended.code}: {ended.err}"
        with self.serving():
            return first_difference(self.api.truth(), ended.out.splitlines(), self.conninfo)

    def end(self) -> None:
        """Ends what is left of the runs, by id."""
        for run in self.runs:
            for one in run.members():
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            run.process.wait()
