"""The clock by which a worker's silence is judged."""

from __future__ import annotations

from datasync_ingest.pools.listening import ListeningClock


class Hands:
    """A clock whose hands the test moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def test_the_listening_clock_counts_the_time_in_which_somebody_listened() -> None:
    hands = Hands()
    clock = ListeningClock(hands)
    for _ in range(4):
        hands.at += 0.25
        clock.advance(0.25)
    assert clock.now == 1.0


def test_the_listening_clock_does_not_count_the_time_in_which_the_listener_was_stopped() -> None:
    hands = Hands()
    clock = ListeningClock(hands)
    hands.at += 3_600
    clock.advance(0.25)
    assert clock.now < 10
