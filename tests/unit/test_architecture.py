"""The cut between the rooms, held by their imports and by the names that they use."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.harness import clean_environment

PACKAGE = Path(__file__).resolve().parents[2] / "datasync_ingest"
MODULES = {
    str(path.relative_to(PACKAGE).with_suffix("")).replace("/", "."): path for path in sorted(PACKAGE.rglob("*.py"))
}
PIPELINE = {name: path for name, path in MODULES.items() if not name.startswith("simulator")}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


@cache
def imports(name: str) -> frozenset[str]:
    """What a module imports: full names of other packages, `.room` for rooms of this one."""
    return frozenset(_imports(name))


def _imports(name: str) -> Iterator[str]:
    package = name.split(".")[:-1]
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            yield "." + ".".join(base) if base else "."
            yield from ("." + ".".join([*base, alias.name]) for alias in node.names)


def importers_of(prefix: str, modules: dict[str, Path] = PIPELINE) -> set[str]:
    return {
        name for name in modules if any(found == prefix or found.startswith(f"{prefix}.") for found in imports(name))
    }


def users_of(attribute: str) -> set[str]:
    """Modules in whose code `attribute` (such as `os.environ`) is written."""
    return {
        name
        for name in PIPELINE
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == attribute
    }


def calls_of(function: str) -> set[str]:
    return {
        name
        for name in PIPELINE
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function
    }


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("sqlite3", {"ledger.sidecar", "ledger.reading"}),
        ("tqdm", {"progress"}),
        ("dotenv", {"settings", "env_file"}),
        ("prometheus_client", {"monitoring.metrics"}),
        ("argparse", {"cli", *(name for name in PIPELINE if name.startswith("commands."))} - {"commands.__init__"}),
        ("requests", {"api.client"}),
        ("urllib3", {"api.client"}),
        ("multiprocessing", {"pools.crew", "pools.serving", "pools.inline", "pools.dask", "cluster.keeping"}),
        (
            "distributed",
            {
                *("pools.dask_" + room for room in ("bodies", "cluster", "delivery", "worker")),
                *("cluster." + room for room in ("defaults", "keeping", "member", "scheduler")),
            },
        ),
        ("dask", {"pools.dask_cluster", "cluster.defaults"}),
    ],
)
def test_a_library_is_known_to_its_rooms_alone(library: str, rooms: set[str]) -> None:
    assert importers_of(library) == rooms


def test_only_the_postgres_rooms_know_psycopg2() -> None:
    assert importers_of("psycopg2")
    assert all(name.startswith("postgres.") for name in importers_of("psycopg2"))


def test_only_the_demo_knows_the_simulator_and_the_command_line_that_starts_it() -> None:
    assert importers_of(".simulator") == {"demo", "cli"}


def test_the_simulator_knows_nothing_of_the_pipeline_but_its_errors() -> None:
    for name in MODULES:
        if name.startswith("simulator"):
            own = {found for found in imports(name) if found.startswith(".") and not found.startswith(".simulator")}
            assert {found.split(".")[1] for found in own} <= {"", "errors", "__version__"}, (name, own)


def test_nobody_knows_the_command_line() -> None:
    assert importers_of(".cli") == set()


def test_a_worker_knows_no_queue_and_no_pool() -> None:
    assert not {found for found in imports("worker") if "pool" in found or "queue" in found or "processes" in found}


def test_a_worker_process_loads_no_http_client_and_no_reader_of_env_files() -> None:
    """They would be a third of the time that it takes to start."""
    assert not {"http.client", "urllib.request", "requests", "dotenv"} & loaded_by("pools.serving", "worker")


def test_the_workers_are_called_before_the_run_and_what_it_needs_are_loaded() -> None:
    """0.2 s, in which the workers load, too."""
    assert not {"requests", "msgspec", "sqlite3"} & loaded_by("commands.ingest", "pools.processes")


def loaded_by(*names: str) -> set[str]:
    """All modules that importing these rooms loads."""
    rooms = ", ".join(f"datasync_ingest.{name}" for name in names)
    words = [sys.executable, "-c", f"import sys, {rooms}; print(*sys.modules)"]
    done = subprocess.run(words, env=clean_environment(), capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_only_the_run_and_the_loop_wire_walk_and_pool_together() -> None:
    both = importers_of(".pools") & (importers_of(".walk") | importers_of(".walk_thread"))
    assert both <= {"ingest", "copying"}


def test_only_the_settings_read_the_environment() -> None:
    assert users_of("os.environ") | users_of("os.getenv") == {"settings"}


def test_only_two_rooms_speak() -> None:
    assert calls_of("print") == {"cli", "progress"}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_first_what_it_is_for(name: str) -> None:
    docstring = ast.get_docstring(tree(name))
    assert docstring
    assert len(docstring.splitlines()[0]) > 20


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_one_room(name: str) -> None:
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= 330
