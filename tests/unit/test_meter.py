"""What the progress line says of the rest: how long it takes, and whether the key lives as long."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasync_ingest.activity import Activity
from datasync_ingest.api.pacing import Pacer
from datasync_ingest.key_clock import KEY_LIFE_S, KeyClock
from datasync_ingest.ledger import Ledger
from datasync_ingest.messages import Counts, PageId, RawPage, Receipt
from datasync_ingest.meter import Meter
from datasync_ingest.postgres.source import Holdings
from datasync_ingest.settings import Secret

TOTAL = 3_000_000
LIMIT = {"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "60"}
PAGE = RawPage(PageId("w", 0), None, "c", False, 5000, 5000, None, None, None, TOTAL, None, body=b"")
RECEIPT = Receipt(PAGE.page, 0, Counts(5000, 5000), False, 0.0, 0.0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """A run at the API's own rate limit, 10 pages of which are there, on a clock that only the test moves."""

    def __init__(self, ledger: Ledger, *, key_used_s_ago: float = 0.0) -> None:
        self.clock = Clock()
        wall = Clock()
        key_clock = KeyClock(ledger, Secret("a-key"), wall=wall)
        key_clock.first_call()
        wall.now += key_used_s_ago
        pacer = Pacer(clock=self.clock, wall=wall)
        self.meter = Meter(Holdings(0, 0), Activity(self.clock), pacer, key_clock, total=None, clock=self.clock)
        self.meter.walk_begins(0, top_up=False)
        self.clock.now = 1.0
        for _ in range(10):
            pacer.started()
            self.meter.fetched(PAGE)
            self.meter.committed(RECEIPT)
        pacer.answered(LIMIT, self.clock.now)
        self.clock.now = 60.0


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path, purpose="test") as opened:
        yield opened


def test_the_time_left_knows_the_rate_limit(ledger: Ledger) -> None:
    left_s = Scene(ledger).meter.snapshot(0, 0).left_s
    assert left_s is not None
    assert 58 * 60 <= left_s <= 60 * 60, "590 of 600 pages are left, and ten a minute are served"


@pytest.mark.parametrize(("used_s", "warnings"), [(0.0, 0), (KEY_LIFE_S - 3_700, 0), (KEY_LIFE_S - 1_800, 1)])
def test_a_key_that_ends_before_the_rest_is_there_is_warned_of_once(
    used_s: float, warnings: int, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(ledger, key_used_s_ago=used_s)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            scene.meter.snapshot(0, 0)
    assert [record.getMessage().count("a new key will be needed") for record in caplog.records] == [1] * warnings


def test_how_long_a_walk_for_what_is_new_takes_nobody_knows(ledger: Ledger) -> None:
    scene = Scene(ledger)
    scene.meter.walk_begins(0, top_up=True)
    assert scene.meter.snapshot(0, 0).left_s is None


def test_a_walk_over_everything_has_its_cost(ledger: Ledger) -> None:
    cost = Scene(ledger).meter.cost_of_a_walk()
    assert re.fullmatch(r"about 600 requests, 59 min 0\d s by the rate limit", cost)
