"""Who may ask how often: windows of the documented endpoints, and the soft limit of the feed."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from email.utils import formatdate

from .options import Options

# Requests in a window, as documented; that of /events is an option.
DOCUMENTED = {"sessions": 40, "metrics": 30, "bulk": 20}
_FEED_SPAN_S = 60.0


@dataclass(frozen=True, slots=True)
class Grant:
    """Whether a request may go on; `remaining` after it, `reset_s` seconds until the window turns."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Place:
    """What a request is told about its window."""

    granted: bool
    headers: dict[str, str]


class Window:
    """The requests of one key at one endpoint: `windows` opened so far, `most` requests in any of them."""

    def __init__(self) -> None:
        self._opened_at = -math.inf
        self._count = 0
        self.windows = 0
        self.most = 0

    def take(self, now: float, limit: int, length_s: float, *, aligned: bool) -> Grant:
        """One request at `now` (epoch seconds of the server's clock)."""
        opens_at = now - now % length_s if aligned else now
        if now >= self._opened_at + length_s:
            self._opened_at, self._count = opens_at, 0
            self.windows += 1
        self._count += 1
        self.most = max(self.most, self._count)
        left_s = self._opened_at + length_s - now
        return Grant(self._count <= limit, limit, max(0, limit - self._count), left_s)


class SoftLimit:
    """The feed's: what all clients together may ask for, and then 429 for everybody for a while, without headers.

    Without a burst so many requests in any minute, and a clean slate after the while. With one, a bucket: it holds
    `feed_burst` requests, is full at first, and fills at `feed_rate` a minute, also meanwhile.
    """

    def __init__(self) -> None:
        self._times: deque[float] = deque()
        self._until = -math.inf
        self._tokens = math.inf
        self._filled_at = 0.0

    def allows(self, now: float, options: Options) -> bool:
        """One request at `now` (epoch seconds)."""
        if options.feed_burst:
            self._fill(now, options)
        if now < self._until:
            return False
        allowed = self._spend() if options.feed_burst else self._fits(now, options)
        if not allowed:
            self._until = now + options.feed_penalty
        return allowed

    def _fits(self, now: float, options: Options) -> bool:
        while self._times and self._times[0] <= now - _FEED_SPAN_S:
            self._times.popleft()
        self._times.append(now)
        if len(self._times) <= options.feed_rate:
            return True
        self._times.clear()
        return False

    def _fill(self, now: float, options: Options) -> None:
        filled = self._tokens + max(0.0, now - self._filled_at) * options.feed_rate / _FEED_SPAN_S
        self._tokens, self._filled_at = min(filled, options.feed_burst), now

    def _spend(self) -> bool:
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def limit_of(endpoint: str, options: Options, *, key_in_query: bool) -> int:
    """Requests in a window; 0 is no limit. A key in the query string gets half."""
    limit = options.rate_limit if endpoint == "events" else DOCUMENTED.get(endpoint, 0)
    if options.rate_limit == 0:
        return 0
    return max(1, limit // 2) if key_in_query and limit else limit


def headers_of(grant: Grant, now: float, options: Options) -> dict[str, str]:
    """The rate-limit headers; those of a refusal tell when to come back."""
    rounded = math.ceil if options.reset_rounding == "up" else math.floor
    resets = {
        "delta": str(rounded(grant.reset_s)),
        "epoch-s": str(rounded(now + grant.reset_s)),
        "epoch-ms": str(round((now + grant.reset_s) * 1000)),
    }
    headers = {"X-RateLimit-Limit": str(grant.limit), "X-RateLimit-Remaining": str(grant.remaining)}
    if options.reset_style != "none":
        headers["X-RateLimit-Reset"] = resets[options.reset_style]
    if not grant.allowed:
        headers["Retry-After"] = str(math.ceil(grant.reset_s))
    return headers


def retry_after_of(fault: str, now: float) -> dict[str, str]:
    """The headers of a 429 that is a fault: come back in a second, in one of the spellings."""
    if fault == "429-no-retry-after":
        return {}
    return {"Retry-After": "1" if fault == "429" else formatdate(now + 1, usegmt=True)}
