"""A short `bin/torture` with a fixed seed."""

from __future__ import annotations

import pytest

from tests.servers import reachable_folder
from tests.torture.__main__ import text, torture
from tests.torture.rounds import Tally

SEED = 20261124
SECONDS = 20


@pytest.mark.long
def test_a_short_torture_is_survived() -> None:
    tally = Tally()
    with reachable_folder() as folder:
        assert torture(folder, SEED, SECONDS, 10_000, tally, print, round_s=8) is None
    assert tally.events >= 10_000
    assert tally.strikes.total() >= 3, text(SEED, tally)
