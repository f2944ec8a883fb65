"""A database that is looked into in a thread of its own: nobody waits for it longer than he wants."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..errors import DatabaseUnreachableError
from ..postgres.contents import CONNECT_TIMEOUT_S, TIME_S
from .state import Table, now

# A pass over the table costs the database 2 to 3 s of one core for 3,000,000 events: at most a twentieth of it.
_SHARE = 20
PATIENCE_S = CONNECT_TIMEOUT_S + TIME_S + 5.0

_PENDING = "It has not answered yet."
_LATE = f"It has not answered for {PATIENCE_S:.0f} s."
_HINT = "Check the database and the network to it."


class TableWatch:
    """`look` is called by one thread at a time, and not again before _SHARE times as long as it took has passed."""

    def __init__(self, look: Callable[[], Table], *, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._name = name
        self._clock = clock
        self._latest = Table(name, now(), why=_PENDING)
        self._looking: threading.Thread | None = None
        self._due_at = self._began_at = clock()

    def table(self, wait_s: float) -> Table:
        """The latest that was seen; where a look is due or under way, waits for it, but no longer than `wait_s`."""
        if self._looking is None and self._clock() >= self._due_at:
            self._began_at = self._clock()
            self._looking = threading.Thread(target=self._run, name="looks into the database", daemon=True)
            self._looking.start()
        if self._looking is not None:
            self._looking.join(wait_s)
            if self._looking.is_alive():
                return self._late() if self._clock() - self._began_at >= PATIENCE_S else self._latest
            self._looking = None
        return self._latest

    def _run(self) -> None:
        self._latest = self._look()
        self._due_at = self._clock() + (self._clock() - self._began_at) * _SHARE

    def _late(self) -> Table:
        return Table(self._name, now(), why=_LATE, error=DatabaseUnreachableError(_LATE, hint=_HINT))
