"""The endpoints beside the pages of events: single events, sessions, metrics, statistics, submissions."""

from __future__ import annotations

import json
from typing import Any

from .answers import Answer, RefusedError, Request, json_answer, refusal
from .counters import Counters
from .dataset import KINDS
from .gate import Gate
from .listings import Sessions, session_number
from .paging import Pager
from .submissions import Submissions
from .world import World

API = "/api/v1"


class Resources:
    """One method an endpoint."""

    def __init__(self, world: World, gate: Gate, counters: Counters) -> None:
        self._world = world
        self._gate = gate
        self._counters = counters
        self._pager = Pager()
        self._submissions = Submissions()

    def manifest(self, _: Request) -> Answer:
        self._counters.request("manifest")
        endpoints = {name: f"{API}/{name}" for name in ("events", "sessions", "metrics")}
        manifest = {"name": "DataSync Analytics API", "version": "1.0.0", "endpoints": endpoints}
        return json_answer({**manifest, "authentication": "X-API-Key header"})

    def stats(self, _: Request) -> Answer:
        self._counters.request("stats")
        shown, sessions = self._world.shown, self._world.dataset.sessions
        kinds = self._world.dataset.kinds[shown.start :]
        by_device: dict[str, int] = {}
        for session in sessions:
            by_device[session.device] = by_device.get(session.device, 0) + session.events
        by_type = {kind: kinds.count(number) for number, kind in enumerate(KINDS)}
        counts = {"totalEvents": len(shown), "totalSessions": len(sessions)}
        return json_answer({**counts, "eventsByType": by_type, "eventsByDevice": by_device})

    def event(self, request: Request, id: str) -> Answer:
        return self._gate.limited(request, "events", lambda: Answer(200, [b'{"data":', self._found(id), b"}"]))

    def bulk(self, request: Request) -> Answer:
        """As it was found: broken for more than one id."""

        def answer() -> Answer:
            ids = _ids(request)
            if len(ids) != 1:
                raise RefusedError(500, "INTERNAL_ERROR", "something went wrong")
            return Answer(200, [b'{"data":[', self._found(str(ids[0])), b"]}"])

        return self._gate.limited(request, "bulk", answer)

    def sessions(self, request: Request) -> Answer:
        def answer() -> Answer:
            listing = Sessions(self._world.dataset, self._world.shown)
            page = self._pager.page(listing, request.query, self._world.options, self._world.now)
            return Answer(200, page.parts(self._world.options))

        return self._gate.limited(request, "sessions", answer)

    def session(self, request: Request, id: str) -> Answer:
        def answer() -> Answer:
            number = session_number(self._world.dataset, id)
            if number is None:
                raise RefusedError(404, "SESSION_NOT_FOUND", "there is no session with this id")
            return Answer(200, [b'{"data":', Sessions(self._world.dataset, self._world.shown).row(number), b"}"])

        return self._gate.limited(request, "sessions", answer)

    def metrics(self, request: Request) -> Answer:
        return self._gate.limited(request, "metrics", lambda: json_answer({"data": []}))

    def submit(self, request: Request) -> Answer:
        key = self._gate.caller(request, "submit").key
        try:
            return self._submissions.submit(key, request, self._world.options)
        except RefusedError as error:
            return refusal(error)

    def submitted(self, request: Request) -> Answer:
        key = self._gate.caller(request, "submissions").key
        return self._submissions.of(key, self._world.options)

    def _found(self, id: str) -> bytes:
        index = self._world.dataset.find(id)
        if index is None or index not in self._world.shown:
            raise RefusedError(404, "EVENT_NOT_FOUND", "there is no event with this id")
        return self._world.dataset.event(index)


def _ids(request: Request) -> list[Any]:
    try:
        ids = json.loads(b"".join(request.body))["ids"]
    except (ValueError, KeyError, TypeError):
        ids = None
    if not isinstance(ids, list):
        raise RefusedError(400, "INVALID_BODY", 'the body must be {"ids": [...]}')
    return ids
