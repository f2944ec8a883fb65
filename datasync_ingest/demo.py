"""The demo: the API's simulator as the source, and a data directory of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from .messages import FEED
from .settings import Secret, Settings
from .simulator.process import SimulatorProcess

EVENTS = 100_000
# 20 pages over two windows, so that the wait for the rate limit is seen without being long.
RATE_LIMIT = 12
RATE_WINDOW_S = 5
API_KEY = "demo-key"


@contextmanager
def demo_api(settings: Settings) -> Iterator[Settings]:
    """Yields settings whose API is a simulator that lives as long as the block."""
    options = {
        "events": EVENTS,
        "seed": 1,
        "api-key": API_KEY,
        "rate-limit": RATE_LIMIT,
        "rate-window": RATE_WINDOW_S,
        "dashboard-needs": "origin" if settings.endpoint == FEED else "origin,user-agent",
    }
    with SimulatorProcess(options) as simulator:
        yield replace(settings, api_base_url=simulator.url, api_key=Secret(API_KEY))
