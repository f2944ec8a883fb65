"""What the cases share: a PostgreSQL server, a folder, how much is measured, and whole runs of the program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from datasync_ingest.simulator.process import SimulatorProcess
from tests.bench.floors import Result
from tests.bench.program import program
from tests.harness import API_KEY, Database, Workplace, new_database


@dataclass(frozen=True)
class Bench:
    """`server` is the conninfo of a server whose databases may be made and dropped; `say` takes a line of progress."""

    root: Path
    server: str
    say: Callable[[str], None]
    events: int
    rounds: int
    workers: int
    chain_pages: int | None = None
    profile: Path | None = None
    _numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def api(self, events: int, **options: Any) -> Iterator[SimulatorProcess]:
        """A simulator without limits, cache and compression but for what `options` (flags, `_` for `-`) say."""
        chosen = {"events": events, "api_key": API_KEY, "rate_limit": 0, "gzip": "off", **options}
        with SimulatorProcess({name.replace("_", "-"): value for name, value in chosen.items()}) as process:
            yield process

    @contextmanager
    def place(self) -> Iterator[tuple[Workplace, Database]]:
        """A working directory, and a database of its own that its settings name."""
        name = f"program_{next(self._numbers)}"
        directory = self.root / name
        directory.mkdir()
        with new_database(self.server, name) as database:
            yield Workplace(directory, {"TARGET_API_KEY": API_KEY, "DATABASE_URL": database.conninfo}), database

    def program(self, api: SimulatorProcess, *words: str, profile: Path | None = None) -> Result:
        """A whole `bin/ingest` into a database of its own, from the first request to the last commit."""
        with self.place() as (place, database):
            return program(place, api, database, ("--worker-concurrency", str(self.workers), *words), profile)
