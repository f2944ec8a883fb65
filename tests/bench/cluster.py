"""Case `cluster`: what an event costs over local processes and over a Dask cluster of as many workers, in turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from datasync_ingest.postgres.writers import WRITERS
from datasync_ingest.simulator.process import SimulatorProcess
from tests.bench.bench import Bench
from tests.bench.program import program
from tests.bench.watch import cpu, ended_children
from tests.cluster import Cluster, Service

WORKERS = 4
SIZES = (100_000, 400_000)  # events; what a run costs that has none of them is in both, and is not counted
POOLS = ("processes", "dask")
MOST = 1.25  # the ratio that is to be reached
Cost = dict[str, float]  # CPU seconds by what spent them: main, workers and, of a cluster, scheduler
_Round = dict[str, list[Cost]]  # by pool, one for each size


def measure(bench: Bench) -> dict[str, Any]:
    """CPU seconds per million events, PostgreSQL's not among them.

    Of several rounds the least counts: whatever else a machine does makes the same work dearer, never cheaper.
    """
    rounds: dict[str, list[_Round]] = {writer: [] for writer in WRITERS}
    with _cluster(bench) as (cluster, service), bench.api(SIZES[0]) as small, bench.api(SIZES[1]) as large:
        for number in range(bench.rounds):
            for writer, found in rounds.items():
                found.append(_round(_Runs(bench, cluster, service, writer), (small, large), number))
                shown = "; ".join(f"{pool} {' | '.join(map(_shown, costs))}" for pool, costs in found[-1].items())
                bench.say(f"round {number + 1} of {bench.rounds}: {writer}: {shown}")
    return {
        "workers": WORKERS,
        "sizes": list(SIZES),
        "rounds": bench.rounds,
        "writers": {writer: _of(found) for writer, found in rounds.items()},
    }


@contextmanager
def _cluster(bench: Bench) -> Iterator[tuple[Cluster, Service]]:
    folder = bench.root / "cluster"
    folder.mkdir()
    service = Service(folder / "services")
    service.means(bench.server)
    with Cluster(folder) as cluster:
        cluster.start_workers(service.conninfo, WORKERS, **service.environment)
        yield cluster, service


class _Runs:
    """Whole runs with one writer, over either pool."""

    def __init__(self, bench: Bench, cluster: Cluster, service: Service, writer: str) -> None:
        self._bench = bench
        self._cluster = cluster
        self._service = service
        self._writer = writer

    def cost(self, pool: str, api: SimulatorProcess) -> Cost:
        words = ["--pool", pool, "--writer", self._writer]
        words += ["--scheduler", self._cluster.address] if pool == "dask" else ["--worker-concurrency", str(WORKERS)]
        with self._bench.place() as (place, database):
            self._service.means(database.conninfo)
            workers, scheduler, run = self._workers(), self._scheduler(), ended_children()
            result = program(place, api, database, words)
            whole = ended_children() - run  # of the main process and all that it has waited for
            if pool == "dask":
                return {
                    "main": whole,
                    "workers": self._workers() - workers,
                    "scheduler": self._scheduler() - scheduler,
                }
        local = sum(seconds for name, seconds in result.cpu.items() if name.startswith("worker"))
        return {"main": whole - local, "workers": local}

    def _workers(self) -> float:
        """With their nannies."""
        nannies = [psutil.Process(one.process.pid) for one in self._cluster.workers]
        return sum(_cpu([nanny, *nanny.children(recursive=True)]) for nanny in nannies)

    def _scheduler(self) -> float:
        assert self._cluster.scheduler is not None, "it runs"
        return _cpu([psutil.Process(self._cluster.scheduler.pid)])


def _round(runs: _Runs, apis: Sequence[SimulatorProcess], number: int) -> _Round:
    """A run of each size over each pool, which begin by turns."""
    found: _Round = {pool: [] for pool in POOLS}
    for api in apis:
        for pool in POOLS if number % 2 == 0 else reversed(POOLS):
            found[pool].append(runs.cost(pool, api))
    return found


def _slope(small: Cost, large: Cost) -> Cost:
    return {name: (large[name] - small[name]) / (SIZES[1] - SIZES[0]) * 1e6 for name in large}


def _least(costs: Iterable[Cost]) -> Cost:
    return min(costs, key=lambda cost: sum(cost.values()))


def _of(rounds: Sequence[_Round]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pool in POOLS:
        found[pool] = _slope(*(_least(one[pool][size] for one in rounds) for size in range(len(SIZES))))
        found[pool]["all"] = sum(found[pool].values())
    return {"ratio": found["dask"]["all"] / found["processes"]["all"], **found}


def _cpu(processes: Iterable[psutil.Process]) -> float:
    """Of those that are there: a nanny's child that ends between two looks is counted by the nanny."""
    seconds = 0.0
    for one in processes:
        with suppress(psutil.NoSuchProcess):
            seconds += cpu(one)
    return seconds


def _shown(cost: Cost) -> str:
    return ", ".join(f"{name} {seconds:.2f}" for name, seconds in cost.items())


def text(found: dict[str, Any]) -> list[str]:
    """The same numbers for a person."""
    small, large = found["sizes"]
    lines = [
        f"CPU s per million events without PostgreSQL's, {found['workers']} workers, from the difference between"
        f" {small:,} and {large:,} events, the least of {found['rounds']} rounds"
    ]
    for writer, numbers in found["writers"].items():
        lines.append(f"--writer {writer}")
        lines += [f"  {pool:<10} {_shown(numbers[pool])}" for pool in POOLS]
        lines.append(f"  dask costs {numbers['ratio']:.2f} of processes; at most {MOST} is wanted")
    return lines
