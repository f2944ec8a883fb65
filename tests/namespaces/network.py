"""Machines with addresses of their own at one switch, each a network namespace; where there are none, loopback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Protocol


class Machine(Protocol):
    """What a thread does inside of `entered`, and the processes that it starts there, are on this machine."""

    address: str

    def entered(self) -> AbstractContextManager[object]: ...

    def cut(self) -> None:
        """Pulls its cable: what is sent to it or from it is lost, and nobody is told."""

    def join(self) -> None: ...


class Network(Protocol):
    """`is_real`: its machines have addresses of their own and can be cut off; `described` is for the person."""

    is_real: bool
    described: str

    def machine(self) -> Machine:
        """A new one."""

    def entered(self) -> AbstractContextManager[object]:
        """Inside, this thread reaches every machine that is not cut off."""


@contextmanager
def network() -> Iterator[Network]:
    """Nothing of it is left after the block, but for processes that still run there."""
    with ExitStack() as opened:
        yield _made(opened)


def _made(opened: ExitStack) -> Network:
    if sys.platform != "linux":
        return Loopback("network namespaces are Linux'")
    from tests.namespaces.switched import NoNamespacesError, Switched

    try:
        return Switched(opened)
    except NoNamespacesError as error:
        return Loopback(str(error))


class Loopback:
    """See `Network`: all machines are one."""

    is_real = False

    def __init__(self, why: str) -> None:
        self.described = f"every part on 127.0.0.1, and nothing is cut off: {why}"

    def machine(self) -> Machine:
        return LoopbackMachine()

    def entered(self) -> AbstractContextManager[object]:
        return nullcontext()


class LoopbackMachine:
    """See `Machine`. It cannot be cut off."""

    address = "127.0.0.1"

    def entered(self) -> AbstractContextManager[object]:
        return nullcontext()

    def cut(self) -> None:
        raise NotImplementedError("loopback cannot be cut")

    def join(self) -> None:
        raise NotImplementedError("loopback cannot be joined")
