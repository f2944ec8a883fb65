"""Every fault against a run of its own: what may happen to that run, and that in the end everything is exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from datasync_ingest.pools.processes import PAGES_QUEUED_PER_WORKER
from datasync_ingest.postgres.writers import WRITERS
from datasync_ingest.simulator.damage import DAMAGES
from datasync_ingest.simulator.faults import ANSWER_FAULTS
from tests.disks import fill, small_disk
from tests.faults.crashes import CLOCK_STEPS, CRASHES, WORKERS, environment, is_workers, step_clock
from tests.faults.over_dask import EACH, FROZEN, HALF, OF_CLUSTERS, at_cluster, own_cluster
from tests.faults.site import Site
from tests.faults.sites import SharedServer, embedded_site, shared_server, shared_site
from tests.faults.strikes import DISK_FULL, STRIKES, fill_disk
from tests.harness import until
from tests.servers import reachable_folder

EVENTS = 2_000
FLAGS = ("--batch-size", "100", "--worker-concurrency", str(WORKERS))
STRUCK_AT = 5  # pages that are marked by then
STARTS = 4  # a run that is struck once must be complete after so many
AT_RISK = WORKERS * (PAGES_QUEUED_PER_WORKER + 1) + 1  # what the queue and the workers hold, and the one on its way
CURSOR_LIFE_S = 3


@dataclass(frozen=True)
class Row:
    """A strike, what the API is like, how the struck run may end, and how many pages may be fetched twice."""

    strike: str
    options: Mapping[str, Any] = field(default_factory=dict)
    endings: frozenset[int] = frozenset({0})
    twice: int = 0
    embedded: bool = False
    flags: tuple[str, ...] = ()
    disk_mb: int = 0  # of the data directory's own small disk
    pool: str = "processes"
    own_workers: int = 0  # of a cluster of its own

    def __str__(self) -> str:
        return self.strike + (", embedded" if self.embedded else "") + (", over Dask" if self.pool == "dask" else "")

    @property
    def not_over_dask(self) -> str:
        """Why it makes no sense there; empty where it does."""
        return (
            "the embedded PostgreSQL cannot be reached from a cluster: such a run is refused" if self.embedded else ""
        )


SHORT = {"cursor-life": CURSOR_LIFE_S}
PROCESSES = [
    Row("SIGKILL of the main process", endings=frozenset({-9}), twice=AT_RISK),
    Row("SIGKILL of the main process", endings=frozenset({-9}), twice=AT_RISK, embedded=True),
    Row("SIGKILL of a worker"),
    Row("SIGKILL of all workers"),
    Row("SIGINT to the group", endings=frozenset({130})),
    Row("SIGTERM to the group", endings=frozenset({143})),
    Row("SIGHUP to the group", endings=frozenset({129})),
    Row("SIGSTOP past a cursor's life", SHORT, twice=1),  # the page that proves a renewed cursor
    Row(CLOCK_STEPS, {"rate-limit": 10, "rate-window": 1, "reset-style": "epoch-ms"}),
]
DATABASE = [
    Row("pg_terminate_backend"),
    Row("PostgreSQL stopped at once"),
    Row("PostgreSQL stopped at once", embedded=True),
    Row("LOCK TABLE", SHORT, twice=1),  # the page that proves a renewed cursor
    Row("connections cut"),
    Row("connections stalled"),
    Row("COMMIT without an answer"),
]
DISKS = [
    Row(DISK_FULL, endings=frozenset({2}), twice=AT_RISK, disk_mb=2),
    Row(DISK_FULL, {"latency-ms": 200}, frozenset({2}), AT_RISK, embedded=True, disk_mb=300),
]
# Whole pages that are no use: asked for again each time, for as long as the API has the fault.
TWICE = {"repeat-cursor": 50}
API = [
    Row("SIGKILL of the API"),
    Row("API's connections cut", twice=5),  # pages that were served, and did not arrive
    Row("API's connections stalled"),
    *(Row(f"API: {name}", {"slow-s": 1}, twice=TWICE.get(name, 0)) for name in [*ANSWER_FAULTS, *DAMAGES]),
]
FEW = {"events": 1500}
NO_GRACE = ("--stop-grace", "0s")  # so that pages are spooled
POINTS = [
    Row(name, FEW)
    if name.startswith("worker")
    else Row(name, FEW, endings=frozenset({-9}), twice=AT_RISK, flags=NO_GRACE if "spool" in name else ())
    for name in CRASHES
]
TABLE = [*PROCESSES, *DATABASE, *DISKS, *API, *POINTS]
ALL_STRIKES = {**STRIKES, **CRASHES, DISK_FULL: fill_disk, CLOCK_STEPS: step_clock, **OF_CLUSTERS}
ENDS_A_RUN = {"SIGKILL of the scheduler": (frozenset({5}), AT_RISK)}  # how, and the pages that are fetched twice
LONGER = {"events": 2 * EVENTS, "latency-ms": 100}  # so that there is work for all until the last one is struck
CLUSTERS = [
    Row(strike, endings=ending, twice=twice, pool="dask", own_workers=WORKERS)
    if strike not in (HALF, EACH)
    else Row(strike, LONGER, pool="dask", own_workers=4)
    for strike in OF_CLUSTERS
    for ending, twice in [ENDS_A_RUN.get(strike, (frozenset({0}), 0))]
]
OVER_DASK = [
    *(
        replace(row, pool="dask", own_workers=WORKERS if is_workers(row.strike) else 0)
        for row in TABLE
        if not row.not_over_dask
    ),
    *CLUSTERS,
]
# Every time; the others over Dask only with `--pool dask`. Half of the workers dies in tests/acceptance/test_dask.py.
OVER_DASK_ALWAYS = {"SIGKILL of the main process", "COMMIT without an answer"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "row" in metafunc.fixturenames:
        always = [row for row in OVER_DASK if row.strike in OVER_DASK_ALWAYS]
        rows = OVER_DASK if metafunc.config.getoption("--pool") == "dask" else [*TABLE, *always]
        metafunc.parametrize(("row", "site"), [(row, row) for row in rows], ids=map(str, rows), indirect=["site"])


@pytest.fixture(scope="module")
def postgres() -> Iterator[SharedServer]:
    with reachable_folder() as folder, shared_server(folder / "postgres") as server:
        yield server


def writer_of(row: Row, config: pytest.Config) -> str:
    """Each row runs with one of the writers, in turn; `--writer NAME` runs all of them with that one."""
    names = list(WRITERS)
    rows = OVER_DASK if row.pool == "dask" else TABLE
    return str(config.getoption("--writer") or names[rows.index(row) % len(names)])


@pytest.fixture
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    row: Row = request.param
    flags = (*FLAGS, *row.flags, "--writer", writer_of(row, request.config))
    options = {"events": EVENTS, "latency-ms": 40, **row.options}
    with reachable_folder() as folder, _disk(row, folder):
        if row.embedded:
            made = embedded_site(folder, options, flags)
        else:
            made = shared_site(request.getfixturevalue("postgres"), folder, options, flags)
        with made as found, _pool(row, found, request) as ready:
            ready.environment.update(environment(row.strike, folder, pool=row.pool))
            yield ready


@contextmanager
def _pool(row: Row, site: Site, request: pytest.FixtureRequest) -> Iterator[Site]:
    if row.pool != "dask":
        yield site
    elif not row.own_workers:
        cluster, service = request.getfixturevalue("shared_cluster")
        with at_cluster(site, cluster, service, WORKERS):
            yield site
    else:
        crash = environment(row.strike, site.directory, pool=row.pool, of_workers=True)
        folder, database = site.directory / "cluster", site.environment["DATABASE_URL"]
        silent = "1s" if row.strike == FROZEN else "60s"
        with (
            own_cluster(folder, database, row.own_workers, crash, silent=silent) as made,
            at_cluster(site, *made, row.own_workers),
        ):
            yield site


def _disk(row: Row, folder: Path) -> AbstractContextManager[None]:
    return small_disk(folder / "data", row.disk_mb) if row.disk_mb else nullcontext()


def test_a_fault_costs_no_event(row: Row, site: Site) -> None:
    run = site.start()
    until(lambda: site.workplace.completed_pages() >= STRUCK_AT or run.ended, what="the first pages")
    ALL_STRIKES[row.strike](site, Random(str(row)))
    until(lambda: run.ended, timeout_s=60, what="the end of the run")
    assert run.process.returncode in row.endings, run.said()
    assert fell(row.strike, site)
    require_complete(site)
    assert site.difference() is None
    assert site.api.fetched_twice() <= row.twice


def fell(strike: str, site: Site) -> bool:
    """Whether a strike that needs the run to go its way has met it."""
    if strike == "COMMIT without an answer":
        return site.proxy is not None and site.proxy.commit_kept.is_set()
    fault = strike.removeprefix("API: ")
    return fault == strike or site.api.served(fault) > 0


def require_complete(site: Site) -> None:
    """Starts it again, in peace, until it is complete; nothing of any run is left."""
    for _ in range(STARTS):
        until(lambda: site.run.ended, timeout_s=60, what="the end of the run")
        site.require_gone(site.run)
        if site.run.process.returncode == 0:
            return
        site.start()
    raise AssertionError(site.run.said())


def test_the_table_has_every_strike() -> None:
    assert {row.strike for row in [*TABLE, *CLUSTERS]} == set(ALL_STRIKES)
    assert {row.strike for row in OVER_DASK} == set(ALL_STRIKES)


def test_what_is_missing_twice_or_changed_is_found(postgres: SharedServer, tmp_path: Path) -> None:
    """The comparison itself: it must not be blind."""
    with reachable_folder() as folder, shared_site(postgres, folder, {"events": 500}, FLAGS) as site:
        assert site.start().process.wait(60) == 0
        assert site.difference() is None
        ids = site.api.truth().ids
        site.at_database(
            lambda cursor: cursor.execute("UPDATE ingested_events SET browser = 'x' WHERE id = %s", (ids[7],))
        )
        assert "changed" in (site.difference() or "")
        site.at_database(
            lambda cursor: cursor.execute("UPDATE ingested_events SET id = 'nobody' WHERE id = %s", (ids[7],))
        )
        assert f"the first is {ids[7]}" in (site.difference() or "")


def test_an_export_onto_a_full_disk_is_a_named_error_and_works_when_there_is_room(postgres: SharedServer) -> None:
    with reachable_folder() as folder, shared_site(postgres, folder, {"events": 500}, FLAGS) as site:
        assert site.start().process.wait(60) == 0
        disk, export = folder / "disk", folder / "disk" / "ids.txt"
        with small_disk(disk, 1):
            filler = fill(disk)
            refused = site.workplace.run("export-ids", "-o", str(export))
            assert (refused.code, "No room for" in refused.err) == (2, True), refused.err
            assert [path.name for path in disk.iterdir()] == [filler.name], "half an export must not stay"
            filler.unlink()
            assert site.workplace.run("export-ids", "-o", str(export)).code == 0
            assert sorted(export.read_text().splitlines()) == site.api.truth().ids
