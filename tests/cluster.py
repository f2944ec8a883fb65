"""A Dask cluster under test: a scheduler and bin/worker as processes, as a user starts them, where they are to run."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from distributed.core import rpc
from distributed.security import Security
from psycopg2.extensions import parse_dsn

from datasync_ingest.pools.dask_worker import RESOURCE
from tests.harness import Database, alive, clean_environment, until

_SCHEDULERS = {"DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s"}  # as bin/scheduler says


class Workers:
    """One bin/worker and its worker processes."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.log = log
        self._family: dict[int, psutil.Process] = {}

    @property
    def pids(self) -> list[int]:
        """Of the worker processes, youngest last; a nanny's helper of multiprocessing is none."""
        found = [one for one in psutil.Process(self.process.pid).children() if "spawn_main" in " ".join(one.cmdline())]
        self._family.update({one.pid: one for one in found})
        return [one.pid for one in found]

    def end(self) -> None:
        """At once."""
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            self.process.wait()
            for one in [*family, *self._family.values()]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            until(lambda: not alive(family), what="the workers' end")


class Cluster:
    """Processes in `folder`, whose logs are there too; `host` is the scheduler's address, `prefix` comes before its
    command (`ip netns exec NAME`). Nothing of it is left after the block.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        scheme: str = "tcp",
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        security: Security | None = None,
    ) -> None:
        """`environment` is that of all its processes; `security` is for the questions of the test itself."""
        self._security = security
        self.folder = folder
        self._host = host
        self._scheme = scheme
        self._prefix = tuple(prefix)
        self._environment = dict(environment or {})
        self._workers: list[Workers] = []
        self.address = ""
        self.scheduler: subprocess.Popen[str] | None = None

    def __enter__(self) -> Cluster:
        self.start_scheduler()
        return self

    def __exit__(self, *_: object) -> None:
        for workers in self._workers:
            workers.end()
        self.kill_scheduler()

    @property
    def workers(self) -> list[Workers]:
        """All that were begun, those that have ended too."""
        return list(self._workers)

    def start_scheduler(self, *words: str) -> None:
        """At the same address as before, where there was one."""
        told = self.folder / "scheduler.json"
        told.unlink(missing_ok=True)
        port = self.address.rpartition(":")[2] or "0"
        where = ("--host", f"{self._scheme}://{self._host}", "--port", port)
        files = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(told))
        module = ("-m", "distributed.cli.dask_scheduler")
        self.scheduler = self._started("scheduler", *module, *where, *files, *words, prefix=self._prefix, **_SCHEDULERS)
        self.address = until(lambda: _address_in(told), what="the scheduler")

    def kill_scheduler(self) -> None:
        if self.scheduler is not None:
            self.scheduler.kill()
            self.scheduler.wait()

    def start_workers(
        self, database: Database | str, count: int = 1, *words: str, prefix: Sequence[str] = (), **environment: str
    ) -> Workers:
        """bin/worker with a database, at work when this returns."""
        before = len(self.at_work())
        workers = self.begin_workers(database, count, *words, prefix=prefix, **environment)
        until(lambda: self.has_started(workers, before + count), what="the workers")
        return workers

    def begin_workers(
        self, database: Database | str, count: int = 1, *words: str, prefix: Sequence[str] = (), **environment: str
    ) -> Workers:
        """bin/worker with a database."""
        conninfo = database if isinstance(database, str) else database.conninfo
        name = f"worker-{len(self._workers)}"
        command = ("-m", "datasync_ingest", "worker", "--scheduler", self.address, "--workers", str(count), *words)
        process = self._started(name, *command, prefix=prefix, DATABASE_URL=conninfo, **environment)
        workers = Workers(process, self.folder / f"{name}.log")
        self._workers.append(workers)
        return workers

    def has_started(self, workers: Workers, count: int) -> bool:
        assert workers.process.poll() is None, workers.log.read_text()
        return len(self.at_work()) >= count

    def at_work(self) -> list[str]:
        """The addresses of the workers that take pages."""
        found = self.identity()["workers"].items()
        return [address for address, one in found if one["resources"].get(RESOURCE) and one["status"] == "running"]

    def identity(self) -> dict[str, Any]:
        """What the scheduler says of itself and its workers."""
        return dict(self.ask("identity"))

    def ask(self, method: str, **arguments: Any) -> Any:
        """Calls a handler of the scheduler."""

        connection = (self._security or Security()).get_connection_args("client")

        async def answer() -> Any:
            async with rpc(self.address, connection_args=connection) as scheduler:
                return await getattr(scheduler, method)(**arguments)

        return asyncio.run(answer())

    def _started(self, name: str, *words: str, prefix: Sequence[str], **extra: str) -> subprocess.Popen[str]:
        with (self.folder / f"{name}.log").open("a") as log:
            return subprocess.Popen(
                [*prefix, sys.executable, *words],
                cwd=self.folder,
                env={**clean_environment(**self._environment, **extra), "PYTHONWARNINGS": "default"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )


def _address_in(told: Path) -> str:
    with suppress(FileNotFoundError, json.JSONDecodeError):
        return str(json.loads(told.read_text())["address"])
    return ""


class Service:
    """A name for a database that can mean another one every time somebody connects: a service of libpq."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.environment = {"PGSERVICEFILE": str(file)}
        self.conninfo = "service=datasync"

    def means(self, conninfo: str) -> None:
        lines = [f"{name}={text}" for name, text in parse_dsn(conninfo).items()]
        self._file.write_text("\n".join(["[datasync]", *lines, ""]))
