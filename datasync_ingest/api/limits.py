"""What answers' headers tell of the rate limits: requests, length and reset style of each window, and how it opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from .probing import Told

APART_S = 2.5  # between two fresh windows, so that seconds rounded either way still tell how windows open
DOCUMENTED_S = 60.0  # for a length that the answers do not show
_ROUNDING_S = 1.2
_LENGTHS_S = (3600, 1800, 900, 600, 300, 120, 60, 30, 20, 15, 10, 5, 2, 1)
_LONGEST_USUAL_S = 60


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A window's limit; `exact` is False where `window_s`, its length, is what is usual with what was told."""

    window: str
    limit: int | None
    window_s: float | None
    exact: bool
    style: str | None


NO_LIMIT = RateLimit("", None, None, exact=False, style=None)


def rate_limits(told: Mapping[str, Sequence[Told]]) -> list[RateLimit]:
    """One for each window of which something was told."""
    return [_rate_limit(window, answers, opening(told)) for window, answers in told.items() if answers]


def opening(told: Mapping[str, Sequence[Told]]) -> str | None:
    """How windows open: `with their first request`, `at fixed times`; None where nothing has shown it.

    Windows that open with their first request have their whole length left then, whenever that was; those that lie at
    fixed times turn at one moment.
    """
    fresh = [one for answers in told.values() for one in answers if one.is_fresh]
    for one, other in combinations(fresh, 2):
        apart_s = abs(one.at - other.at)
        if apart_s < APART_S or one.left_s is None or other.left_s is None:
            continue
        if abs(one.left_s - other.left_s) <= _ROUNDING_S:
            return "with their first request"
        if abs(one.at + one.left_s - other.at - other.left_s) <= _ROUNDING_S:
            return "at fixed times"
    return None


def _rate_limit(window: str, answers: Sequence[Told], opens: str | None) -> RateLimit:
    limit = next((one.limit for one in reversed(answers) if one.limit is not None), None)
    style = next((one.style for one in answers if one.style), None)
    told = [one for one in answers if one.left_s is not None]
    if not told:
        return RateLimit(window, limit, None, exact=False, style=style)
    length_s = None if opens == "at fixed times" else _whole_window(told)
    if length_s is not None:
        return RateLimit(window, limit, length_s, exact=True, style=style)
    return RateLimit(window, limit, _usual(told), exact=False, style=style)


def _whole_window(told: Sequence[Told]) -> float | None:
    """What is left after the first request, where that is a round number of seconds; 59.99 and 59 are 60."""
    fresh = max((one.left_s or 0.0 for one in told if one.is_fresh), default=None)
    if fresh is None:
        return None
    return next((float(one) for one in _LENGTHS_S if abs(one - fresh) <= min(1.0, one / 20)), None)


def _usual(told: Sequence[Told]) -> float:
    """By the moment of the turn: windows at fixed times turn at multiples of their length."""
    longest = max(one.left_s or 0.0 for one in told)
    turns = [one.turn_epoch for one in told if one.turn_epoch is not None]
    for length_s in _LENGTHS_S:
        if longest - 1 <= length_s <= _LONGEST_USUAL_S and turns and all(_is_multiple(one, length_s) for one in turns):
            return float(length_s)
    return max(longest, DOCUMENTED_S)


def _is_multiple(moment: float, length_s: int) -> bool:
    return min(moment % length_s, -moment % length_s) <= min(_ROUNDING_S, length_s / 4)
