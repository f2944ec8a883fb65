"""The API itself: which endpoint answers what. Knows no sockets."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from email.utils import formatdate

from .answers import Answer, RefusedError, Request, json_answer, refusal, text_answer
from .control import PREFIX, Control
from .counters import Counters
from .dataset import Dataset
from .event_pages import EventPages
from .gate import Gate
from .options import Options
from .resources import API, Resources
from .world import World

_ID = r"(?P<id>[^/]+)"

_Endpoint = Callable[..., Answer]


class Service:
    """One simulated API. `answer` may be called by any number of threads."""

    def __init__(self, dataset: Dataset, options: Options, *, wall: Callable[[], float] = time.time) -> None:
        self.world = World(dataset, options, wall=wall)
        self._counters = Counters()
        self._gate = Gate(self.world, self._counters)
        self._pages = EventPages(self.world, self._gate, self._counters)
        self._control = Control(self.world, self._pages, self._counters)
        self._routes = self._all_routes()

    def answer(self, request: Request) -> Answer:
        """Never raises but for bugs."""
        if request.path.startswith(PREFIX):
            return self._control.answer(request)
        if request.opens:
            self._counters.connection()
        self._gate.note(request)
        try:
            answer = self._routed(request)
        except RefusedError as error:
            answer = refusal(error)
        answer.headers.setdefault("Date", formatdate(self.world.now, usegmt=True))
        answer.delay_s += self.world.options.latency_ms / 1000
        applied = answer.headers.get("X-Chaos-Applied", "")
        self._counters.answer(answer.status, applied.split(",") if applied else [])
        return answer

    def _routed(self, request: Request) -> Answer:
        for method, path, endpoint in self._routes:
            if method == request.method and (match := path.fullmatch(request.path)):
                return endpoint(request, **match.groupdict())
        self._counters.request("unknown")
        raise RefusedError(404, "ENDPOINT_NOT_FOUND", f"{request.method} {request.path} is not an endpoint")

    def _all_routes(self) -> list[tuple[str, re.Pattern[str], _Endpoint]]:
        """Method, path, and who answers; the groups of the path are its arguments. The first that fits answers."""
        pages, resources = self._pages, Resources(self.world, self._gate, self._counters)
        routes: list[tuple[str, str, _Endpoint]] = [
            ("GET", "/health", lambda _: text_answer("OK")),
            ("GET", "/internal/health", lambda _: json_answer({"status": "healthy", "database": "ok", "redis": "ok"})),
            ("GET", "/internal/stats", resources.stats),
            ("POST", "/internal/dashboard/stream-access", pages.stream_access),
            ("GET", f"{API}/?", resources.manifest),
            ("GET", f"{API}/events", pages.events),
            ("POST", f"{API}/events/bulk", resources.bulk),
            ("GET", re.escape(self._gate.keys.feed_path), pages.feed),
            ("GET", f"{API}/events/{_ID}", resources.event),
            ("GET", f"{API}/sessions", resources.sessions),
            ("GET", f"{API}/sessions/{_ID}", resources.session),
            ("GET", f"{API}/metrics", resources.metrics),
            ("POST", f"{API}/submissions", resources.submit),
            ("GET", f"{API}/submissions", resources.submitted),
        ]
        return [(method, re.compile(path), endpoint) for method, path, endpoint in routes]
