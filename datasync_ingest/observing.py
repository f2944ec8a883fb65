"""Who is told what happens in a run, as it happens: the sidecar's history, metrics. The run itself needs none of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .messages import RawPage, Receipt, RequestEnded
from .progress import Snapshot


class Observer(Protocol):
    """Every method returns at once. `requested` is called by the walks' threads, by several at the same time; the
    others by the main thread.
    """

    def requested(self, request: RequestEnded) -> None: ...

    def committed(self, page: RawPage, receipt: Receipt) -> None:
        """Once for each page, when it is marked."""

    def shown(self, snapshot: Snapshot) -> None:
        """How things stand, several times a second, and once at the end."""


class Observers:
    """Tells each of them."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = observers

    def requested(self, request: RequestEnded) -> None:
        for observer in self._observers:
            observer.requested(request)

    def committed(self, page: RawPage, receipt: Receipt) -> None:
        for observer in self._observers:
            observer.committed(page, receipt)

    def shown(self, snapshot: Snapshot) -> None:
        for observer in self._observers:
            observer.shown(snapshot)


NOBODY = Observers()
