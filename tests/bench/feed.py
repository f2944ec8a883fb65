"""Case `feed`: slow pages over several chains, beside as many bare chains and beside what is linear."""

from __future__ import annotations

from typing import Any

from tests.bench.bench import Bench
from tests.bench.floors import PAGE_EVENTS, Result, feed_floor
from tests.harness import API_KEY

CHAIN_PAGES = {1: 10, 4: 40, 8: 20, 16: 20}  # 600 pages over 4 chains are 150 for each, over 16 they are 37
PAGE_S = 1.5
TOGETHER = (8, 80, 1.0)  # chains, pages, seconds a page


def measure(bench: Bench) -> dict[str, Any]:
    """Linear is the time of a chain's pages, one after the other.

    The events are half a page short of that for each chain: windows of equal length in time differ by some events, and
    one of them would have a page more.
    """
    scaling = {
        str(chains): _scaling(bench, chains, bench.chain_pages or pages) for chains, pages in CHAIN_PAGES.items()
    }
    return {"page_s": PAGE_S, "chains": scaling, "together": _together(bench)}


def _scaling(bench: Bench, chains: int, pages: int) -> dict[str, Any]:
    events = round(chains * (pages - 0.5) * PAGE_EVENTS)
    floor, result = _floor_and_program(bench, chains, events, PAGE_S)
    linear_s = pages * PAGE_S
    bench.say(f"{chains} chains: {result.seconds:.1f} s, linear {linear_s:.1f} s")
    return {
        "pages_a_chain": pages,
        "seconds": result.seconds,
        "linear_s": linear_s,
        "ratio": linear_s / result.seconds,
        "floor_s": floor.seconds,
        "ratio_of_floor": floor.seconds / result.seconds,
        "requests": result.counters["requests"],
        "connections": result.counters["connections"],
        "answers_429": result.counters["statuses_429"],
        "peak_mib": {name: size / 2**20 for name, size in result.peak.items()},
    }


def _together(bench: Bench) -> dict[str, Any]:
    chains, pages, page_s = TOGETHER
    floor, result = _floor_and_program(bench, chains, pages * PAGE_EVENTS, page_s)
    counters = result.counters
    return {
        "chains": chains,
        "pages": pages,
        "page_s": page_s,
        "first_to_last_request_s": counters["last_request_at"] - counters["first_request_at"],
        "seconds": result.seconds,
        "floor_s": floor.seconds,
        "requests": counters["requests"],
        "connections": counters["connections"],
    }


def _floor_and_program(bench: Bench, chains: int, events: int, page_s: float) -> tuple[Result, Result]:
    with bench.api(events, dashboard_needs="origin", feed_rate=0, feed_latency_ms=page_s * 1000) as api:
        floor = feed_floor(api, API_KEY, events, chains)
        words = ("--source", "feed", "--fetch-concurrency", str(chains), "--writer", "copy")
        return floor, bench.program(api, *words)


def text(found: dict[str, Any]) -> list[str]:
    lines = [f"{found['page_s']} s a page, --writer copy"]
    for chains, run in found["chains"].items():
        lines.append(
            f"  {chains:>2} chains of {run['pages_a_chain']} pages  {run['seconds']:6.2f} s,"
            f" linear {run['linear_s']:6.2f} s, ratio {run['ratio']:.2f};"
            f" bare chains {run['floor_s']:6.2f} s, ratio {run['ratio_of_floor']:.2f}"
        )
    run = found["together"]
    lines.append(
        f"{run['pages']} pages of {run['page_s']:g} s over {run['chains']} chains:"
        f" {run['first_to_last_request_s']:.2f} s from the first request to the last, {run['seconds']:.2f} s to the"
        f" last commit; bare chains {run['floor_s']:.2f} s"
    )
    return lines
