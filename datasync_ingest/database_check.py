"""The check of the database: it is there, new enough, this API's, and lets its user write."""

from __future__ import annotations

from collections.abc import Callable

from .checks import Checks
from .errors import DatabaseRefusedError, OtherSourceError
from .postgres.checking import OLDEST, Standing, look
from .postgres.database import database
from .settings import PUBLIC, Settings

PATIENCE_S = 3.0


def check_database(settings: Settings, checks: Checks, *, say: Callable[[str], None]) -> int:
    """Adds the check; starts the embedded server for it. Returns how many events are there already."""
    with checks.named("database"), database(settings, say=say) as served:
        standing = look(served.conninfo.reveal(), schema=settings.schema, patience_s=PATIENCE_S, waiting=lambda _: None)
        name = "embedded" if settings.database is None else f"{standing.database} as {standing.user}"
        into = "" if settings.schema == PUBLIC else f", schema {settings.schema}"
        shown = f"PostgreSQL {standing.version.split()[0]} ({name}{into})"
        _require_usable(shown, standing, settings)
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


def _require_usable(shown: str, standing: Standing, settings: Settings) -> None:
    """Raises DatabaseRefusedError, OtherSourceError."""
    require_writable(shown, standing, settings.schema)
    if standing.source not in (None, settings.source):
        raise OtherSourceError(
            f"{shown} belongs to {standing.source}, not to {settings.source}",
            hint="use another --schema (or database) for another API; bin/ingest --adopt where the same API has moved",
        )


def require_writable(shown: str, standing: Standing, schema: str | None) -> None:
    """Raises DatabaseRefusedError where no event can be written, whichever API it is from; `shown` names the server.

    With None it is not known into which schema.
    """
    if why := _why_no_server(standing) or (schema and _why_no_schema(standing, schema)):
        raise DatabaseRefusedError(f"{shown} {why[0]}", hint=why[1])


def _why_no_server(standing: Standing) -> tuple[str, str] | None:
    """Why no event can be written there, and what to do; None where nothing speaks against it."""
    if standing.version_number < OLDEST:
        return "is too old", f"use PostgreSQL {OLDEST // 10_000} or newer"
    if standing.read_only:
        return "takes no changes: it is a standby or set to read-only", "name the primary server in DATABASE_URL"
    return None


def _why_no_schema(standing: Standing, schema: str) -> tuple[str, str] | None:
    """Why no event can be written into the schema, and what to do; None where nothing speaks against it."""
    if not standing.may_use:
        return f"does not let this user into the schema {schema}", f"GRANT USAGE ON SCHEMA {schema} TO {standing.user}"
    if standing.lacking:
        return f"does not give the right to {', '.join(standing.lacking)}", f"GRANT it to {standing.user}"
    if not standing.has_schema and not standing.may_create:
        remedy = f"CREATE SCHEMA {schema} AUTHORIZATION {standing.user}"
        return f"has no schema {schema} and does not let this user make one", remedy
    if standing.source is None and not standing.may_create:
        remedy = f"GRANT CREATE ON SCHEMA {schema} TO {standing.user}"
        return f"does not let this user make tables in the schema {schema}", remedy
    return None
