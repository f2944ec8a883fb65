"""What the sidecar's tables hold beside pages, as values: walks, and the history of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..messages import EVENTS, Position


@dataclass(frozen=True, slots=True)
class Walk:
    """One way through the API's order, from `cursor` (None: the newest event) towards the oldest event or `until`.

    A sweep reads all of that at once, as windows in time, each by a chain of pages of its own. `endpoint` is whose
    cursors they are.
    """

    walk: str
    until: Position | None
    cursor: str | None
    after: Position | None
    head: Position | None
    state: str
    endpoint: str = EVENTS
    is_sweep: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """How a run stood at one moment (epoch seconds), and where its time had gone by then, in seconds by cause."""

    at: float
    snapshot: Mapping[str, Any]
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Incident:
    """A warning or an error, as it was logged at that moment (epoch seconds) by a room, of a page where it had one."""

    at: float
    level: str
    room: str
    page: str | None
    message: str


@dataclass(slots=True)
class RunEnding:
    """How a run ended; to be said by the one who runs it, unless an IngestError says it. `run` is its number."""

    run: int
    exit_code: int = 1
    sentence: str = "unexpected error"
    summary: Mapping[str, Any] | None = None
