"""Which walks go on, and how, when another endpoint is read than before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datasync_ingest.ledger import Ledger, Walk
from datasync_ingest.messages import EVENTS, FEED, Position
from datasync_ingest.plan import ACTIVE
from datasync_ingest.walking import Walking

AFTER = Position(1_700_000_000_000, "a")
WALK = Walk("w", until=None, cursor="c", after=AFTER, head=None, state=ACTIVE, endpoint=EVENTS)
SWEEP = Walk("s", until=None, cursor=None, after=None, head=None, state=ACTIVE, endpoint=FEED, is_sweep=True)


@pytest.mark.parametrize(
    ("walks", "endpoint", "left"),
    [
        ([WALK], FEED, [AFTER]),
        ([WALK, SWEEP], FEED, [None]),
        ([SWEEP, WALK], FEED, [None]),
        ([WALK, SWEEP], EVENTS, [AFTER]),
        ([SWEEP], EVENTS, []),
    ],
)
def test_what_a_walk_has_left_is_read_once(
    walks: list[Walk], endpoint: str, left: list[Position | None], tmp_path: Path
) -> None:
    nothing: Any = None
    with Ledger.open(tmp_path, purpose="a test") as ledger:
        for walk in walks:
            ledger.begin(walk)
        walking = Walking(ledger, nothing, nothing, nothing, endpoint=endpoint, can_sweep=endpoint == FEED)
        walking._leave_other_endpoint()
        active = [walk for walk in ledger.walks() if walk.state == ACTIVE]
    assert [walk.after for walk in active] == left
    assert all(walk.endpoint == endpoint for walk in active)
