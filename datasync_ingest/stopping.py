"""How a run is asked to stop: signal handlers that only set a flag, and a pipe that wakes whoever waits."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from .errors import StoppedError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):  # noqa: N818 - not an error: somebody asked for it
    """Raised in the fetching thread when a stop was asked for while it waited."""


class Wake:
    """A file descriptor to wait on; any thread or signal handler may ring it."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        return self._read

    def ring(self) -> None:
        with suppress(BlockingIOError):  # it rings already
            os.write(self._write, b"!")

    def clear(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._read, 512):
                pass

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class StopRequest:
    """What the signals said. `signum` is the first one's number; `urgent` after a second one."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._deferred = False
        self.signum: int | None = None
        self.urgent = False

    def __bool__(self) -> bool:
        return self.signum is not None

    def defer(self) -> None:
        """From here on a signal sets the flag only; before, it raises StoppedError where the program stands."""
        self._deferred = True

    def error(self, standing: str = "") -> StoppedError:
        """The ending of a run that was stopped; `standing` says how things stand."""
        assert self.signum is not None, "asked for the error of a stop that nobody asked for"
        name = signal.Signals(self.signum).name
        return StoppedError(self.signum, f"Stopped by {name}{standing and ': '}{standing}.")

    def received(self, signum: int, frame: FrameType | None) -> None:
        """The handler."""
        del frame
        self.urgent = self.signum is not None
        self.signum = self.signum or signum
        self._wake.ring()
        if not self._deferred:
            raise self.error()


@contextmanager
def stop_on_signals(wake: Wake) -> Iterator[StopRequest]:
    """Installs the handlers; the ones before come back at the end. Main thread only."""
    request = StopRequest(wake)
    before = {signum: signal.signal(signum, request.received) for signum in SIGNALS}
    try:
        yield request
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
