"""The Dask scheduler as seen from a worker: whether one answers, of which version, and how long it may be away."""

from __future__ import annotations

import asyncio
import logging
import platform
import time
from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any

from distributed.comm.core import FatalCommClosedError
from distributed.core import rpc
from distributed.security import Security

from ..errors import ConfigurationError, SchedulerAwayError
from ..units import show_seconds

_ANSWER_S = 10.0  # for a connection and three short answers
_OWN_VERSION = metadata.version("distributed")
_LONGEST_WAIT_S = 15.0
_SAY_EVERY_S = 30.0

_TLS_HINT = (
    "For an address tls://... set DASK_DISTRIBUTED__COMM__TLS__CA_FILE, DASK_DISTRIBUTED__COMM__TLS__WORKER__CERT and"
    " DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY, or the same in Dask's configuration."
)

_log = logging.getLogger(__name__)


class Scheduler:
    """The one at `address`, which may be away for `patience_s` at a time. For one event loop."""

    def __init__(
        self,
        address: str,
        *,
        patience_s: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address
        self._patience_s = patience_s
        self._sleep = sleep
        self._clock = clock
        self._asking = asyncio.Lock()  # many may wait for it, and one line is enough

    async def wait(self) -> None:
        """Returns as soon as it answers, and says what it waits for.

        Raises SchedulerAwayError after the patience; ConfigurationError at once where waiting cannot help.
        """
        async with self._asking:
            began, said = self._clock(), float("-inf")
            pause_s = 0.2
            while (cause := await self._refusal()) is not None:
                now = self._clock()
                if now - began >= self._patience_s:
                    raise SchedulerAwayError(
                        f"No Dask scheduler has answered at {self.address} for {show_seconds(now - began)}: {cause}.",
                        hint="Start it with bin/scheduler (or dask scheduler), or name another one with --scheduler.",
                    )
                if now - said >= _SAY_EVERY_S:
                    _log.warning("waiting for the scheduler at %s: %s", self.address, cause)
                    said = now
                await self._sleep(pause_s)
                pause_s = min(_LONGEST_WAIT_S, 2 * pause_s)

    async def retire(self, workers: list[str]) -> set[str]:
        """Tells these to go, by address, and returns those that do; what they had not begun, others get.

        One that has a result which nobody has taken does not go, nor does any while the scheduler is away.
        """
        if not workers:
            return set()
        try:
            answer = self._call("retire_workers", workers=workers, close_workers=True)
            return set(await asyncio.wait_for(answer, _ANSWER_S))
        except (OSError, asyncio.TimeoutError):
            return set()

    async def has_retired(self, worker: str) -> bool:
        """Whether it has sent this worker away, by address, rather than given it up; False while it is away.

        Dask tells the worker the same in both cases; one that was frozen or cut off hears of it when it is back.
        """
        try:
            events = await asyncio.wait_for(self._call("events", topic=worker), _ANSWER_S)
        except (OSError, asyncio.TimeoutError):
            return False
        removals = [event for _, event in events if event.get("action") == "remove-worker"]
        return bool(removals) and bool(removals[-1]["expected"])  # earlier ones are of others that had this address

    async def _refusal(self) -> str | None:
        """Why it does not answer for now; None where it does."""
        try:
            await asyncio.wait_for(self._require_ours(), _ANSWER_S)
        except FatalCommClosedError as error:
            raise ConfigurationError(
                f"The scheduler at {self.address} and this worker do not accept each other's certificates:"
                f" {_root(error)}.",
                hint=_TLS_HINT,
            ) from None
        except asyncio.TimeoutError:
            return f"no answer for {_ANSWER_S:.0f} s"
        except OSError as error:
            return _root(error)
        return None

    async def _require_ours(self) -> None:
        """Raises ConfigurationError where it is no scheduler, or one of another version; OSError where it is away."""
        try:
            who = await self._call("identity")
            packages = (await self._call("versions"))["packages"]
        except (TypeError, ValueError, KeyError, MemoryError) as error:  # no certificate; no words of Dask's
            raise ConfigurationError(
                f"No Dask scheduler can be reached at {self.address}: {error}.", hint=_TLS_HINT
            ) from error
        if who.get("type") != "Scheduler":
            raise ConfigurationError(
                f"At {self.address} is a Dask {who.get('type', 'server').lower()}, not the scheduler.",
                hint="bin/scheduler (or dask scheduler) prints the address when it starts.",
            )
        if packages["distributed"] != _OWN_VERSION:
            raise ConfigurationError(
                f"The scheduler at {self.address} runs Dask {packages['distributed']}, and this worker {_OWN_VERSION}.",
                hint="Install the same version of distributed on every machine of the cluster.",
            )
        if packages["python"] != (own := platform.python_version()):
            _log.debug("the scheduler runs Python %s, this worker %s", packages["python"], own)

    async def _call(self, method: str, **arguments: Any) -> Any:
        connection = Security().get_connection_args("worker")
        async with rpc(self.address, timeout=_ANSWER_S / 2, connection_args=connection) as server:
            return await getattr(server, method)(**arguments)


def _root(error: BaseException) -> str:
    """The words of what is behind an error of Dask's."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
