"""The shortest time in which so many events can be had, from the page size and from what limits the requests."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .api.limits import RateLimit
from .units import show_seconds


@dataclass(frozen=True, slots=True)
class Estimate:
    """`seconds` is None where nothing is known that limits the requests."""

    events: int
    requests: int
    seconds: float | None
    how: str

    def sentence(self) -> str:
        """`600 requests of 5,000 events, 10 in 60 s: at least 59 min 00 s`."""
        least = "no time can be told" if self.seconds is None else f"at least {show_seconds(self.seconds)}"
        return f"{self.requests:,} requests{self.how}: {least}"


def by_limit(events: int, page: int, limit: RateLimit, *, unused: int = 0, page_s: float = 0.0) -> Estimate:
    """At so many requests a window, beginning with a fresh one, of which `unused` are left; one page takes `page_s`.

    Where no limit is told it is one request after the other.
    """
    if not limit.limit or not limit.window_s:
        return one_by_one(events, page, page_s)
    requests, usable = _requests(events, page), max(1, limit.limit - unused)
    seconds = max(0, math.ceil(requests / usable) - 1) * limit.window_s
    about = "" if limit.exact else "about "
    how = f" of {page:,} events, {usable} in {about}{show_seconds(limit.window_s)}"
    return Estimate(events, requests, max(seconds, requests * page_s), how)


def one_by_one(events: int, page: int, page_s: float) -> Estimate:
    """Without a limit, one request after the other, at what a page took."""
    requests = _requests(events, page)
    return Estimate(events, requests, requests * page_s, f" of {page:,} events, each {page_s:.2f} s, one by one")


def _requests(events: int, page: int) -> int:
    return math.ceil(events / max(1, page))
