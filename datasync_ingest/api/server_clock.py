"""How far the server's clock is from ours, from the `Date` of successive answers."""

from __future__ import annotations

DRIFT = 1e-4  # seconds a second by which two clocks may go apart


class ServerClock:
    """`Date` is cut to the second: a server that says D between `sent_at` and `received_at` was then at D to D + 1.

    Each answer bounds the offset (server's epoch seconds less our monotonic ones) by that second and its latency, and
    what all of them allow is narrower than what one does. A clock that steps begins anew.
    """

    def __init__(self) -> None:
        self._lowest = float("-inf")
        self._highest = float("inf")
        self._at = 0.0

    def answered(self, date: float, sent_at: float, received_at: float) -> None:
        drift_s = DRIFT * max(0.0, received_at - self._at)
        lowest = max(self._lowest - drift_s, date - received_at)
        highest = min(self._highest + drift_s, date + 1 - sent_at)
        if lowest > highest:
            lowest, highest = date - received_at, date + 1 - sent_at
        self._lowest, self._highest, self._at = lowest, highest, received_at

    @property
    def is_known(self) -> bool:
        return self._lowest > float("-inf")

    def latest(self, epoch_s: float) -> float:
        """The latest moment, by our monotonic clock, at which the server's clock can show this. Only if `is_known`."""
        return epoch_s - self._lowest
