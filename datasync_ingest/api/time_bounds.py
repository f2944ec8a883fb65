"""What `since` and `until` mean to a server: whether it heeds them, and whether it counts the bounds themselves in.

Found out by one question about events that are known: three neighbouring milliseconds in the middle of a page, from the
oldest to the newest of them. Whatever the server does, the one in the middle must be in its answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from ..messages import RawPage, TimeBounds
from .envelope import NotAPageError, positions

_IN_THE_MIDDLE = 3  # milliseconds that are asked about
_AT_THE_ENDS = 1  # of what is in order: events of that millisecond may be elsewhere, and an odd time is there


@dataclass(frozen=True, slots=True)
class TimeReading:
    """Whether an event at just `since`, and at just `until`, is meant; None: that parameter is not heeded."""

    since_inclusive: bool | None
    until_inclusive: bool | None

    @property
    def can_begin_anywhere(self) -> bool:
        """Whether a walk can begin at any time: where only its end is not heeded, its reader sees to that."""
        return self.until_inclusive is not None

    def in_words(self) -> str:
        """For the log."""
        words = {True: "inclusive", False: "exclusive", None: "not heeded"}
        return f"since is {words[self.since_inclusive]}, until {words[self.until_inclusive]}"

    def asked(self, since: int | None, until: int | None) -> TimeBounds:
        """The parameters that ask for the events of `since` to `until`, both inclusive (epoch ms; None: open)."""
        return TimeBounds(
            None if since is None or self.since_inclusive is None else since - (not self.since_inclusive),
            None if until is None or self.until_inclusive is None else until + (not self.until_inclusive),
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> TimeReading:
        return cls(kept["since_inclusive"], kept["until_inclusive"])


NOT_HEEDED = TimeReading(None, None)


@dataclass(frozen=True, slots=True)
class TimeQuestion:
    """Asked with `bounds` and `limit`, one more than the events that these can mean."""

    bounds: TimeBounds
    limit: int

    def read(self, answer: RawPage) -> TimeReading:
        """What the answer shows. One that fits no reading shows that the parameters are not to be relied on.

        A bound whose events have no readable times, by a fault, is taken for exclusive: that asks for more.
        """
        since, until, times = self.bounds.since, self.bounds.until, _times(answer)
        if since is None or until is None or not times:
            return NOT_HEEDED
        newest, oldest = times[0], times[-1]
        if newest > until:
            return NOT_HEEDED  # it begins at the newest event, and so tells nothing of `since`
        return TimeReading(None if oldest < since else oldest == since, newest == until)


def question_about(page: RawPage) -> TimeQuestion | None:
    """None where the page has too few different times that are newest first."""
    runs = _runs(_in_order(_times(page)))[_AT_THE_ENDS:-_AT_THE_ENDS]
    if len(runs) < _IN_THE_MIDDLE:
        return None
    place = (len(runs) - _IN_THE_MIDDLE) // 2
    asked = runs[place : place + _IN_THE_MIDDLE]
    return TimeQuestion(TimeBounds(asked[-1][0], asked[0][0]), 1 + sum(events for _, events in asked))


def _in_order(times: Iterable[int]) -> list[int]:
    """The longest stretch that is newest first: a single odd time is at an end of one."""
    stretches: list[list[int]] = [[]]
    for time in times:
        if stretches[-1] and time > stretches[-1][-1]:
            stretches.append([])
        stretches[-1].append(time)
    return max(stretches, key=len)


def _runs(times: Iterable[int]) -> list[tuple[int, int]]:
    """Each time with how often it comes."""
    return [(time, len(list(run))) for time, run in groupby(times)]


def _times(page: RawPage) -> list[int]:
    """Those that can be read, in the page's order."""
    try:
        found = positions(page.body)
    except NotAPageError:
        return []
    return [place.timestamp_ms for place in found if place is not None and place.timestamp_ms is not None]
