"""An API, a PostgreSQL, a scheduler, bin/worker and bin/ingest, as processes, each on a machine of its own."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg2.extensions import make_dsn

from datasync_ingest.simulator.process import SimulatorProcess
from tests.cluster import Cluster, Workers
from tests.faults.truth import Truth, by_copy, first_difference
from tests.harness import API_KEY, Database, Workplace, new_database, until
from tests.namespaces.network import Machine, Network, network
from tests.servers import PASSWORD, password_server

ASK_S = 0.2  # between two questions to the scheduler, each of which is a new connection
ENDS_S = 240.0  # for a run, or what a strike waits for: the longest silence that anybody bears is 60 s


@dataclass(frozen=True)
class Site:
    """What all trials share. The thread that made it reaches every machine."""

    network: Network
    folder: Path
    api: SimulatorProcess
    server: str  # a conninfo with the password
    database_machine: Machine


@contextmanager
def site(folder: Path, *, durable: bool = True, **options: Any) -> Iterator[Site]:
    """`options` are the simulator's. Nothing of it is left after the block."""
    with network() as found, found.entered():
        machine, other = found.machine(), found.machine()
        chosen = {"api-key": API_KEY, "rate-limit": 0, "host": other.address, **options}
        with ExitStack() as opened:
            with machine.entered():
                conninfo = opened.enter_context(
                    password_server(folder / "server", host=machine.address, durable=durable)
                )
            with other.entered():
                api = opened.enter_context(SimulatorProcess(chosen))
            yield Site(found, folder, api, make_dsn(conninfo, password=PASSWORD), machine)


@dataclass
class Trial:
    """A database, a cluster and a run, which may be struck. `members` are bin/worker, each on a machine of its own."""

    site: Site
    database: Database
    cluster: Cluster
    scheduler_machine: Machine
    run_machine: Machine
    workplace: Workplace
    members: list[tuple[Machine, Workers]] = field(default_factory=list)
    run: subprocess.Popen[str] | None = None
    said: list[str] = field(default_factory=list)  # by each run that has ended
    endings: list[int] = field(default_factory=list)

    def add_worker(self) -> None:
        machine = self.site.network.machine()
        with machine.entered():
            self.members.append((machine, self.cluster.begin_workers(self.database)))

    def until_at_work(self, count: int) -> None:
        what = f"a cluster with {count} workers"
        until(lambda: len(self.cluster.at_work()) == count, timeout_s=ENDS_S, what=what, every_s=ASK_S)

    def begin_run(self, *words: str) -> None:
        with self.run_machine.entered():
            self.run = self.workplace.start("ingest", "--pool", "dask", "--scheduler", self.cluster.address, *words)

    def until_pages(self, count: int) -> None:
        """Returns when that many are marked in the sidecar."""
        until(lambda: self.pages() >= count, timeout_s=ENDS_S, what=f"page {count}")

    def pages(self) -> int:
        assert self.run is not None
        assert self.run.poll() is None, self.run.communicate()[1]
        return self.workplace.completed_pages()

    def end_run(self) -> int:
        """Waits for its end, where it is under way; returns the last exit code."""
        if self.run is None:
            return self.endings[-1]
        _, said = self.run.communicate(timeout=ENDS_S)
        self.said.append(said)
        self.endings.append(self.run.returncode)
        self.run = None
        return self.endings[-1]

    def difference(self, truth: Truth) -> str | None:
        """None where every event is there once and as it was served; else the first thing that is wrong."""
        return first_difference(truth, self.workplace.exported_ids(), self.database.conninfo, load=by_copy)


@contextmanager
def trial(place: Site, name: str, workers: int, environment: Mapping[str, str] | None = None) -> Iterator[Trial]:
    """With the cluster at work; `environment` is that of scheduler and workers."""
    folder = place.folder / name
    (folder / "cluster").mkdir(parents=True)
    scheduler, runs = place.network.machine(), place.network.machine()
    cluster = Cluster(folder / "cluster", host=scheduler.address, environment=environment)
    with new_database(place.server, name) as database, ExitStack() as opened:
        with scheduler.entered():
            opened.enter_context(cluster)
        settings = {"TARGET_API_KEY": API_KEY, "API_BASE_URL": place.api.url, "NO_PROXY": "*"}
        workplace = Workplace(folder, {**settings, "DATABASE_URL": database.conninfo})
        made = Trial(place, database, cluster, scheduler, runs, workplace)
        opened.callback(_end, made)
        for _ in range(workers):
            made.add_worker()
        made.until_at_work(workers)
        yield made


def _end(made: Trial) -> None:
    """The run, when something went wrong; the cluster's processes end with the cluster."""
    if made.run is not None:
        made.run.send_signal(signal.SIGKILL)
        made.run.communicate()
