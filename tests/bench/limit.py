"""Case `limit`: /events with 10 requests in 5 s, beside the shortest time that this permits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.bench.bench import Bench
from tests.bench.floors import PAGE_EVENTS
from tests.bench.model import shortest_s

PAGES = 60
REQUESTS = 10
WINDOW_S = 5
SMALL_PAGE_EVENTS = 100
LATENCIES_MS = (0, 200)


def measure(bench: Bench) -> dict[str, Any]:
    """Small pages show the pacing alone: a run for each latency, at the same time, as both do little but wait. With
    whole pages, the last window's events are fetched and written after it has begun."""
    with ThreadPoolExecutor(len(LATENCIES_MS)) as threads:
        small = list(threads.map(lambda latency: _run(bench, latency, SMALL_PAGE_EVENTS), LATENCIES_MS))
    return {"small pages": small, "whole pages": [_run(bench, 0, PAGE_EVENTS)]}


def _run(bench: Bench, latency_ms: int, page_events: int) -> dict[str, Any]:
    with bench.api(PAGES * page_events, rate_limit=REQUESTS, rate_window=WINDOW_S, latency_ms=latency_ms) as api:
        result = bench.program(api, "--batch-size", str(page_events))
    shortest = shortest_s(PAGES, REQUESTS, WINDOW_S, latency_ms / 1000)
    bench.say(f"latency {latency_ms} ms, {page_events:,} events a page: {result.seconds:.2f} s")
    counters = result.counters
    return {
        "latency_ms": latency_ms,
        "page_events": page_events,
        "seconds": result.seconds,
        "first_to_last_request_s": counters["last_request_at"] - counters["first_request_at"],
        "shortest_s": shortest,
        "ratio": result.seconds / shortest,
        "answers_429": counters["statuses_429"],
        "requests": counters["requests"]["events"],
    }


def text(found: dict[str, Any]) -> list[str]:
    return [
        f"{REQUESTS} requests per {WINDOW_S} s, {PAGES} pages, from the first request to the last commit",
        *(
            f"  latency {run['latency_ms']:>3} ms, {run['page_events']:>5,} events a page  {run['seconds']:6.2f} s,"
            f" shortest possible {run['shortest_s']:5.2f} s, ratio {run['ratio']:.3f};"
            f" last request after {run['first_to_last_request_s']:.2f} s, {run['requests']} requests,"
            f" {run['answers_429']} answered 429"
            for runs in found.values()
            for run in runs
        ),
    ]
