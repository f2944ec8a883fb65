"""Advisory locks of a schema: one run at a time, and no page of an earlier one is committed once it has begun.

A run that was killed may have a COMMIT on its way, held up in the network. It must not arrive after the next run has
read which pages there are and has begun to fetch the same places anew, maybe with other contents.
"""

from __future__ import annotations

from psycopg2.extensions import cursor as Cursor

# The first half of each key: any constants of ours. The second half is the schema's.
_RUN = 0x64617461
_PAGE = 0x64617462
_SCHEMA = "hashtext(coalesce(current_schema(), ''))"

HOLD_FOR_PAGE = f"SELECT pg_advisory_xact_lock_shared({_PAGE}, {_SCHEMA})"  # first in the transaction of each page

_TRY_FOR_RUN = f"SELECT pg_try_advisory_lock({_RUN}, {_SCHEMA})"
_END_PAGES = f"""
    SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND classid = {_PAGE} AND objid = ({_SCHEMA}::bigint & 4294967295)::oid AND usename = current_user
"""  # noqa: S608
_AWAIT_PAGES = f"SELECT pg_advisory_xact_lock({_PAGE}, {_SCHEMA})"


def try_for_run(cursor: Cursor) -> bool:
    """Whether this session holds the run's lock now, until it ends."""
    cursor.execute(_TRY_FOR_RUN)
    row = cursor.fetchone()
    return bool(row and row[0])


def end_earlier_pages(cursor: Cursor) -> None:
    """Rolls back what earlier runs have under way, and waits until none of it can be committed any more.

    For whoever holds the run's lock and has no workers yet.
    """
    cursor.execute(_END_PAGES)
    cursor.execute(_AWAIT_PAGES)
