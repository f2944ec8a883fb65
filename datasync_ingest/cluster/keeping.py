"""Keeps a number of worker processes at a scheduler: started, started again, and taken away in order at a stop."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from distributed import Nanny
from distributed.comm import get_address_host
from distributed.core import Status
from distributed.utils import get_ip

from ..errors import StoppedError
from ..pools.dask_bodies import Bodies
from ..pools.dask_worker import RESOURCE
from ..stopping import SIGNALS
from .member import FINISH, Member
from .scheduler import Scheduler

_REGISTER_S = 60  # for a worker process to start and to be known to the scheduler
_END_S = 4.0  # for an idle worker process to end before it is killed
_PAUSE_S = 1.0  # between two attempts to start a worker while the scheduler answers
_CLOSED, _REMOVED = "scheduler-close-worker", "scheduler-remove-worker"  # what Dask calls it when it sends one away

# No dashboard of a worker, but Dask opens its port in any case: not to other machines. No limit of the memory: pages
# are bounded by the run, so there is nothing to spill; a paused worker would not resume, and what is too large for the
# machine the system ends, after which the nanny starts anew. A profile of every 10 ms costs time, and nobody looks.
_NANNY: dict[str, Any] = {
    "nthreads": 1,
    "resources": {RESOURCE: 1},
    "dashboard": False,
    "dashboard_address": "127.0.0.1:0",
    "memory_limit": 0,
    "death_timeout": _REGISTER_S,
    "config": {"distributed.worker.profile.enabled": False},
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """What to keep: how many workers, under which address or range of ports, where their files are (locks, no data)."""

    workers: int
    grace_s: float
    folder: str
    member: Member
    host: str | None = None
    ports: range | None = None


class TellingNanny(Nanny):  # type: ignore[misc]
    """Remembers which worker left, by address, and why."""

    left = ""
    reason = ""

    def close_gracefully(self, reason: str = "") -> None:
        self.left, self.reason = self.worker_address or "", reason
        super().close_gracefully(reason=reason)


class Keeper:
    """For one event loop."""

    def __init__(self, kept: Kept, scheduler: Scheduler) -> None:
        self._kept = kept
        self._scheduler = scheduler
        self._nannies: dict[int, TellingNanny] = {}
        self._signums: list[int] = []
        self._stop = asyncio.Event()
        self._urgent = asyncio.Event()

    async def run(self) -> None:
        """Returns when the scheduler has retired every worker. Raises StoppedError after a signal, and what
        `Scheduler.wait` raises."""
        loop = asyncio.get_running_loop()
        for signum in SIGNALS:
            loop.add_signal_handler(signum, self._received, signum)
        keeping = asyncio.gather(*(self._keep(number) for number in range(self._kept.workers)))
        if not await self._unless(self._stop, keeping):
            _log.info("stopping: pages under way are finished first, for at most %.0f s", self._kept.grace_s)
        in_order = await self._unless(self._urgent, self._leave())
        if not in_order:
            for child in multiprocessing.active_children():
                child.kill()
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        if self._signums:
            raise self._stopped(in_order)
        _log.info("the scheduler has retired every worker")

    def _stopped(self, in_order: bool) -> StoppedError:
        name = signal.Signals(self._signums[0]).name
        how = "the workers have left" if in_order else "pages under way were given up, the run gives them to others"
        return StoppedError(self._signums[0], f"Stopped by {name}: {how}.", hint="")

    def _received(self, signum: int) -> None:
        (self._urgent if self._signums else self._stop).set()
        self._signums.append(signum)

    async def _unless(self, event: asyncio.Event, work: Any) -> bool:
        """Whether `work` ended before the event came; raises what it raised."""
        task, other = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({task, other}, return_when=asyncio.FIRST_COMPLETED)
            ended: bool = task.done()
            if ended:
                await task
            return ended
        finally:
            other.cancel()

    async def _keep(self, number: int) -> None:
        """Returns when this worker was retired, or when a stop was asked for."""
        while not self._stop.is_set():
            await self._scheduler.wait()
            if (nanny := await self._started(number)) is None:
                await asyncio.sleep(_PAUSE_S)
                continue
            await nanny.finished()
            del self._nannies[number]
            if self._stop.is_set():
                return
            if await self._was_retired(nanny):
                _log.info("%s was retired by the scheduler", nanny.name)
                return
            _log.warning("%s has lost the scheduler (%s), and starts again", nanny.name, nanny.reason or "no reason")

    async def _was_retired(self, nanny: TellingNanny) -> bool:
        """Rather than given up by a scheduler that has not heard of it for too long."""
        return nanny.reason == _CLOSED or (nanny.reason == _REMOVED and await self._scheduler.has_retired(nanny.left))

    async def _started(self, number: int) -> TellingNanny | None:
        kept = self._kept
        nanny = TellingNanny(
            self._scheduler.address,
            name=f"{socket.gethostname()}-{multiprocessing.current_process().pid}-{number}",
            local_directory=kept.folder,
            plugins=(kept.member, Bodies()),
            host=kept.host or _own_address(self._scheduler.address),
            port=list(kept.ports or [0]),
            worker_port=list(kept.ports or [0]),
            **_NANNY,
        )
        try:
            await nanny
        except Exception as error:
            _log.warning("%s could not start: %s", nanny.name, error)
            return None
        self._nannies[number] = nanny
        _log.info("%s is ready at %s (process %s)", nanny.name, nanny.worker_address, nanny.pid)
        return nanny

    async def _leave(self) -> None:
        nannies = {nanny.worker_address: nanny for nanny in self._nannies.values() if nanny.status == Status.running}
        await asyncio.gather(*(self._finished(nanny) for nanny in nannies.values()))
        retired = await self._scheduler.retire(list(nannies))
        await asyncio.gather(*(self._ended(nanny, address in retired) for address, nanny in nannies.items()))

    async def _finished(self, nanny: TellingNanny) -> None:
        grace_s = self._kept.grace_s
        with suppress(OSError, asyncio.TimeoutError):
            async with nanny.rpc(nanny.worker_address) as worker:
                await asyncio.wait_for(getattr(worker, FINISH)(grace_s=grace_s), grace_s + 2)

    async def _ended(self, nanny: TellingNanny, retired: bool) -> None:
        """A retired worker goes by itself and takes its nanny along; another one is ended."""
        if retired:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(nanny.finished(), _END_S)
        await nanny.close(timeout=_END_S, reason="bin/worker stops")


def _own_address(scheduler: str) -> str | None:
    """Of the way to the scheduler, so that no worker listens on another one; None leaves it to Dask (all of them)."""
    host = get_address_host(scheduler)
    return None if ":" in host else get_ip(host)
