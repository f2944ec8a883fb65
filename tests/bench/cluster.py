"""Case `cluster`: what an event costs over local processes and over a Dask cluster of as many workers, in turn."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
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


def measure(bench: Bench) -> dict[str, Any]:
    """CPU seconds per million events, PostgreSQL's not among them; the ratio is a median of pairs."""
    rounds: dict[str, list[dict[str, Cost]]] = {writer: [] for writer in WRITERS}
    with (
        _cluster(bench) as (cluster, service),
        bench.api(SIZES[0]) as small,
        bench.api(SIZES[1]) as large,
    ):
        for number in range(bench.rounds):
            for writer, found in rounds.items():
                pair = _pair(bench, _Runs(bench, cluster, service, writer), (small, large), number)
                found.append(pair)
                bench.say(f"round {number + 1} of {bench.rounds}: {writer} {_ratio(pair):.2f}")
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


def _pair(bench: Bench, runs: _Runs, apis: tuple[SimulatorProcess, SimulatorProcess], number: int) -> dict[str, Cost]:
    """The slope between the two sizes for each pool, which begin by turns."""
    costs: dict[str, list[Cost]] = {pool: [] for pool in POOLS}
    for api in apis:
        for pool in POOLS if number % 2 == 0 else reversed(POOLS):
            costs[pool].append(runs.cost(pool, api))
            bench.say(f"  {pool}: {_shown(costs[pool][-1])}")
    events = SIZES[1] - SIZES[0]
    return {
        pool: {name: (large[name] - small[name]) / events * 1e6 for name in large}
        for pool, (small, large) in costs.items()
    }


def _ratio(pair: dict[str, Cost]) -> float:
    return sum(pair["dask"].values()) / sum(pair["processes"].values())


def _of(rounds: list[dict[str, Cost]]) -> dict[str, Any]:
    found: dict[str, Any] = {"ratio": statistics.median(map(_ratio, rounds)), "ratios": list(map(_ratio, rounds))}
    for pool in POOLS:
        costs = [one[pool] for one in rounds]
        found[pool] = {name: statistics.median(cost[name] for cost in costs) for name in costs[0]}
        found[pool]["all"] = statistics.median(sum(cost.values()) for cost in costs)
    return found


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
        f" {small:,} and {large:,} events, medians of {found['rounds']} rounds"
    ]
    for writer, numbers in found["writers"].items():
        lines.append(f"--writer {writer}")
        lines += [f"  {pool:<10} {_shown(numbers[pool])}" for pool in POOLS]
        spread = f"{min(numbers['ratios']):.2f} to {max(numbers['ratios']):.2f}"
        lines.append(f"  dask costs {numbers['ratio']:.2f} of processes ({spread}); at most {MOST} is wanted")
    return lines
