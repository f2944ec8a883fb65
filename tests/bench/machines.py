"""Which machines the model's runs need: workers spread over so many, and the fewest that a time needs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace

from tests.bench.model import Run

MOST_PROCESSES = 64  # workers of a run without a cluster, the most that WORKER_CONCURRENCY takes
WORKERS_A_CORE = 3  # each waits while PostgreSQL works on its page, more than half of its time
_MOST = 1 << 20  # machines of a kind


def placed(run: Run, ingest: int, servers: int) -> Run:
    """The same run on so many machines; its workers are WORKERS_A_CORE, as far as connections go, at least one.

    Where there are more machines than runs, the workers are Dask's.
    """
    cluster = ingest > run.sources
    host = run.machines.host
    workers = min(WORKERS_A_CORE * ingest * host.cores // run.sources, servers * host.connections // run.sources - 1)
    machines = replace(
        run.machines,
        ingest=ingest,
        servers=servers,
        workers=max(1, workers if cluster else min(MOST_PROCESSES, workers)),
        cluster=cluster,
    )
    return replace(run, machines=machines)


def needs(run: Run, seconds: float) -> Run:
    """The same run on the fewest machines, and then the fewest servers, that finish it in `seconds`.

    Raises ValueError where no number of them does.
    """

    def enough(ingest: int, servers: int) -> bool:
        return placed(run, ingest, servers).seconds() <= seconds

    # A cluster costs the main process more: only on either side of its beginning is more never slower.
    several = range(1, run.sources + 1), range(run.sources + 1, _MOST)
    ingest = next(filter(None, (_least(numbers, lambda number: enough(number, _MOST)) for numbers in several)), None)
    if ingest is None:
        most = placed(run, _MOST, _MOST)
        raise ValueError(f"no number of machines does it in {seconds:g} s: {most.first().value}")
    return placed(run, ingest, _least(range(1, _MOST), lambda number: enough(ingest, number)) or _MOST)


def _least(numbers: range, enough: Callable[[int], bool]) -> int | None:
    """The least number for which `enough` is true, as it is for every greater one; None where it is for none."""
    index = bisect_left(numbers, True, key=enough)
    return numbers[index] if index < len(numbers) else None
