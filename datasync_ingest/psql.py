"""`bin/psql`: psql on the events, with everything that psql itself can do."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from psycopg2.extensions import make_dsn, parse_dsn

from .postgres.accounts import server_account
from .postgres.embedded import embedded_postgres
from .postgres.programs import programs


def psql(directory: Path, arguments: Sequence[str], *, say: Callable[[str], None]) -> int:
    """Runs psql on the embedded PostgreSQL of `directory`; returns its exit code."""
    with embedded_postgres(directory, say=say) as conninfo:
        return _run(conninfo, arguments, {})


def psql_external(conninfo: str, arguments: Sequence[str]) -> int:
    """Runs psql on the database that the user named; returns its exit code.

    The password goes by the environment, since everybody on the machine can read a process's arguments.
    """
    parts = parse_dsn(conninfo)
    password = parts.pop("password", None)
    return _run(make_dsn(**parts), arguments, {} if password is None else {"PGPASSWORD": password})


def _run(conninfo: str, arguments: Sequence[str], secrets: dict[str, str]) -> int:
    program = programs(server_account()) / "psql"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to psql: it ends a query, not the session
    try:
        process = subprocess.Popen(
            [str(program), *arguments, "--dbname", conninfo],
            env={**_environment(), **secrets},
            preexec_fn=_take_ctrl_c,
        )
        return process.wait()
    finally:
        signal.signal(signal.SIGINT, before)


def _take_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _environment() -> dict[str, str]:
    from .settings import environment

    return environment()
