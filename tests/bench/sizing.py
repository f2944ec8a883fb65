"""Case `sizing`: the model's constants, runs that it predicts beside what they take, and the README's tables of it."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

from datasync_ingest.events import decode_page
from datasync_ingest.postgres.writers import WRITERS
from tests.bench import costing, growth
from tests.bench.bench import Bench
from tests.bench.constants import costs_of, costs_table, table
from tests.bench.floors import PAGE_EVENTS, PAGES, bodies
from tests.bench.model import Costs, Host, Machines, Run, Source
from tests.bench.plans import host_sentence, open_source, what_if
from tests.harness import API_KEY

WITHIN = 0.2  # of what is measured is what the model says
_CHECKPOINT_BYTES = 2e9  # of the embedded PostgreSQL's WAL, half of its max_wal_size
_FEED = {"dashboard_needs": "origin", "feed_rate": 0, "feed_latency_ms": 1000}


@dataclass(frozen=True)
class Shape:
    """Runs that are measured: what the model knows of them, the simulator's options and the flags of bin/ingest."""

    name: str
    writer: str
    source: Source
    sources: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()


SHAPES = (
    Shape("1,200,000 events", "execute_values", Source(1_200_000)),
    Shape("1,200,000 events", "copy", Source(1_200_000)),
    Shape("3 sources at once, 400,000 events each", "execute_values", Source(400_000), 3),
    Shape(
        "10 requests per 5 s, 60 pages",
        "execute_values",
        Source(300_000, requests=10, window_s=5),
        options={"rate_limit": 10, "rate_window": 5},
    ),
    Shape("0.5 s a page, 40 pages", "execute_values", Source(200_000, latency_s=0.5), options={"latency_ms": 500}),
    Shape(
        "the feed, 1 s a page, 4 chains of 20 pages",
        "copy",
        Source(390_000, latency_s=1.0, chains=4),
        options=_FEED,
        words=("--source", "feed", "--fetch-concurrency", "4"),
    ),
)


def measure(bench: Bench) -> dict[str, Any]:
    """The constants of a writer, then its runs: a machine that is slower by then is so for both, as far as may be."""
    with bench.api(PAGES * PAGE_EVENTS) as api:
        served = bodies(api, API_KEY, PAGES)
    pages = [list(decode_page(body).rows) for body in served]
    points = growth.measure(bench, pages)
    commit_s = costing.commit_s(bench)
    costs: dict[str, Costs] = {}
    api_s: dict[str, float] = {}
    runs: list[dict[str, Any]] = []
    for writer in WRITERS:
        costs[writer], api_s[writer] = costing.measure(bench, writer, growth.constants(points), pages[0], served[0])
        bench.say(f"{writer}: {costs[writer]}")
        machines = Machines(_this_machine(commit_s), workers=bench.workers, shared=True, api_s=api_s[writer])
        for shape in (shape for shape in SHAPES if shape.writer == writer):
            run = Run(costs[writer], machines, shape.source, shape.sources)
            runs.append(_compared(bench, shape, run))
    return {
        "growth": [(point.events, point.later.cpu_s) for point in points],
        "commit_s": commit_s,
        "api_s": min(api_s.values()),
        "costs": {writer: asdict(one) for writer, one in costs.items()},
        "runs": runs,
    }


def _this_machine(commit_s: float) -> Host:
    """Its disk and its index are part of what PostgreSQL was measured to cost."""
    cores, memory = os.cpu_count() or 1, psutil.virtual_memory().total
    return Host(cores, memory, math.inf, 50, commit_s, math.inf, math.inf, math.inf, _CHECKPOINT_BYTES)


def _compared(bench: Bench, shape: Shape, run: Run) -> dict[str, Any]:
    """From the first command to the last commit."""
    with ExitStack() as stack:
        apis = [stack.enter_context(bench.api(shape.source.events, **shape.options)) for _ in range(shape.sources)]
        threads = stack.enter_context(ThreadPoolExecutor(shape.sources))
        results = list(threads.map(lambda api: bench.program(api, "--writer", shape.writer, *shape.words), apis))
    measured_s = max(result.launch_s + result.seconds for result in results)
    bench.say(f"{shape.name}, {shape.writer}: {run.seconds():.2f} s predicted, {measured_s:.2f} s measured")
    return {
        "name": shape.name,
        "writer": shape.writer,
        "first": run.first().value,
        "predicted_s": run.seconds(),
        "measured_s": measured_s,
        "ratio": run.seconds() / measured_s,
    }


def holds(found: dict[str, Any]) -> bool:
    return all(1 - WITHIN <= run["ratio"] <= 1 + WITHIN for run in found["runs"])


def text(found: dict[str, Any]) -> list[str]:
    """Markdown for the README's section "Sizing"; the last two tables are made of the constants as they are shown."""
    shown = costs_table({writer: Costs(**costs) for writer, costs in found["costs"].items()})
    costs = costs_of("\n".join(shown))
    return [
        *shown,
        "",
        *_wrapped(
            f"A commit took {found['commit_s'] * 1000:.2f} ms, and the simulator {found['api_s'] * 1e6:.2f} µs of CPU"
            " an event. CPU of the connection that writes, by the size of the table:"
            f" {', '.join(f'{seconds * 1e6:.2f} µs at {size:,}' for size, seconds in found['growth'])}."
        ),
        "",
        *_runs_table(found["runs"]),
        "",
        *_wrapped(host_sentence()),
        "",
        *what_if(costs["copy"]),
        "",
        *open_source(costs),
    ]


def _wrapped(sentences: str) -> list[str]:
    return textwrap.wrap(sentences, 120, break_on_hyphens=False)


def _runs_table(runs: list[dict[str, Any]]) -> list[str]:
    header = ["run", "`--writer`", "the limit by the model", "predicted", "measured", "predicted / measured"]
    return table(
        header,
        [
            [
                run["name"],
                f"`{run['writer']}`",
                run["first"],
                f"{run['predicted_s']:.2f} s",
                f"{run['measured_s']:.2f} s",
                f"{run['ratio']:.2f}",
            ]
            for run in runs
        ],
    )
