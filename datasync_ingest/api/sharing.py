"""What the fetchers of a run have in common: the endpoint, the pace, the stop, and what was learned of page sizes."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..settings import Settings
from .endpoints import Endpoint, EventsEndpoint
from .pacing import Pacer
from .patience import Trouble

REFUSED_ABOVE = "refused_above"  # in the state that a run leaves to the next one
START_PATIENCE_S = 30.0
# Page sizes to step down to when the server refuses a larger one; 100 is the API's own default.
_LIMITS = (5000, 2000, 1000, 500, 200, 100)

_log = logging.getLogger(__name__)


class Shared:
    """Safe for any thread. `limit` only ever shrinks, and says so."""

    def __init__(
        self,
        settings: Settings,
        endpoint: Endpoint | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings
        self.endpoint = endpoint or EventsEndpoint(settings)
        self.clock = clock
        self.jitter = jitter
        self.pacer = Pacer(buffer=settings.rate_limit_buffer, clock=clock, jitter=jitter)
        self.stop = threading.Event()
        self.limit = settings.batch_size
        self.any_page = False
        self._refused_above: int | None = None  # events a page: the server refused every larger one that was tried
        # What earlier runs left of the other endpoint; of /events there is always something, for whoever asks it alone.
        self._others: dict[str, Any] = {} if self._is_main else self._state(settled=True)
        self._lock = threading.Lock()

    def patience(self) -> Trouble:
        """For the faults of one page."""
        patience_s = self.settings.api_patience
        return Trouble(patience_s if self.any_page else min(START_PATIENCE_S, patience_s), self.clock)

    def step_down(self, asked: int, reason: str) -> bool:
        """A page of `asked` events was refused. Whether there is a smaller size to go to."""
        with self._lock:
            if asked > self.limit:
                return True  # another thread has been told the same
            smaller = [limit for limit in _LIMITS if limit < self.limit]
            if not smaller:
                return False
            _log.warning("the server refuses %d events a page (%s): asking for %d", self.limit, reason, smaller[0])
            self.limit = self._refused_above = smaller[0]
            return True

    def state(self, *, settled: bool) -> dict[str, Any]:
        """What the next run needs to know, as JSON values: of /events, and below the other's name, of the feed."""
        own = self._state(settled=settled)
        return {**self._others, **own} if self._is_main else {**self._others, self.endpoint.key: own}

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Goes on where the `state` of an earlier run left the rate limit, with pages that the server takes."""
        if state is None:
            return
        own = state if self._is_main else state.get(self.endpoint.key)
        mine = ("pacer", REFUSED_ABOVE, "settled") if self._is_main else (self.endpoint.key,)
        self._others |= {name: value for name, value in state.items() if name not in mine}
        if not own or "pacer" not in own:
            return
        self.pacer.restore(own["pacer"], unseen=0 if own["settled"] else 1)
        self._refused_above = own.get(REFUSED_ABOVE)
        if self._refused_above is not None and self._refused_above < self.limit:
            self.limit = self._refused_above
            _log.info("the server has refused more than %d events a page before; --fresh tries again", self.limit)

    def _state(self, *, settled: bool) -> dict[str, Any]:
        return {"pacer": self.pacer.state(), REFUSED_ABOVE: self._refused_above, "settled": settled}

    @property
    def _is_main(self) -> bool:
        return self.endpoint.key == EventsEndpoint.key


def with_any_page_size(state: Mapping[str, Any]) -> dict[str, Any]:
    """A `state` that says nothing of page sizes."""
    return {
        name: with_any_page_size(value) if isinstance(value, dict) and REFUSED_ABOVE in value else value
        for name, value in {**state, REFUSED_ABOVE: None}.items()
    }
