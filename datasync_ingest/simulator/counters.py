"""What the simulator has seen and done, for those who test a client against it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any


class Counters:
    """Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Everything to zero but what the rate limits and the key's clock depend on."""
        with self._lock:
            self._first_request_at: float | None = None
            self._last_request_at: float | None = None
            self._connections = 0
            self._requests: Counter[str] = Counter()
            self._counted: Counter[str] = Counter()
            self._statuses: Counter[int] = Counter()
            self._faults: Counter[str] = Counter()
            self._pages: Counter[tuple[int, int]] = Counter()
            self._most: dict[str, int] = {}
            self._windows: dict[str, int] = {}

    def request(self, endpoint: str) -> None:
        with self._lock:
            self._last_request_at = time.time()
            self._first_request_at = self._first_request_at or self._last_request_at
            self._requests[endpoint] += 1

    def connection(self) -> None:
        """A connection has brought its first request."""
        with self._lock:
            self._connections += 1

    def counted(self, endpoint: str, *, most: int = 0, windows: int = 0) -> None:
        """A request that used up one of its window; the largest window and the number of windows so far."""
        with self._lock:
            self._counted[endpoint] += 1
            self._most[endpoint] = max(most, self._most.get(endpoint, 0))
            self._windows[endpoint] = windows

    def answer(self, status: int, faults: list[str]) -> None:
        with self._lock:
            self._statuses[status] += 1
            self._faults.update(faults)

    def page(self, first: int, returned: int) -> None:
        """A whole page of events was given out."""
        with self._lock:
            self._pages[first, returned] += 1

    def as_json(self) -> dict[str, Any]:
        with self._lock:
            return {
                "first_request_at": self._first_request_at,
                "last_request_at": self._last_request_at,
                "connections": self._connections,
                "requests": {"events": 0, **self._requests},
                "counted": {"events": 0, **self._counted},
                "statuses": {str(status): count for status, count in sorted(self._statuses.items())},
                "statuses_429": self._statuses[429],
                "most_requests_in_a_window": self._most,
                "windows": self._windows,
                "pages": sum(self._pages.values()),
                "pages_fetched_twice": sum(count - 1 for count in self._pages.values()),
                "faults": dict(self._faults),
            }
