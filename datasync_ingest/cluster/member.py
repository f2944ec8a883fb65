"""What a worker process on the cluster does beside its work: it outlives signals, speaks as we do, leaves in order."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from distributed import Worker, WorkerPlugin
from distributed.core import Status

from ..progress import display, logging_to
from ..settings import Settings, handed_down
from ..stopping import SIGNALS
from .lines import dasks_lines

FINISH = "datasync_ingest-finish"  # the handler that `Member` adds to a worker
_POLL_S = 0.05
_TAKEN_S = 1.0  # for the run to take the result of a page that is done


@dataclass
class Member(WorkerPlugin):  # type: ignore[misc]
    """Goes to a worker process through the pipe of its nanny, when it starts; nothing in it is secret."""

    log_format: str
    debug: bool

    def setup(self, worker: Worker) -> None:
        for ignored in SIGNALS:
            signal.signal(ignored, signal.SIG_IGN)  # a process group gets them too; the nanny says when to stop
        chosen = Settings(database=handed_down(), log_format=self.log_format)
        shown = display("lines", log_format=self.log_format)
        self._spoken = ExitStack()  # to the end of the process, which still may have something to say
        self._spoken.enter_context(logging_to(shown, chosen, debug=self.debug))
        self._spoken.enter_context(dasks_lines(debug=self.debug))

        async def finish(grace_s: float) -> None:
            await _finish(worker, grace_s)

        worker.handlers[FINISH] = finish


async def _finish(worker: Worker, grace_s: float) -> None:
    """Begins nothing any more; returns when the page under way is done and its result is taken, or after `grace_s`."""
    worker.status = Status.paused  # the scheduler hears of it, and gives nothing more
    await _until(lambda: not worker.state.executing, grace_s)
    await _until(lambda: not worker.data, _TAKEN_S)


async def _until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_S)
