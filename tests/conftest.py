"""Fixtures: one embedded PostgreSQL for the whole run, a database and a working directory for each test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from datasync_ingest.postgres.embedded import embedded_postgres
from datasync_ingest.postgres.writers import WRITERS
from datasync_ingest.simulator.process import SimulatorProcess
from tests.cluster import Cluster, Service
from tests.harness import API_KEY, Database, Databases, Workplace
from tests.servers import reachable_folder
from tests.simulators import ForkedSimulator

# How long an example takes is the machine's business.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--scale", type=int, default=1, help="times as many events in tests that follow whole ingests")
    parser.addoption("--pool", choices=["dask"], help="for the table of faults, all that make sense there")
    parser.addoption("--writer", choices=WRITERS, help="for every row of the table of faults (default: in turn)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long tests come first in each worker's share (pytest-xdist's `worksteal` cuts the list)."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    long = [item for item in items if item.get_closest_marker("long")]
    others = iter([item for item in items if item not in long])
    left = len(items)
    dealt: list[pytest.Item] = []
    for number in range(workers):
        first = long[number::workers]
        share = left // (workers - number)  # as `worksteal` counts
        dealt += [*first, *itertools.islice(others, share - len(first))]
        left -= share
    items[:] = dealt


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--scale"))


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The conninfo of an embedded PostgreSQL, of which nothing is left at the end."""
    with reachable_folder() as folder, embedded_postgres(folder / "postgres", say=lambda _: None) as conninfo:
        yield conninfo


@pytest.fixture(scope="session")
def databases(server: str) -> Iterator[Databases]:
    with closing(Databases(server)) as made:
        yield made


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    """An empty database."""
    with databases.empty() as made:
        yield made


@pytest.fixture(scope="session")
def shared_cluster(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Service]]:
    """A scheduler with two workers, and the name by which these know their database."""
    folder = tmp_path_factory.mktemp("cluster")
    service = Service(folder / "services")
    service.means(server)
    with Cluster(folder) as made:
        made.start_workers(service.conninfo, 2, **service.environment)
        yield made, service


@pytest.fixture
def cluster(shared_cluster: tuple[Cluster, Service], database: Database) -> Cluster:
    """One whose workers write into the test's database. For tests that leave its processes as they are."""
    made, service = shared_cluster
    service.means(database.conninfo)
    return made


@pytest.fixture
def simulator() -> Iterator[Callable[..., SimulatorProcess]]:
    """Starts simulators with the given options (`rate_limit=0` unless said otherwise); stops them at the end."""
    with ExitStack() as opened:

        def start(**options: Any) -> SimulatorProcess:
            chosen = {"api_key": API_KEY, "rate_limit": 0, **options}
            words = {name.replace("_", "-"): value for name, value in chosen.items()}
            return opened.enter_context(ForkedSimulator(words))

        yield start


@pytest.fixture
def workplace(tmp_path: Path, database: Database) -> Workplace:
    """A working directory whose settings name the test's database; the API's URL is the test's to set.

    One worker, where the test does not say how many: each takes 0.2 s of a core to start.
    """
    settings = {"TARGET_API_KEY": API_KEY, "DATABASE_URL": database.conninfo, "WORKER_CONCURRENCY": "1"}
    return Workplace(tmp_path, settings)
