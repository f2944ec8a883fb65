"""Case `export`: bin/export-ids beside psql's \\copy of the same ids, in turn."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2

from datasync_ingest.postgres.programs import psql_program
from tests.bench.bench import Bench
from tests.harness import API_KEY, Database, Workplace, clean_environment, new_database

IDS = 3_000_000
ROUNDS = 5
_PAGE = 100  # events of a run that makes the table and the sidecar; the other ids are generated
_FILL = "INSERT INTO ingested_events (id) SELECT gen_random_uuid()::text FROM generate_series(1, %s)"
_COPY = "\\copy (select id from ingested_events order by id) to '{}'"


def measure(bench: Bench) -> dict[str, Any]:
    """Whole commands, the server running, the table vacuumed; the files must be the same."""
    directory = bench.root / "export"
    directory.mkdir()
    with new_database(bench.server, "export") as database:
        place = Workplace(directory, {"TARGET_API_KEY": API_KEY, "DATABASE_URL": database.conninfo})
        _fill(bench, place, database)
        ours, theirs = directory / "ours.txt", directory / "theirs.txt"
        rounds = [(_export(place, ours), _psql(database, theirs)) for _ in range(ROUNDS)]
        if ours.read_bytes() != theirs.read_bytes():
            raise RuntimeError("bin/export-ids and psql wrote different files")
    return {
        "ids": IDS,
        "rounds": ROUNDS,
        "export_s": statistics.median(export for export, _ in rounds),
        "psql_s": statistics.median(psql for _, psql in rounds),
        "ratio": statistics.median(export / psql for export, psql in rounds),
    }


def _fill(bench: Bench, place: Workplace, database: Database) -> None:
    with bench.api(_PAGE) as api:
        place.ingest(API_BASE_URL=api.url)
    bench.say(f"generating {IDS:,} ids")
    database.query(_FILL, IDS - _PAGE)
    with closing(psycopg2.connect(database.conninfo)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("VACUUM ANALYZE ingested_events")  # or autovacuum does it in the middle of a round


def _export(place: Workplace, file: Path) -> float:
    return _timed(place.arguments("export-ids", "-o", file.name), file.parent, clean_environment(**place.environment))


def _psql(database: Database, file: Path) -> float:
    words = [str(psql_program()), "--no-psqlrc", "--dbname", database.conninfo, "-c", _COPY.format(file)]
    return _timed(words, file.parent, clean_environment())


def _timed(words: Sequence[str], directory: Path, environment: Mapping[str, str]) -> float:
    began = time.perf_counter()
    ended = subprocess.run(words, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} ended with {ended.returncode}: {ended.stderr}")
    return seconds


def text(found: dict[str, Any]) -> list[str]:
    return [
        f"{found['ids']:,} ids, medians of {found['rounds']} rounds: bin/export-ids {found['export_s']:.2f} s,"
        f" psql's \\copy {found['psql_s']:.2f} s, ratio {found['ratio']:.2f}"
    ]
