"""Any number of chains at one pacer and one server, event by event on a clock that is moved by hand."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from datasync_ingest.api.pacing import Pacer

WALL_AT_0 = 1_769_000_000.25
Answer = Callable[[float], "tuple[int, Mapping[str, str]]"]  # what the server says to a request that arrives then


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL_AT_0 + self.now


@dataclass
class Told:
    """What became of the requests: `starts` in the order of their chains' turns."""

    statuses: list[int] = field(default_factory=list)
    starts: list[tuple[float, int]] = field(default_factory=list)
    asked: int = 0  # how often a chain asked for its turn

    @property
    def served(self) -> int:
        return self.statuses.count(200)

    @property
    def refused(self) -> int:
        return self.statuses.count(429)


def run(
    pacer: Pacer,
    clock: Clock,
    answer: Answer,
    *,
    chains: int,
    until_s: float,
    latency: Callable[[int], float],
    pages: int | None = None,
) -> Told:
    """Each chain asks, waits and sends until `until_s` (from now), or until all `pages` were served; `latency` gives
    the seconds there and back, for so many requests under way."""
    told, end = Told(), clock.now + until_s
    under_way, order = 0, 0
    events: list[tuple[float, int, str, int, float, int, Mapping[str, str]]] = []

    def push(
        at: float, what: str, chain: int, back: float = 0.0, status: int = 0, headers: Mapping[str, str] = {}
    ) -> None:
        nonlocal order
        order += 1
        heapq.heappush(events, (at, order, what, chain, back, status, headers))

    for chain in range(chains):
        push(clock.now, "ask", chain)
    while events and events[0][0] < end and (pages is None or told.served < pages):
        clock.now, _, what, chain, back, status, headers = heapq.heappop(events)
        if what == "ask":
            told.asked += 1
            wait_s = pacer.take(chain)
            if wait_s > 0:
                push(clock.now + wait_s, "ask", chain)
                continue
            told.starts.append((clock.now, chain))
            under_way += 1
            took = latency(under_way)
            push(clock.now + took / 2, "arrive", chain, took / 2)
        elif what == "arrive":
            status, headers = answer(clock.now)
            push(clock.now + back, "answer", chain, back, status, headers)
        else:
            under_way -= 1
            told.statuses.append(status)
            if status == 429:
                pacer.limited(headers, clock.now, who=chain)
            else:
                pacer.answered(headers, clock.now, status=status, who=chain)
                pacer.page_took(2 * back)
            push(clock.now, "ask", chain)
    return told


def steady(seconds: float, seed: int = 1) -> Callable[[int], float]:
    """Latencies within a tenth of that."""
    draw = random.Random(seed)
    return lambda under_way: seconds * draw.uniform(0.95, 1.1)
