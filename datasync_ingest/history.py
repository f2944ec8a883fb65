"""What a run leaves in the sidecar for those who look at it later: its requests, how it stood, what went wrong."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import TypeVar

from .errors import ConfigurationError
from .ledger import Incident, Ledger, Sample
from .log_lines import fields_of
from .messages import RawPage, Receipt, RequestEnded
from .progress import Snapshot

T = TypeVar("T")

_FIRST_INTERVAL_S = 0.5
_SHARE = 240  # of the time that has passed lies between two samples: 300 for 10 minutes, 700 for an hour


class History:
    """An Observer, and a context manager that keeps the package's warnings while it is open.

    The walks' threads only append, which a deque lets any number of them do; the main thread writes. What a killed run
    had not written yet is lost, a second's worth at most: it is history, and nothing hangs on it. `hide` takes out of a
    text what must not be kept.
    """

    def __init__(
        self,
        ledger: Ledger,
        run: int,
        *,
        hide: Callable[[str], str],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._run = run
        self._clock = clock
        self._wall = wall
        self._began_at = clock()
        self._due_at = 0.0
        self._requests: deque[RequestEnded] = deque()
        self._incidents: deque[Incident] = deque()
        self._handler = _Warnings(self._incidents, hide)
        self._last: Snapshot | None = None

    def __enter__(self) -> History:
        logging.getLogger(__package__).addHandler(self._handler)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(__package__).removeHandler(self._handler)
        with suppress(ConfigurationError):  # no room: what ended the run is the better news
            self._write([] if self._last is None else [self._sample(self._last)])

    def requested(self, request: RequestEnded) -> None:
        self._requests.append(request)

    def committed(self, page: RawPage, receipt: Receipt) -> None:
        """Is with the page itself, see `Ledger.complete`."""

    def shown(self, snapshot: Snapshot) -> None:
        self._last = snapshot
        now = self._clock()
        if now >= self._due_at:
            self._due_at = now + max(_FIRST_INTERVAL_S, (now - self._began_at) / _SHARE)
            self._write([self._sample(snapshot)])

    def _sample(self, snapshot: Snapshot) -> Sample:
        stood = asdict(snapshot)
        return Sample(self._wall(), stood, stood.pop("seconds"))

    def _write(self, samples: list[Sample]) -> None:
        self._ledger.happened(self._run, _drained(self._requests), samples, _drained(self._incidents))


class _Warnings(logging.Handler):
    def __init__(self, incidents: deque[Incident], hide: Callable[[str], str]) -> None:
        super().__init__(logging.WARNING)
        self._hide = hide
        self._incidents = incidents

    def emit(self, record: logging.LogRecord) -> None:
        line = fields_of(record)
        message = self._hide(line["message"])
        self._incidents.append(Incident(record.created, line["level"], line["room"], line.get("page"), message))


def _drained(found: deque[T]) -> list[T]:
    return [found.popleft() for _ in range(len(found))]
