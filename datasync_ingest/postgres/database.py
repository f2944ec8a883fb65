"""The database of a command: the one that the user named, or else the embedded PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..settings import Secret, Settings, forget_libpq_environment
from .embedded import embedded_postgres


def embedded_directory(settings: Settings) -> Path:
    """Where the embedded PostgreSQL of a data directory lives."""
    return settings.data_dir / "postgres"


@contextmanager
def database(settings: Settings, *, say: Callable[[str], None]) -> Iterator[Secret]:
    """Yields a conninfo that works while the block runs.

    Raises EmbeddedPostgresError where the embedded server cannot be had; a named database is not touched here.
    """
    if settings.database is not None:
        yield settings.database
        return
    forget_libpq_environment()
    with embedded_postgres(embedded_directory(settings), say=say) as conninfo:
        yield Secret(conninfo)
