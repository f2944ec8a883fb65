"""Who may come in: every keyed endpoint asks here for the caller, and for a place in the caller's window."""

from __future__ import annotations

from collections.abc import Callable

from . import limits
from .answers import Answer, RefusedError, Request, refusal
from .counters import Counters
from .keys import Caller, Keys
from .world import World


class Gate:
    """Keys and the windows of their rate limits."""

    def __init__(self, world: World, counters: Counters) -> None:
        self._world = world
        self._counters = counters
        self._windows: dict[tuple[str, str, bool], limits.Window] = {}
        self.keys = Keys(world.options.seed)

    def note(self, request: Request) -> Caller | None:
        """Every call with a valid key starts the key's clock, whatever it is for."""
        with self._world.lock:
            return self.keys.note(request.headers, request.query, self._world.options, self._world.now)

    def caller(self, request: Request, endpoint: str) -> Caller:
        """Counts the request. Raises RefusedError where its key is not good."""
        self._counters.request(endpoint)
        caller = self.note(request)
        with self._world.lock:
            return self.keys.require(caller, self._world.options, self._world.now)

    def place(self, caller: Caller, endpoint: str) -> limits.Place:
        """Takes a place in the window; says whether there was one, and the headers that tell."""
        options, now = self._world.options, self._world.now
        limit = limits.limit_of(endpoint, options, key_in_query=caller.by_query)
        if not limit:
            self._counters.counted(endpoint)
            return limits.Place(granted=True, headers={})
        with self._world.lock:
            window = self._windows.setdefault((caller.key, endpoint, caller.by_query), limits.Window())
            grant = window.take(now, limit, options.rate_window, aligned=options.window_style == "aligned")
            self._counters.counted(endpoint, most=window.most, windows=window.windows)
        return limits.Place(grant.allowed, limits.headers_of(grant, now, options))

    def limited(self, request: Request, endpoint: str, answer: Callable[[], Answer]) -> Answer:
        """The answer, for a caller with a good key and a place in the window. Raises RefusedError."""
        place = self.place(self.caller(request, endpoint), endpoint)
        try:
            found = answer() if place.granted else too_many()
        except RefusedError as error:
            found = refusal(error)
        found.headers.update(place.headers)
        return found


def too_many() -> Answer:
    return refusal(RefusedError(429, "RATE_LIMITED", "too many requests"))
