"""Threads that share one pacer, against the simulator over real sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing

from datasync_ingest.api.client import ApiClient
from datasync_ingest.api.pacing import Pacer
from datasync_ingest.settings import Secret, Settings
from datasync_ingest.simulator.process import SimulatorProcess
from tests.harness import API_KEY

SECONDS = 3.0


def test_threads_share_a_hidden_limit(simulator: Callable[..., SimulatorProcess]) -> None:
    """600 a minute: what is asked for in 3 s is that and the burst, with few refusals."""
    api = simulator(
        events=100, cache_life=0, feed_limit_for_events="on", feed_rate=600, feed_burst=10, feed_penalty=0.1
    )
    pacer = Pacer()
    pacer.restore({"rate": 9.0, "ceiling": 10.0}, unseen=0)
    statuses = [status for one in _in_threads(8, lambda: _ask(api, pacer)) for status in one]
    assert 0.7 * 10 * SECONDS <= statuses.count(200) <= 10 * SECONDS + 11
    assert statuses.count(429) <= 3


def test_threads_use_every_request_of_every_window(simulator: Callable[..., SimulatorProcess]) -> None:
    api = simulator(events=100, cache_life=0, rate_limit=12, rate_window=1)
    pacer = Pacer()
    statuses = [status for one in _in_threads(8, lambda: _ask(api, pacer)) for status in one]
    assert statuses.count(429) == 0
    assert statuses.count(200) >= 2 * 12


def _ask(api: SimulatorProcess, pacer: Pacer) -> list[int]:
    """The statuses of one chain's answers, until SECONDS have passed."""
    statuses = []
    ends_at = time.monotonic() + SECONDS
    with closing(ApiClient(Settings(api_key=Secret(API_KEY)))) as client:
        while time.monotonic() < ends_at:
            if (wait_s := pacer.take()) > 0:
                time.sleep(min(wait_s, max(0.0, ends_at - time.monotonic())))
                continue
            response = client.get(f"{api.url}/events", {"limit": "1"})
            statuses.append(response.status)
            if response.status == 429:
                pacer.limited(response.headers, response.received_at)
            else:
                pacer.answered(response.headers, response.received_at, status=response.status)
    pacer.leave()
    return statuses


def _in_threads(count: int, work: Callable[[], list[int]]) -> list[list[int]]:
    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda: results.append(work())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
