"""The check of the database: it is there, new enough, this API's, and lets its user write."""

from __future__ import annotations

from collections.abc import Callable

from .checks import Checks
from .errors import DatabaseRefusedError, OtherSourceError
from .postgres.checking import OLDEST, Standing, look
from .postgres.database import database
from .settings import Settings

PATIENCE_S = 3.0


def check_database(settings: Settings, checks: Checks, *, say: Callable[[str], None]) -> int:
    """Adds the check; starts the embedded server for it. Returns how many events are there already."""
    with checks.named("database"), database(settings, say=say) as served:
        standing = look(served.conninfo.reveal(), patience_s=PATIENCE_S, waiting=lambda _: None)
        name = "embedded" if settings.database is None else f"{standing.database} as {standing.user}"
        shown = f"PostgreSQL {standing.version.split()[0]} ({name})"
        _require_usable(shown, standing, settings.source)
        if standing.encoding == "UTF8":
            there = f"with {standing.events:,} events" if standing.source else "where the tables can be made"
            checks.ok("database", f"{shown}, {there}")
        else:
            checks.warn(
                "database",
                f"{shown} has the encoding {standing.encoding}, in which not every event can be kept",
                "make a database with ENCODING 'UTF8'",
            )
        return standing.events
    return 0


def _require_usable(shown: str, standing: Standing, source: str) -> None:
    """Raises DatabaseRefusedError, OtherSourceError."""
    require_writable(shown, standing)
    if standing.source not in (None, source):
        raise OtherSourceError(
            f"{shown} belongs to {standing.source}, not to {source}",
            hint="use another database for another API; bin/ingest --adopt where the same API has moved",
        )


def require_writable(shown: str, standing: Standing) -> None:
    """Raises DatabaseRefusedError where no event can be written, whichever API it is from; `shown` names the server."""
    if why := _why_not(standing):
        raise DatabaseRefusedError(f"{shown} {why[0]}", hint=why[1])


def _why_not(standing: Standing) -> tuple[str, str] | None:
    """Why no event can be written, and what to do; None where nothing speaks against it."""
    if standing.version_number < OLDEST:
        return "is too old", f"use PostgreSQL {OLDEST // 10_000} or newer"
    if standing.read_only:
        return "takes no changes: it is a standby or set to read-only", "name the primary server in DATABASE_URL"
    if standing.schema is None:
        return "has no schema for this user", f"GRANT USAGE, CREATE ON SCHEMA public TO {standing.user}"
    if standing.lacking:
        return f"does not give the right to {', '.join(standing.lacking)}", f"GRANT it to {standing.user}"
    if standing.source is None and not standing.may_create:
        remedy = f"GRANT CREATE ON SCHEMA {standing.schema} TO {standing.user}"
        return f"does not let this user make tables in the schema {standing.schema}", remedy
    return None
