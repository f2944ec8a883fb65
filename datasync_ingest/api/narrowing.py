"""Smaller pages where the server fails on a page: half, and half again, until the event that it fails on is alone."""

from __future__ import annotations

from .outcomes import Fault, PageFault, TooLarge

FAULTS = 3  # in a row are needed before a page is suspected; a body that is too large is so at once


class Narrowing:
    """The stretch of events, from where the walk stands, among which one is suspected, and what to ask for in it.

    The whole rest of the stretch is asked for next; behind it pages have their normal size again.
    """

    def __init__(self) -> None:
        self._stretch = 0  # events; 0: nothing is suspected
        self._ask = 0
        self._faults = 0

    def limit(self, normal: int) -> int:
        """How many events to ask for where `normal` would be asked for."""
        return min(normal, self._ask) if self._stretch else normal

    def passed(self, received: int) -> None:
        """A page with so many events came."""
        self._faults = 0
        self._stretch = self._ask = max(0, self._stretch - received)

    def is_due(self, fault: Fault, limit: int) -> bool:
        """Takes note of what became of a page of `limit` events; whether it must be halved or, at 1, given up."""
        if not isinstance(fault, PageFault):
            self._faults = 0
            return False
        self._faults += 1
        suspected = self._stretch > 0 or isinstance(fault, TooLarge)
        return self._faults >= FAULTS or (suspected and limit > 1)

    def halve(self, limit: int) -> int:
        """Suspects the page of `limit` events, more than 1, that was asked for; returns what to ask for instead."""
        self._faults = 0
        self._stretch, self._ask = limit, limit // 2
        return self._ask
