"""The two endpoints that serve pages of events, with the cache before them and every fault in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import hostile, limits
from .answers import Answer, RefusedError, Request, json_answer, refusal, web_page
from .counters import Counters
from .damage import DAMAGES
from .fault_plan import DamagedEvent, FaultPlan
from .faults import BALANCER, LIMITED, UNREADABLE
from .gate import Gate, too_many
from .keys import Caller
from .listings import Events, Feed, Listing, SessionEvents, session_number
from .paging import Page, Pager
from .world import World


class EventPages:
    """`/events`, and the feed with its stream access."""

    def __init__(self, world: World, gate: Gate, counters: Counters) -> None:
        self._world = world
        self._gate = gate
        self._counters = counters
        self._pager = Pager()
        self._feed_limit = limits.SoftLimit()
        self._cache: dict[tuple[str, str], tuple[float, Page]] = {}
        self.damaged: set[DamagedEvent] = set()  # every event that was served damaged
        self.plan_faults()

    def plan_faults(self) -> None:
        """Begins anew with the faults of the options."""
        self._plan = FaultPlan(self._world.options.fault, self._world.options.seed, self.damaged)

    def events(self, request: Request) -> Answer:
        caller = self._gate.caller(request, "events")
        faults = self._drawn(request)
        early = _before_the_api(faults, self._world.now)
        if early is not None:
            return early
        cached = self._from_cache(caller, request)
        if cached is not None:
            return self._answer(request, cached, faults, {"X-Cache": "HIT"})
        if self._world.options.feed_limit_for_events and self._softly_limited():
            return too_many()
        place = self._gate.place(caller, "events")
        answer = self._uncached(caller, request, faults) if place.granted else too_many()
        answer.headers.update(place.headers)
        return answer

    def stream_access(self, request: Request) -> Answer:
        caller = self._gate.caller(request, "stream-access")
        world = self._world
        with world.lock:
            keys = self._gate.keys
            return json_answer(keys.stream_access(request.headers, world.origin, caller, world.options, world.now))

    def feed(self, request: Request) -> Answer:
        self._gate.caller(request, "feed")
        self._gate.keys.require_token(request.headers, self._world.now)
        options = self._world.options
        faults = self._drawn(request)
        early = _before_the_api(faults, self._world.now)
        if early is not None:
            return early
        if self._softly_limited():
            return too_many()
        listing = Feed(self._world.dataset, self._window(request.query))
        page = self._pager.page(listing, request.query, options, self._world.now)
        answer = self._answer(request, page, faults, {})
        answer.delay_s += options.feed_latency_ms / 1000
        return answer

    def _softly_limited(self) -> bool:
        world = self._world
        with world.lock:
            return bool(world.options.feed_rate) and not self._feed_limit.allows(world.now, world.options)

    def _drawn(self, request: Request) -> list[str]:
        with self._world.lock:
            return self._plan.draw(has_cursor=bool(request.query.get("cursor")))

    def _uncached(self, caller: Caller, request: Request, faults: Sequence[str]) -> Answer:
        if "500" in faults:
            answer = refusal(RefusedError(500, "INTERNAL_ERROR", "something went wrong"))
            answer.headers.update(_chaos(faults))
            return answer
        try:
            page = self._pager.page(self._listing(request), request.query, self._world.options, self._world.now)
        except RefusedError as error:
            return refusal(error)
        self._into_cache(caller, request, page)
        return self._answer(request, page, faults, {"X-Cache": "MISS"})

    def _listing(self, request: Request) -> Listing:
        session = request.query.get("sessionId")
        dataset = self._world.dataset
        if session is None:
            return Events(dataset, self._world.shown)
        return SessionEvents(dataset, self._world.shown, session_number(dataset, session))

    def _answer(self, request: Request, page: Page, faults: Sequence[str], headers: Mapping[str, str]) -> Answer:
        """The page with its faults; a whole one counts, and makes the head grow."""
        options = self._world.options
        page, names = self._plan.damage(page, [name for name in faults if name in DAMAGES])
        for fault in faults:
            page = page.spoiled(fault, request.query)
        answer = Answer(200, page.parts(options))
        cache = {"X-Cache-TTL": f"{options.cache_life:.0f}"} if headers else {}
        answer.headers.update({**headers, **cache, **_chaos([*names, *faults])})
        answer.reset, answer.cut = "reset" in faults, "cut" in faults
        answer.delay_s = options.slow_s if "slow" in faults else 0.0
        if hostile.SIZES.intersection(faults):
            hostile.inflate(answer, compressed="bomb" in faults)
        if not UNREADABLE.intersection(faults):
            self._served(page)
        return answer

    def _served(self, page: Page) -> None:
        first = page.listing.event_index(page.places.start) if page.places else None
        if first is not None:
            self._counters.page(first, page.returned)
        self._world.grow()

    def _from_cache(self, caller: Caller, request: Request) -> Page | None:
        with self._world.lock:
            until, page = self._cache.get((caller.key, request.target), (0.0, None))
        return page if self._world.now < until else None

    def _into_cache(self, caller: Caller, request: Request, page: Page) -> None:
        life_s, now = self._world.options.cache_life, self._world.now
        if life_s:
            with self._world.lock:
                self._cache = {name: entry for name, entry in self._cache.items() if entry[0] > now}
                self._cache[caller.key, request.target] = (now + life_s, page)

    def _window(self, query: Mapping[str, str]) -> range:
        """The events from `since` to `until` (epoch milliseconds), as the options read them. Raises RefusedError."""
        options, stamps, shown = self._world.options, self._world.dataset.stamps, self._world.shown
        since = _bound(query, "since", options.feed_since)
        until = _bound(query, "until", options.feed_until)
        oldest, newest = stamps[-1], stamps[shown.start]
        outside = (since is not None and since > newest) or (until is not None and until < oldest)
        if outside and options.out_of_range == "418":
            raise RefusedError(418, "OUT_OF_RANGE", "the data does not reach there")
        low = oldest if since is None else since + (options.feed_since == "exclusive")
        high = newest if until is None else until - (options.feed_until == "exclusive")
        found = self._world.dataset.between(high, low)
        first = max(found.start, shown.start)
        return range(first, max(found.stop, first))


def _bound(query: Mapping[str, str], name: str, style: str) -> int | None:
    if style == "ignored" or not query.get(name):
        return None
    try:
        return int(query[name])
    except ValueError:
        raise RefusedError(400, "INVALID_TIMESTAMP", f"{name} must be epoch milliseconds") from None


def _before_the_api(faults: Sequence[str], now: float) -> Answer | None:
    """What the load balancer says, before anything is counted; None where it lets the request through."""
    for fault in faults:
        if fault == "html":
            answer = web_page(200)
        elif fault in LIMITED:
            answer = too_many()
            answer.headers.update(limits.retry_after_of(fault, now))
        elif fault in BALANCER:
            answer = web_page(int(fault))
        else:
            continue
        answer.headers.update(_chaos([fault]))
        return answer
    return None


def _chaos(names: Sequence[str]) -> dict[str, str]:
    """The headers with which the API tells of the faults that it made up itself."""
    unique = sorted(set(names))
    if not unique:
        return {}
    return {"X-Chaos-Applied": ",".join(unique), "X-Chaos-Description": "injected: " + ", ".join(unique)}
