"""A conninfo, taken apart for a program of PostgreSQL's: what is in its arguments can be read by everybody."""

from __future__ import annotations

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

from ..errors import DatabaseRefusedError
from .connection import first_line

# https://www.postgresql.org/docs/18/libpq-envars.html: what decides where a program connects, as whom and how safely
_VARIABLES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "passfile": "PGPASSFILE",
    "service": "PGSERVICE",
    "options": "PGOPTIONS",
    "application_name": "PGAPPNAME",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "require_auth": "PGREQUIREAUTH",
    "channel_binding": "PGCHANNELBINDING",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "sslmode": "PGSSLMODE",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcrl": "PGSSLCRL",
}
_SECRETS_WITHOUT_VARIABLE = ("sslpassword", "oauth_client_secret")  # OpenSSL and libpq then ask for them, or refuse


def for_program(conninfo: str) -> tuple[dict[str, str], str]:
    """The environment variables that say the same as a conninfo or URL, and a conninfo of what has no variable.

    No secret is in the latter. Raises DatabaseRefusedError where the text is not a conninfo.
    """
    try:
        parts = parse_dsn(conninfo)
    except psycopg2.ProgrammingError as error:
        raise DatabaseRefusedError(
            f"The database's address cannot be read: {first_line(error)}",
            hint="Set DATABASE_URL to postgresql://user:password@host:port/database.",
        ) from None
    variables = {_VARIABLES[name]: text for name, text in parts.items() if name in _VARIABLES}
    rest = {
        name: text for name, text in parts.items() if name not in _VARIABLES and name not in _SECRETS_WITHOUT_VARIABLE
    }
    return variables, make_dsn(**rest) if rest else ""
