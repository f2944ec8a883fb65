"""What the tests share: the commands as subprocesses, a database of one's own, and waiting for a condition."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import psycopg2
from psycopg2.extensions import make_dsn

from tests.isolation import without_user_settings

TOP = Path(__file__).resolve().parent.parent
API_KEY = "key-for-tests"


def clean_environment(**extra: str) -> dict[str, str]:
    """This process's environment without any setting of the program, and with `extra`."""
    return {**without_user_settings(os.environ), "PYTHONPATH": str(TOP), "PYTHONWARNINGS": "error", **extra}


def until(
    condition: Callable[[], Any], *, timeout_s: float = 30.0, what: str = "the condition", every_s: float = 0.01
) -> Any:
    """Polls until `condition()` is true and returns it; fails the test after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(every_s)
    raise AssertionError(f"{what} did not come true within {timeout_s} s")


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str


@dataclass
class Workplace:
    """A working directory with its settings, in which commands are run as a user would run them."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    def arguments(self, command: str, *words: str) -> list[str]:
        return [sys.executable, "-m", "datasync_ingest", command, *words]

    def run(self, command: str, *words: str, timeout_s: float = 100.0, **extra: str) -> Ended:
        """Runs a command to its end."""
        ended = subprocess.run(
            self.arguments(command, *words),
            cwd=self.directory,
            env=clean_environment(**{**self.environment, **extra}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def ingest(self, *words: str, expect: int | None = 0, timeout_s: float = 100.0, **extra: str) -> Ended:
        """`bin/ingest`, whose exit code must be `expect`."""
        ended = self.run("ingest", *words, timeout_s=timeout_s, **extra)
        assert expect is None or ended.code == expect, f"exit code {ended.code}\n{ended.out}\n{ended.err}"
        return ended

    def start(self, command: str, *words: str, **extra: str) -> subprocess.Popen[str]:
        """Starts a command in a process group of its own."""
        return subprocess.Popen(
            self.arguments(command, *words),
            cwd=self.directory,
            env=clean_environment(**{**self.environment, **extra}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def exported_ids(self) -> list[str]:
        ended = self.run("export-ids", "-o", "-")
        assert ended.code == 0, ended.err
        return ended.out.splitlines()

    @property
    def ledger(self) -> Path:
        return self.directory / "data" / "ledger.sqlite3"

    def completed_pages(self) -> int:
        """How many pages the sidecar has marked; 0 while there is no sidecar."""
        if not self.ledger.exists():
            return 0
        with closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=5)) as connection:
            try:
                return int(connection.execute("SELECT count(*) FROM pages").fetchone()[0])
            except sqlite3.OperationalError:
                return 0


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """A process and its descendants, as they are now."""
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; a zombie does not."""
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL to this one process, as an out-of-memory killer would."""
    process.kill()
    process.communicate()  # also closes the pipes


class Database:
    """One database on the tests' server."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo

    def query(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with closing(psycopg2.connect(self.conninfo)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *parameters: object) -> Any:
        return self.query(statement, *parameters)[0][0]

    def ids(self) -> list[str]:
        return [row[0] for row in self.query("SELECT id FROM ingested_events ORDER BY id")]


@contextmanager
def new_database(server: str, name: str) -> Iterator[Database]:
    """Makes a database called `name` on a server and drops it at the end, whoever is still connected."""
    with closing(psycopg2.connect(server)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}"')
            try:
                yield Database(make_dsn(server, dbname=name))
            finally:
                cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


# Whether a database is as it was made but for its schemas, and nobody else is connected.
_IS_PLAIN = """
    SELECT datacl IS NULL AND datconnlimit = -1
        AND NOT EXISTS (SELECT FROM pg_db_role_setting WHERE setdatabase = oid)
        AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE datid = oid AND pid <> pg_backend_pid())
    FROM pg_database WHERE datname = current_database()
"""
_SCHEMAS = "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
_PUBLIC = "CREATE SCHEMA public AUTHORIZATION pg_database_owner; GRANT USAGE ON SCHEMA public TO PUBLIC"


class Databases:
    """Empty databases on a server, one after the other: to empty one takes a seventh of the CPU that a new one does."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._numbers = count(1)
        self._opened = ExitStack()
        self._database: Database | None = None

    @contextmanager
    def empty(self) -> Iterator[Database]:
        """One for the block alone."""
        if self._database is None:
            self._database = self._opened.enter_context(new_database(self._server, f"test_{next(self._numbers)}"))
        try:
            yield self._database
        finally:
            if not _emptied(self._database):
                self.close()

    def close(self) -> None:
        """Drops the last one."""
        self._database = None
        self._opened.close()


def _emptied(database: Database) -> bool:
    """Drops all that a test has made there; False where the database is not as a new one then."""
    try:
        if not database.value(_IS_PLAIN):
            return False
        schemas = ", ".join(name for (name,) in database.query(_SCHEMAS))
        database.query(f"DROP SCHEMA {schemas} CASCADE; {_PUBLIC}")
        return True
    except psycopg2.Error:
        return False


def balanced(counts: Mapping[str, int]) -> bool:
    return counts["received"] == counts["inserted"] + counts["already_there"] + counts["rejected"]
