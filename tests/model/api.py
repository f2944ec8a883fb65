"""The API as a list of events, newest first, whose cursors have the known form and die with a clock that tests move."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from typing import Any

from datasync_ingest.activity import Activity
from datasync_ingest.api.cursors import decode
from datasync_ingest.errors import CursorExpiredError
from datasync_ingest.messages import PageAddress, PageId, Position, RawPage
from datasync_ingest.stopping import Interrupted

CURSOR_LIFE_S = 116


class ModelClock:
    """Seconds that pass only when a test says so; the run's own wall clock can be set to another time."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.skew = 0.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self.skew


class ModelApi:
    """Has the methods that the run uses of a PageFetcher; keeps which pages it was asked for."""

    def __init__(self, clock: ModelClock, *, renews: bool, totals: bool = True) -> None:
        self.limit = 3
        self.events: list[Position] = []
        self.fetched: list[PageId] = []  # renewals are none
        self.may_fetch: Callable[[PageId], object] = lambda page: page
        self._clock = clock
        self._renews = renews
        self.totals = totals
        self._issued: set[str] = set()

    def add(self, positions: Iterable[Position]) -> None:
        self.events = sorted({*self.events, *positions}, key=_order, reverse=True)

    def new_run(self) -> ModelFetcher:
        return ModelFetcher(self)

    def serve(self, address: PageAddress) -> RawPage:
        """Raises CursorExpiredError."""
        self._clock.now += 0.001  # no two cursors are alike
        if address.limit is None:
            self.may_fetch(address.page)
            self.fetched.append(address.page)
        rest = self._rest(address)
        found = rest[: address.limit or self.limit]
        ends = len(found) == len(rest)
        return RawPage(
            page=address.page,
            cursor=address.cursor,
            next_cursor=None if ends else self._cursor_after(found[-1]),
            ends_walk=ends,
            limit=address.limit or self.limit,
            received=len(found),
            after=address.after,
            first=found[0] if found else None,
            last=found[-1] if found else None,
            total=len(self.events) if self.totals else None,
            request_id=None,
            body=json.dumps([position.event_id for position in found]).encode(),
        )

    def _rest(self, address: PageAddress) -> list[Position]:
        if address.cursor is None:
            return self.events
        plain = decode(address.cursor)
        assert plain is not None, "the model's cursors have the known form"
        dead = self._clock.now * 1000 >= plain.expires_ms
        if dead or not (self._renews or address.cursor in self._issued):
            raise CursorExpiredError(f"The cursor of page {address.page} has expired.")
        after = (plain.timestamp_ms, str(plain.event_id))
        return [position for position in self.events if _order(position) < after]

    def _cursor_after(self, last: Position) -> str:
        members = {
            "id": last.event_id,
            "ts": last.timestamp_ms,
            "v": 2,
            "exp": round((self._clock.now + CURSOR_LIFE_S) * 1000),
        }
        cursor = base64.urlsafe_b64encode(json.dumps(members).encode()).decode().rstrip("=")
        self._issued.add(cursor)
        return cursor


class ModelFetcher:
    """One run's way to the API."""

    def __init__(self, api: ModelApi) -> None:
        self.activity = Activity()
        self._api = api
        self._stopped = False

    def fetch(self, address: PageAddress) -> RawPage:
        if self._stopped:
            raise Interrupted
        return self._api.serve(address)

    def stop(self) -> None:
        self._stopped = True

    def state(self, *, settled: bool) -> dict[str, Any]:
        del settled
        return {"requests": len(self._api.fetched)}


def _order(position: Position) -> tuple[int, str]:
    assert position.timestamp_ms is not None, "the model's events have timestamps"
    return position.timestamp_ms, position.event_id
