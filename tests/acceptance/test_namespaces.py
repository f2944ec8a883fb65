"""A cluster on machines of its own: one is cut off and joined again; `bin/bench --case namespaces` has all the rest."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from datasync_ingest.postgres.connection import connect
from datasync_ingest.settings import PUBLIC
from tests.faults.truth import Truth
from tests.namespaces import strikes
from tests.namespaces.site import Trial, site, trial

# The least that Dask takes, and what it takes for a dead peer's silence: 30 s by default.
SOON = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s"}


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_worker_that_is_cut_off_comes_back_and_nothing_is_lost_or_twice(tmp_path: Path) -> None:
    """Where no network can be made, a worker is killed instead; the test is then counted as skipped, and says why."""
    with site(tmp_path, durable=False, events=3_000) as place:
        strike = strikes.cut_half_of_the_workers_off if place.network.is_real else strikes.kill_half
        with trial(place, "trial", 2, SOON) as made:
            made.begin_run("--batch-size", "100")
            made.until_pages(5)
            strike(made)
            assert made.end_run() == 0, made.said[-1]
            assert made.difference(Truth(place.api.events(), [])) is None
            assert place.api.counters()["pages_fetched_twice"] == 0
            require_postgresql_to_notice(made)
    if not place.network.is_real:
        pytest.skip(f"passed, but with a kill alone: {place.network.described}")


def require_postgresql_to_notice(made: Trial) -> None:
    """Of one that is cut off it hears by its own probes alone."""
    connected = connect(made.database.conninfo, schema=PUBLIC, application_name="test")
    with closing(connected) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT name, setting FROM pg_settings WHERE name ~ '^tcp_' ORDER BY name")
        shown = dict(cursor.fetchall())
    interval, count, idle = (int(shown[f"tcp_keepalives_{name}"]) for name in ("interval", "count", "idle"))
    assert idle + interval * count == int(shown["tcp_user_timeout"]) / 1000 == 30
