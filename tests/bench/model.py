"""The model of a run's speed: what each part of the way carries, in events a second, and how long a run takes.

The parts are held apart: the smallest limit is the speed, and none slows another down unless they share cores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

INDEX_SHARE = 0.5  # of a server's memory is for the index
_PAGE_BYTES = 8192  # of PostgreSQL
_STEPS = 16  # at which a mean over the load is taken


class Part(str, Enum):
    """The limits, in the order in which an event meets them."""

    API = "API rate"
    LATENCY = "latency of a chain"
    MEMORY = "memory for runs at once"
    CONNECTIONS = "connections for runs at once"
    MAIN = "main process"
    NETWORK = "network"
    WORKERS = "workers"
    POSTGRES = "PostgreSQL CPU"
    COMMIT = "PostgreSQL commit"
    DISK = "PostgreSQL disk"
    INDEX = "PostgreSQL index"
    STARTS = "starts of runs"


@dataclass(frozen=True)
class Costs:
    """Measured constants of one writer; `main_s`, `worker_s` and `postgres_s` are seconds of a core for each event."""

    launch_s: float  # from a run's command to its first request
    start_s: float  # from there until its pages flow
    launch_core_s: float  # seconds of a core of both, all processes of the run
    main_s: float
    worker_s: float
    postgres_s: float  # with `base_events` in the table at the end
    growth_s: float  # what each doubling of a server's table past `base_events` adds to `postgres_s`
    base_events: float
    cluster_factor: float  # of `main_s` and `worker_s` where the workers are Dask's
    page_bytes: float  # of each event: in a page, as it was served
    row_bytes: float  # as it is sent to PostgreSQL
    table_bytes: float
    index_bytes: float
    wal_bytes: float  # in the WAL, without pages of the index that are written whole
    full_page_s: float  # seconds of PostgreSQL's CPU for each such page, and its bytes
    full_page_bytes: float
    main_memory: float  # bytes of a process
    worker_memory: float


@dataclass(frozen=True)
class Source:
    """One key or API. `requests` in each `window_s`, None: without a limit; `latency_s` until a page is served."""

    events: int
    requests: int | None = None
    window_s: float = 60.0
    latency_s: float = 0.0
    chains: int = 1
    page_events: int = 5000

    @property
    def permitted_s(self) -> float:
        """The shortest time that the permit leaves for all pages."""
        if self.requests is None:
            return 0.0
        return shortest_s(math.ceil(self.events / self.page_events), self.requests, self.window_s, 0.0)


@dataclass(frozen=True)
class Host:
    """A machine. Everything from `connections` on is PostgreSQL's, where it runs on one."""

    cores: int
    memory_bytes: float
    network_bytes_per_s: float  # each way
    connections: int
    commit_s: float
    disk_bytes: float
    disk_bytes_per_s: float  # written one after the other
    transfers_per_s: float  # of pages of the index, read or written anywhere
    checkpoint_bytes: float  # of WAL from one checkpoint to the next


@dataclass(frozen=True)
class Machines:
    """`ingest` machines for main processes and workers, `servers` for PostgreSQL; `workers` are those of each run.

    `shared`: all is on one machine, and the API as well, which costs `api_s` seconds of a core for each event.
    """

    host: Host
    ingest: int = 1
    servers: int = 1
    workers: int = 1
    cluster: bool = False
    shared: bool = False
    api_s: float = 0.0


@dataclass(frozen=True)
class Run:
    """`sources` of the same kind, a run for each, as many at once as memory and connections permit."""

    costs: Costs
    machines: Machines
    source: Source
    sources: int = 1

    @property
    def events(self) -> int:
        return self.sources * self.source.events

    def limits(self) -> dict[Part, float]:
        """Events a second that each part carries, in the order of `Part`; infinite where it has no limit."""
        return {
            Part.API: self._rate(self.sources, self.source.permitted_s),
            Part.LATENCY: self._rate(self.sources, self._chain_s()),
            Part.MEMORY: self._at_once(self.machines.ingest * self.machines.host.memory_bytes, self._run_memory()),
            Part.CONNECTIONS: self._at_once(
                self.machines.servers * self.machines.host.connections, 1 + self.machines.workers
            ),
            Part.MAIN: _per(self.sources, self._main_s),
            Part.NETWORK: self._network(),
            Part.WORKERS: min(self._worker_cycles(), self._ingest_cores()),
            Part.POSTGRES: _per(self.machines.servers * self.machines.host.cores, self.postgres_s()),
            Part.COMMIT: _per(self.machines.servers * self.source.page_events, self.machines.host.commit_s),
            Part.DISK: self._disk(),
            Part.INDEX: self._index(),
        }

    def rate(self) -> float:
        """Events a second while pages flow."""
        return min(self.limits().values())

    def starting_s(self) -> float:
        """Until the last run's pages flow: the runs start side by side, as far as the cores go."""
        costs, machines = self.costs, self.machines
        cores = machines.ingest * machines.host.cores
        return max(costs.launch_s + costs.start_s, self.sources * costs.launch_core_s / cores)

    def seconds(self) -> float:
        """From the first command to the last commit; infinite where the disks cannot hold the events."""
        return self.starting_s() + _per(self.events, self.rate())

    def first(self) -> Part:
        """The part that breaks first."""
        limits = self.limits()
        smallest = min(limits, key=lambda part: limits[part])
        return Part.STARTS if self.starting_s() > _per(self.events, limits[smallest]) else smallest

    def postgres_s(self) -> float:
        """The mean over the load of tables that were empty, the events spread evenly over the servers."""
        costs, here, base = self.costs, self.events / self.machines.servers, self.costs.base_events
        doublings = math.log2(here / base) - (1 - base / here) / math.log(2) if here > base else 0.0
        return costs.postgres_s + costs.growth_s * doublings + costs.full_page_s * self._full_pages()

    @property
    def _main_s(self) -> float:
        return self.costs.main_s * self._pool

    @property
    def _worker_s(self) -> float:
        return self.costs.worker_s * self._pool

    @property
    def _pool(self) -> float:
        return self.costs.cluster_factor if self.machines.cluster else 1.0

    def _rate(self, sources: float, seconds: float) -> float:
        return _per(sources * self.source.events, seconds)

    def _chain_s(self) -> float:
        """Of one source: its pages over its chains, each page served, then taken by the main process."""
        source, pages = self.source, self.source.events / self.source.page_events
        page_s = source.latency_s + source.page_events * (self._main_s + self.machines.api_s)
        return math.ceil(pages / source.chains) * page_s

    def _run_memory(self) -> float:
        return self.costs.main_memory + self.machines.workers * self.costs.worker_memory

    def _at_once(self, room: float, each: float) -> float:
        """A run stays until its source's last page: what API and chains give to those that there is room for."""
        if room >= self.sources * each:
            return math.inf
        one = self.costs.launch_s + self.costs.start_s + max(self.source.permitted_s, self._chain_s())
        return self._rate(room // each, one)

    def _network(self) -> float:
        """A page comes in and, to a cluster's workers, goes out and in again; rows go out, and in at PostgreSQL."""
        costs, machines = self.costs, self.machines
        if machines.shared:
            return math.inf
        hops = 2 if machines.cluster else 1
        ingest = _per(machines.ingest * machines.host.network_bytes_per_s, hops * costs.page_bytes)
        return min(ingest, _per(machines.servers * machines.host.network_bytes_per_s, costs.row_bytes))

    def _worker_cycles(self) -> float:
        """A worker waits while PostgreSQL works on its page and commits it."""
        page = self.source.page_events
        cycle_s = page * (self._worker_s + self.postgres_s()) + self.machines.host.commit_s
        return _per(self.sources * self.machines.workers * page, cycle_s)

    def _ingest_cores(self) -> float:
        machines = self.machines
        others_s = self.postgres_s() + machines.api_s if machines.shared else 0.0
        return _per(machines.ingest * machines.host.cores, self._main_s + self._worker_s + others_s)

    def _disk(self) -> float:
        """Written twice, into the WAL and into its place; 0 where there is no room for all."""
        costs, machines = self.costs, self.machines
        stays = costs.table_bytes + costs.index_bytes
        if self.events * stays > machines.servers * machines.host.disk_bytes:
            return 0.0
        wal = costs.wal_bytes + costs.full_page_bytes * self._full_pages()
        return _per(machines.servers * machines.host.disk_bytes_per_s, stays + wal)

    def _index(self) -> float:
        """IDs are random: where the index is past its memory, an event reads a page of it and one is written back;
        where it is not, a page is written once after each checkpoint.

        The mean over the load: while the index grows from 0 to `whole`, x of it there, 1 - fits/x of it is elsewhere.
        """
        fits = min(1.0, INDEX_SHARE * self.machines.host.memory_bytes / self._index_bytes())
        missed = 1 - fits + fits * math.log(fits)
        transfers = missed + max(missed, self._full_pages())
        return _per(self.machines.servers * self.machines.host.transfers_per_s, transfers)

    def _full_pages(self) -> float:
        """For each event, the mean over the load."""
        pages = self._index_bytes() / _PAGE_BYTES
        steps = [pages * (number + 0.5) / _STEPS for number in range(_STEPS)]
        return sum(full_pages(there, self.costs, self.machines.host.checkpoint_bytes) for there in steps) / _STEPS

    def _index_bytes(self) -> float:
        """Of one server, at the end."""
        return self.events * self.costs.index_bytes / self.machines.servers


def full_pages(pages: float, costs: Costs, checkpoint_bytes: float) -> float:
    """Pages of an index that are written whole into the WAL for each event, which changes one of `pages` at random.

    That is a page's first change after a checkpoint. Of `changes` of each page from one checkpoint to the next, it is
    1 - exp(-changes) that are; their number is Newton's root of what they write, which approaches it from below.
    """
    room = checkpoint_bytes / pages
    changes = room / (costs.wal_bytes + costs.full_page_bytes)
    for _ in range(10):
        first = -math.expm1(-changes)
        written = costs.wal_bytes * changes + costs.full_page_bytes * first
        changes += (room - written) / (costs.wal_bytes + costs.full_page_bytes * (1 - first))
    return -math.expm1(-changes) / changes


def shortest_s(pages: int, requests: int, window_s: float, latency_s: float) -> float:
    """Of one chain: windows open with their first request, and the last one's pages come one after the other."""
    windows = -(-pages // requests)
    last = pages - (windows - 1) * requests
    return max(pages * latency_s, (windows - 1) * window_s + last * latency_s)


def _per(amount: float, each: float) -> float:
    return amount / each if each > 0 else math.inf
