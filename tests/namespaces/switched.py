"""Network namespaces of Linux as machines, each with a link to a bridge, which is a namespace of its own.

No namespace has a name, and nothing of it is in the system's own: what it holds (links, addresses) is gone with the
last process in it and the last descriptor of it, also when we are killed.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

_CLONE_NEWNET = 0x40000000  # https://man7.org/linux/man-pages/man2/unshare.2.html
_OWN = "/proc/thread-self/ns/net"
_NET = "198.18.0"  # for benchmarks of networks (RFC 2544); nothing of it leaves the namespaces
_PREFIX_LENGTH = 24
_BRIDGE, _SOCKET, _LOOPBACK = "bridge", "eth0", "lo"  # names of links


class NoNamespacesError(Exception):
    """Raised where no namespace, or no link between two of them, can be made."""


class _Namespace:
    """A network namespace with its loopback."""

    def __init__(self, opened: ExitStack) -> None:
        self.descriptor = _new_namespace()
        opened.callback(os.close, self.descriptor)
        with self.entered(), IPRoute() as links:
            links.link("set", index=_index(links, _LOOPBACK), state="up")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """For this thread alone."""
        before = os.open(_OWN, os.O_RDONLY)
        try:
            _enter(self.descriptor)
            try:
                yield
            finally:
                _enter(before)
        finally:
            os.close(before)


class Switched:
    """See `Network`."""

    is_real = True
    described = "every part on a machine of its own: network namespaces at one switch"

    def __init__(self, opened: ExitStack) -> None:
        self._opened = opened
        self._machines = 0
        with _named_refusals():
            self._switch = _Namespace(opened)
            with self.entered(), IPRoute() as links:
                links.link("add", ifname=_BRIDGE, kind="bridge", state="up")
                links.addr("add", index=_index(links, _BRIDGE), address=f"{_NET}.1", prefixlen=_PREFIX_LENGTH)
            self.machine()  # whose links can be made, too

    def machine(self) -> SwitchedMachine:
        self._machines += 1
        cable, address = f"port{self._machines}", f"{_NET}.{self._machines + 1}"
        namespace = _Namespace(self._opened)
        with self.entered(), IPRoute() as links:
            links.link("add", ifname=cable, kind="veth", peer={"ifname": _SOCKET, "net_ns_fd": namespace.descriptor})
            links.link("set", index=_index(links, cable), master=_index(links, _BRIDGE), state="up")
        with namespace.entered(), IPRoute() as links:
            socket = _index(links, _SOCKET)
            links.addr("add", index=socket, address=address, prefixlen=_PREFIX_LENGTH)
            links.link("set", index=socket, state="up")
        return SwitchedMachine(address, namespace, self._switch, cable)

    def entered(self) -> AbstractContextManager[object]:
        return self._switch.entered()


class SwitchedMachine:
    """See `Machine`."""

    def __init__(self, address: str, namespace: _Namespace, switch: _Namespace, cable: str) -> None:
        self.address = address
        self._namespace = namespace
        self._switch = switch
        self._cable = cable

    def entered(self) -> AbstractContextManager[object]:
        return self._namespace.entered()

    def cut(self) -> None:
        self._plug("down")

    def join(self) -> None:
        self._plug("up")

    def _plug(self, state: str) -> None:
        with self._switch.entered(), IPRoute() as links:
            links.link("set", index=_index(links, self._cable), state=state)


def _new_namespace() -> int:
    """Its descriptor. By a thread that ends with it, as it would have to find back otherwise."""
    made: list[int | OSError] = []

    def leave() -> None:
        try:
            _checked(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET))
            made.append(os.open(_OWN, os.O_RDONLY))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


def _enter(descriptor: int) -> None:
    _checked(ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET))


def _checked(returned: int) -> None:
    if returned != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _index(links: IPRoute, name: str) -> int:
    return int(links.link_lookup(ifname=name)[0])


@contextmanager
def _named_refusals() -> Iterator[None]:
    """Raises NoNamespacesError with the system's own words."""
    try:
        yield
    except OSError as error:
        raise NoNamespacesError(f"no network namespace can be made ({error})") from error
    except NetlinkError as error:
        raise NoNamespacesError(f"network namespaces cannot be linked ({error})") from error
