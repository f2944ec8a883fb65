"""The database of a command: the one that the user named, or else the embedded PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..settings import Secret, Settings, forget_libpq_environment


def embedded_directory(settings: Settings) -> Path:
    """Where the embedded PostgreSQL of a data directory lives."""
    return settings.data_dir / "postgres"


@dataclass(frozen=True, slots=True)
class Database:
    """A libpq conninfo, and what to call when nobody answers there: it starts a server of ours that has died.

    `revive` returns at once and may be called at any time; for a server that is not ours it does nothing.
    """

    conninfo: Secret
    revive: Callable[[], None]


@contextmanager
def database(
    settings: Settings, *, say: Callable[[str], None], urgent: Callable[[], bool] = lambda: False
) -> Iterator[Database]:
    """Yields a database that works while the block runs; as soon as it is `urgent`, nothing waits for its end.

    Raises EmbeddedPostgresError where the embedded server cannot be had; a named database is not touched here.
    """
    if settings.database is not None:
        yield Database(settings.database, revive=lambda: None)
        return
    from .embedded import embedded_server  # 20 ms, for nothing where a database is named

    forget_libpq_environment()
    with embedded_server(embedded_directory(settings), say=say, urgent=urgent) as server:
        yield Database(Secret(server.conninfo), revive=server.revive)
