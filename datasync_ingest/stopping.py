"""How a run is asked to stop: signal handlers that only set a flag, and a pipe that wakes whoever waits."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from contextvars import copy_context
from types import FrameType
from typing import TypeVar

from .errors import StoppedError

T = TypeVar("T")

_POLL_S = 0.1
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):  # noqa: N818 - not an error: somebody asked for it
    """Raised in the fetching thread when a stop was asked for while it waited."""


class Wake:
    """A file descriptor to wait on; any thread or signal handler may ring it, also when nobody waits any more."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._is_open = True
        self._closing = threading.RLock()  # a descriptor that was closed may be another file's by now

    def fileno(self) -> int:
        return self._read

    def ring(self) -> None:
        with self._closing, suppress(BlockingIOError):  # it rings already
            if self._is_open:
                os.write(self._write, b"!")

    def clear(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._read, 512):
                pass

    def close(self) -> None:
        """Idempotent."""
        with self._closing:
            if self._is_open:
                self._is_open = False
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

    def wait_for(self, work: Callable[[], T]) -> T:
        """Runs what blocks where no signal is seen, such as libpq, in a thread that is left behind at a stop.

        Returns its result, or raises what it raised; raises StoppedError as soon as a stop is asked for. Where one was
        asked for before, nothing is begun.
        """
        if self:
            raise self.error()
        result: Future[T] = Future()
        run = copy_context().run  # what is logged there is about the same
        threading.Thread(target=run, args=(_run, work, result), name="waited for", daemon=True).start()
        while not self:
            if wait([result], timeout=_POLL_S).done:
                return result.result()
        raise self.error()

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


def _run(work: Callable[[], T], result: Future[T]) -> None:
    try:
        result.set_result(work())
    except BaseException as error:
        result.set_exception(error)


@contextmanager
def signals_held() -> Iterator[None]:
    """For this process they are delivered when the block ends; a child started in here is born with them blocked.

    Also for imports: what a handler raises while psycopg2 loads is lost there (13 of 80 interrupts at the start of a
    command, with 2.9), and the command would go on.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
