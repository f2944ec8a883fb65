"""Asks the sidecar and the database how things stand, without being in the way of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from ..errors import IngestError
from ..ledger.lock import holder
from ..ledger.standing import Standing, standing
from ..postgres.contents import contents
from ..postgres.database import database, embedded_directory
from ..postgres.postmaster import running_server
from ..settings import PUBLIC, Settings, forget_libpq_environment
from .state import LATELY_S, Status, Table, now, sidecar_key

_EMBEDDED, _NAMED = "embedded PostgreSQL", "named by DATABASE_URL or PG*"
NOT_YET = "Nothing was ingested into it yet."
NOT_RUNNING = "It is not running, as no run uses it: --start-database starts it to count what is in the tables."
NO_EMBEDDED = "There is none yet."


def database_name(settings: Settings) -> str:
    """Which database it is, for people."""
    name = _EMBEDDED if settings.database is None else _NAMED
    return name if settings.schema == PUBLIC else f"{name}, schema {settings.schema}"


def look(settings: Settings, table: Table) -> Status:
    """How things stand now, with what was seen in the database. Takes milliseconds, and raises nothing that has a name.

    Who holds the lock is asked first: a run that ends in between has then written its ending.
    """
    at, who = now(), holder(settings.data_dir)
    sidecar: Standing | None = None
    error: IngestError | None = None
    try:
        sidecar = standing(settings.data_dir, since=at - LATELY_S)
    except IngestError as damage:
        error = damage
    if table.contents is None and table.error is None:
        table = _explained(table, sidecar, settings)
    return Status(at, settings.data_dir, who, sidecar, error, table, sidecar_key(sidecar, settings.api_key))


def _explained(table: Table, sidecar: Standing | None, settings: Settings) -> Table:
    """Where there are no tables, they may be in the schema into which the data directory was filled."""
    filled = sidecar.facts.get("schema") if sidecar is not None else None
    if filled in (None, settings.schema):
        return table
    return replace(
        table, why=f"This data directory was filled into the schema {filled}, and this is {settings.schema}."
    )


@contextmanager
def table_of(settings: Settings, *, start: bool, say: Callable[[str], None]) -> Iterator[Callable[[], Table]]:
    """Yields what looks into the database, from any thread; it may take half a minute, and raises nothing named.

    The embedded PostgreSQL is looked into as a guest where it runs. With `start` it is used while the block runs, as
    by any other command: started where it does not run, and stopped at the end if nobody else uses it.
    """
    if settings.database is not None:
        conninfo = settings.database.reveal()
        yield lambda: _table(settings, conninfo)
        return
    forget_libpq_environment()
    if start and embedded_directory(settings).exists():
        with database(settings, say=say) as served:
            conninfo = served.conninfo.reveal()
            yield lambda: _table(settings, conninfo)
        return
    yield lambda: _table_of_guest(settings)


def _table_of_guest(settings: Settings) -> Table:
    directory = embedded_directory(settings)
    conninfo = running_server(directory)
    if conninfo is None:
        return Table(database_name(settings), now(), why=NOT_RUNNING if directory.exists() else NO_EMBEDDED)
    seen = _table(settings, conninfo)
    if seen.error is not None and running_server(directory) is None:  # its last user has left meanwhile
        return Table(database_name(settings), now(), why=NOT_RUNNING)
    return seen


def _table(settings: Settings, conninfo: str) -> Table:
    name = database_name(settings)
    try:
        found = contents(conninfo, settings.schema)
    except IngestError as error:
        return Table(name, now(), why=str(error), error=error)
    return Table(name, now(), found, why="" if found is not None else NOT_YET)
