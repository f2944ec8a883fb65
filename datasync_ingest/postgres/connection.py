"""Connections to PostgreSQL, and what each of its errors means to the caller."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg2

from ..errors import DatabaseError, DatabaseRefusedError, DatabaseUnreachableError, DiskFullError
from .tables import Connection

CONNECT_TIMEOUT_S = 10
LOCK_TIMEOUT_S = 60  # longer than any page's commit; a lock held longer than that is somebody else's
IDLE_IN_TRANSACTION_TIMEOUT_S = 120  # a worker that hangs in mid-page must not hold its locks for ever

# A dead peer is noticed within about a minute: 30 s and 3 probes of 10 s, or 60 s of data without an answer.
_KEEPALIVE: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

# How PostgreSQL notices one of us that was cut off, within 30 s, as Dask does (`distributed.comm.timeouts.tcp`): its
# transaction is rolled back, and the worker that has its page next goes on. By itself it would wait for 2 hours, or for
# the next statement of the transaction as long as that may be idle. Without effect on a socket of Unix.
_SERVERS_KEEPALIVE = """
    SET tcp_keepalives_idle = 10;
    SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 4;
    SET tcp_user_timeout = '30s'
"""

_SESSION = f"""
    SET synchronous_commit = on;
    SET lock_timeout = '{LOCK_TIMEOUT_S}s';
    SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_TIMEOUT_S}s';
    SET timezone = 'UTC';
    SET client_min_messages = warning;
    {_SERVERS_KEEPALIVE}
"""

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_RETRYABLE = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "55P03",  # lock_not_available
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now
        "57P05",  # idle_session_timeout
        "25P03",  # idle_in_transaction_session_timeout
        "53300",  # too_many_connections
    }
)
_DATA_CLASSES = ("22", "54")  # data exception; program limit exceeded
_DISK_FULL = "53100"

_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 15.0


def connect(
    conninfo: str, *, schema: str, application_name: str, connect_timeout_s: int = CONNECT_TIMEOUT_S
) -> Connection:
    """One attempt. Raises psycopg2.Error as libpq has it; ValueError never. Not in autocommit.

    `schema` is the one that statements on the connection mean, see `tables.here`; it need not be there.
    """
    connection: Connection = psycopg2.connect(
        conninfo,
        connection_factory=Connection,
        application_name=application_name,
        connect_timeout=connect_timeout_s,
        client_encoding="UTF8",
        **_KEEPALIVE,
    )
    connection.schema = schema
    with connection, connection.cursor() as cursor:
        cursor.execute(_SESSION)
    return connection


def connect_patiently(
    conninfo: str,
    *,
    schema: str,
    application_name: str,
    patience_s: float,
    waiting: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Connection:
    """Tries until a connection stands, with a growing wait that `waiting` is told of.

    Raises DatabaseUnreachableError after `patience_s`, DatabaseRefusedError at once where waiting cannot help.
    """
    deadline = clock() + patience_s
    wait_s = _FIRST_WAIT_S
    while True:
        try:
            return connect(conninfo, schema=schema, application_name=application_name)
        except psycopg2.Error as error:
            cause = first_line(error)
            if not is_connection_trouble(error):
                raise DatabaseRefusedError(
                    f"PostgreSQL refused the connection: {cause}",
                    hint="Check user, password and database name in DATABASE_URL (or the PG* variables).",
                ) from None
        if clock() + wait_s > deadline:
            raise DatabaseUnreachableError(
                f"PostgreSQL could not be reached for {patience_s:.0f} s: {cause}",
                hint="Start the database or mend DATABASE_URL, then run the same command again.",
            )
        waiting(f"database away: {cause}")
        sleep(wait_s)
        wait_s = min(_LONGEST_WAIT_S, wait_s * 2)


def is_connection_trouble(error: BaseException) -> bool:
    """Whether a new connection may mend it: the connection is lost, or could not be made for now.

    libpq gives no SQLSTATE for a failed connection attempt, so the server's own FATAL is told from a network error by
    its text; the three FATALs that pass by themselves are named in the PostgreSQL documentation of SQLSTATE 57P03
    and 53300.
    """
    code = getattr(error, "pgcode", None)
    if code is not None:
        return code in _RETRYABLE or str(code).startswith("08")
    if isinstance(error, psycopg2.InterfaceError) or type(error) is psycopg2.DatabaseError:
        return True  # psycopg2 has the plain class for a connection that broke before there was any answer
    if not isinstance(error, psycopg2.OperationalError):
        return False
    text = str(error)
    passing = ("starting up", "shutting down", "recovery", "too many clients", "remaining connection slots")
    refused = ("FATAL:", "no password supplied", "definition of service")
    return any(word in text for word in passing) or not any(word in text for word in refused)


def is_data_error(error: BaseException) -> bool:
    """Whether PostgreSQL or the adapter refuses a value, so that one row of the statement is to blame."""
    if isinstance(error, psycopg2.Error):
        return (error.pgcode or "").startswith(_DATA_CLASSES) or (
            error.pgcode is None and isinstance(error, psycopg2.DataError)
        )
    return isinstance(error, (ValueError, OverflowError))  # UnicodeEncodeError is a ValueError


def named(error: psycopg2.Error) -> DatabaseError | DiskFullError:
    """The error of ours for one of PostgreSQL's that neither retrying nor bisecting can mend."""
    text = first_line(error)
    if error.pgcode == _DISK_FULL:
        return DiskFullError(f"PostgreSQL has no room left: {text}", hint="Make room and run the same command again.")
    if error.pgcode is not None and error.pgcode.startswith(("42501", "28", "3D", "3F", "25006")):
        return DatabaseRefusedError(
            f"PostgreSQL refuses: {text}",
            hint="The database's user needs the rights to create and write tables in its schema.",
        )
    return DatabaseError(f"PostgreSQL ({error.pgcode or 'no code'}): {text}")


def first_line(error: BaseException) -> str:
    """The sentence of a libpq error without its LINE, DETAIL and repetition."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
