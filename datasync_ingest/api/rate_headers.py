"""What the headers of one answer say of the rate limit, read as numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .dates import http_date

RETRY_AFTER_CAP_S = 900.0
EPOCH_S = 1e8  # a reset above this is no number of seconds left (3 years): it is an epoch in seconds ...
EPOCH_MS = 1e11  # ... and above this, in milliseconds


@dataclass(frozen=True, slots=True)
class WindowTold:
    """What an answer says of its window. `reset` is as it came: seconds left, epoch seconds or epoch milliseconds."""

    limit: int | None
    remaining: int
    reset: float
    left_s: float  # until the turn, by the answer's own `Date`

    @property
    def is_epoch(self) -> bool:
        return self.reset >= EPOCH_S

    @property
    def in_whole_seconds(self) -> bool:
        return self.reset < EPOCH_MS and self.reset == int(self.reset)

    @property
    def turn_epoch(self) -> float:
        """The turn in epoch seconds by the server's clock, where `is_epoch`."""
        return self.reset / 1000 if self.reset >= EPOCH_MS else self.reset


def window_told(headers: Mapping[str, str], wall: Callable[[], float]) -> WindowTold | None:
    """None where the headers do not tell how many requests are left and when the window turns."""
    remaining = whole(headers.get("X-RateLimit-Remaining"))
    left_s = seconds_left(headers, wall)
    reset = number(headers.get("X-RateLimit-Reset"))
    if remaining is None or left_s is None or reset is None:
        return None
    return WindowTold(whole(headers.get("X-RateLimit-Limit")), remaining, reset, left_s)


def seconds_left(headers: Mapping[str, str], wall: Callable[[], float]) -> float | None:
    """Seconds until the window turns at the moment of the answer, never too few; None where it does not say."""
    reset = number(headers.get("X-RateLimit-Reset"))
    if reset is None:
        return None
    if reset < EPOCH_S:
        return max(0.0, reset)
    served = http_date(headers.get("Date"))
    now = wall() if served is None else served
    left_s = reset / (1000 if reset >= EPOCH_MS else 1) - now
    return max(0.0, left_s) if left_s < RETRY_AFTER_CAP_S * 4 else None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds: a number, or an HTTP date held against the answer's own `Date`."""
    text = headers.get("Retry-After")
    seconds = number(text)
    if seconds is not None:
        return seconds
    until, served = http_date(text), http_date(headers.get("Date"))
    return None if until is None or served is None else until - served


def number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < 1e15 else None


def whole(text: str | None) -> int | None:
    """The whole part of a header that is a number; None for any other."""
    value = number(text)
    return None if value is None else int(value)
