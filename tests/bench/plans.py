"""What the model says for more events and more sources than one machine takes: the README's what-if table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from tests.bench.constants import table
from tests.bench.machines import needs, placed
from tests.bench.model import Costs, Host, Machines, Part, Run, Source

EVENTS = (10**7, 10**9, 10**11)
SOURCES = (1, 100, 10_000)
KEY_H = 3.0
WANTED_S = 3600.0  # nobody takes more machines to be done sooner
MARGIN = 1.05  # of the API's shortest time, where that is longer

# The public endpoint's permit; 1 s a page is what its feed was seen to take.
PERMIT = Source(events=1, requests=10, window_s=60.0, latency_s=1.0, chains=1, page_events=5000)
# A source that gives what is taken: without a permit, over as many chains as there may be.
OPEN = Source(events=10**9, latency_s=0.2, chains=64)
CORES = (2, 4, 8, 16)
_MANY = 1000  # machines, when it is not they that break
HOST = Host(
    cores=16,
    memory_bytes=128 * 2**30,
    network_bytes_per_s=10e9 / 8,
    connections=1000,
    commit_s=0.002,
    disk_bytes=8e12,
    disk_bytes_per_s=1e9,
    transfers_per_s=100_000,
    checkpoint_bytes=64e9,
)
CHANGES = {
    Part.API: "`SOURCE=feed`",
    Part.LATENCY: "`SOURCE=feed` and more chains",
    Part.MEMORY: "more machines, or fewer runs at once",
    Part.CONNECTIONS: "more servers, or fewer runs at once",
    Part.MAIN: "more sources: a main process is one core",
    Part.NETWORK: "more machines",
    Part.WORKERS: "more machines",
    Part.POSTGRES: "more servers",
    Part.COMMIT: "more servers",
    Part.DISK: "more servers",
    Part.INDEX: "more servers, so that the index fits into their memory",
    Part.STARTS: "more machines, or fewer runs that start",
}
_SERVERS = {Part.CONNECTIONS, Part.POSTGRES, Part.COMMIT, Part.DISK, Part.INDEX}


def host_sentence(host: Host = HOST) -> str:
    """The assumptions that stand above the table."""
    return (
        f"A machine has {host.cores} cores as fast as those above, {host.memory_bytes / 2**30:.0f} GiB,"
        f" {host.network_bytes_per_s * 8 / 1e9:.0f} Gbit/s each way; as a server of PostgreSQL"
        f" {host.connections:,} connections, {host.commit_s * 1000:g} ms a commit, {host.disk_bytes / 1e12:.0f} TB that"
        f" take {host.disk_bytes_per_s / 1e9:g} GB/s one after the other and {host.transfers_per_s:,.0f} pages of the"
        f" index a second, {host.checkpoint_bytes / 1e9:.0f} GB of WAL from one checkpoint to the next, and half of its"
        " memory for the index."
    )


def what_if(costs: Costs) -> list[str]:
    """Lines of Markdown: nine cases, on one machine and one server, and on as many as the API's permit is worth."""
    header = [
        "events",
        "sources",
        "shortest by the API",
        "one machine, one server",
        "breaks first there",
        "machines + servers",
        "time",
        "keys a source",
        "breaks next",
        "what to change then",
    ]
    return table(header, [_row(costs, events, sources) for events in EVENTS for sources in SOURCES])


def open_source(writers: Mapping[str, Costs]) -> list[str]:
    """Lines of Markdown: what one machine and one server of so many cores carry, and how many a main process fills."""
    header = ["cores", "`--writer`", "one machine, one server", "breaks first there", "machines + servers", "carry"]
    return table(header, [_filled(name, costs, cores) for name, costs in writers.items() for cores in CORES])


def _filled(writer: str, costs: Costs, cores: int) -> list[str]:
    small = placed(Run(costs, Machines(replace(HOST, cores=cores)), OPEN), 1, 1)
    enough = needs(small, MARGIN * placed(small, _MANY, _MANY).seconds())
    return [str(cores), f"`{writer}`", _rate(small), small.first().value, _machines(enough), _rate(enough)]


def _row(costs: Costs, events: int, sources: int) -> list[str]:
    source = Source(**{**vars(PERMIT), "events": events // sources})
    small = placed(Run(costs, Machines(HOST), source, sources), 1, 1)
    wanted_s = max(WANTED_S, MARGIN * source.permitted_s)
    enough = needs(small, wanted_s)
    following = _next(enough)
    return [
        f"10^{round(math.log10(events))}",
        f"{sources:,}",
        _time(source.permitted_s),
        _time(small.seconds()),
        small.first().value,
        _machines(enough),
        _time(enough.seconds()),
        f"{max(1, math.ceil(enough.seconds() / 3600 / KEY_H)):,}",
        f"{following.value}, at {enough.limits()[following]:,.0f} events/s",
        _change(small.first(), enough),
    ]


def _next(run: Run) -> Part:
    """The smallest limit but for what API and chains give."""
    limits = {part: limit for part, limit in run.limits().items() if part not in (Part.API, Part.LATENCY)}
    return min(limits, key=lambda part: limits[part])


def _machines(run: Run) -> str:
    dask = " (Dask)" if run.machines.cluster else ""
    citus = " (Citus)" if run.sources < run.machines.servers else ""
    return f"{run.machines.ingest:,}{dask} + {run.machines.servers:,}{citus}"


def _change(part: Part, run: Run) -> str:
    """What to do about the part that broke, and how the sources lie on the servers where there are several."""
    change = CHANGES[part]
    if part not in _SERVERS or run.machines.servers == 1:
        return change
    how = "Citus" if run.sources < run.machines.servers else "sources spread over them"
    return f"{change}; {how}"


def _rate(run: Run) -> str:
    return f"{run.rate():,.0f} events/s"


def _time(seconds: float) -> str:
    if math.isinf(seconds):
        return "it does not fit"
    if seconds == 0:
        return "one window"
    hours = seconds / 3600
    if hours < 1:
        return f"{seconds / 60:.1f} min"
    return f"{hours:.1f} h" if hours < 1000 else f"{hours:,.0f} h"
