"""Case `limit`: /events with 10 requests in 5 s, beside the shortest time that this permits."""

from __future__ import annotations

from typing import Any

from tests.bench.bench import Bench
from tests.bench.floors import PAGE_EVENTS
from tests.bench.model import shortest_s

PAGES = 60
REQUESTS = 10
WINDOW_S = 5
LATENCIES_MS = (0, 200)


def measure(bench: Bench) -> dict[str, Any]:
    """One run for each latency."""
    return {f"{latency} ms": _run(bench, latency) for latency in LATENCIES_MS}


def _run(bench: Bench, latency_ms: int) -> dict[str, Any]:
    with bench.api(PAGES * PAGE_EVENTS, rate_limit=REQUESTS, rate_window=WINDOW_S, latency_ms=latency_ms) as api:
        result = bench.program(api)
    shortest = shortest_s(PAGES, REQUESTS, WINDOW_S, latency_ms / 1000)
    bench.say(f"latency {latency_ms} ms: {result.seconds:.2f} s")
    counters = result.counters
    return {
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
            f"  latency {name:>6}  {run['seconds']:6.2f} s, shortest possible {run['shortest_s']:5.2f} s,"
            f" ratio {run['ratio']:.3f}; last request after {run['first_to_last_request_s']:.2f} s,"
            f" {run['requests']} requests, {run['answers_429']} answered 429"
            for name, run in found.items()
        ),
    ]
