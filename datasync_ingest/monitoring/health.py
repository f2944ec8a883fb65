"""Whether a run is well: a worker is at work, and the last progress is fresh."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psutil

from ..activity import RATE_LIMIT
from ..messages import RawPage, Receipt, RequestEnded
from ..progress import Snapshot

# Seconds. A page takes 0.2 s to commit, and up to 100 s to fetch before the client gives up on it (see `api/client`).
FRESH_S = 120.0
_NOT_AT_WORK = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


class Pulse:
    """An Observer. `health` may be asked by any thread: what it reads is replaced whole.

    The last progress is the last commit while workers have pages, else the last page that was fetched. A wait for the
    rate limit is no lack of progress.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, at_work: Callable[[int], bool] | None = None
    ) -> None:
        self._clock = clock
        self._at_work = at_work or is_at_work
        self._snapshot: Snapshot | None = None
        self._committed_at = self._fetched_at = clock()

    def requested(self, request: RequestEnded) -> None:
        if request.outcome == "page":
            self._fetched_at = self._clock()

    def committed(self, page: RawPage, receipt: Receipt) -> None:
        del page, receipt
        self._committed_at = self._clock()

    def shown(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        if snapshot.queued == 0:
            self._committed_at = self._clock()  # there is nothing to commit
        if snapshot.doing == RATE_LIMIT:
            self._fetched_at = self._clock()

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether the run is well, and what is known, as JSON values; before the workers are there it is not."""
        snapshot = self._snapshot
        if snapshot is None:
            return False, {"healthy": False, "reason": "the run is starting"}
        # Of those elsewhere the cluster says who lives.
        at_work = sum(map(self._at_work, snapshot.pids)) if snapshot.pids else snapshot.workers
        progress_s = max(0.0, self._clock() - (self._committed_at if snapshot.queued else self._fetched_at))
        what = "committed" if snapshot.queued else "fetched"
        reason = ""
        if at_work == 0:
            reason = f"none of {snapshot.workers} workers is at work"
        elif progress_s > FRESH_S:
            reason = f"no page was {what} for {progress_s:.0f} s"
        return not reason, {
            "healthy": not reason,
            "reason": reason,
            "workers": snapshot.workers,
            "workers_at_work": at_work,
            "last_progress_s": round(progress_s, 3),
            "waiting": snapshot.waiting,
            "events_in_table": snapshot.committed,
            "total_by_the_api": snapshot.total,
        }


def is_at_work(pid: int) -> bool:
    """Whether a process lives and is not stopped."""
    try:
        return psutil.Process(pid).status() not in _NOT_AT_WORK
    except psutil.Error:
        return False
