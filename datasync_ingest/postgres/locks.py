"""Advisory locks of a schema: one run at a time, and no page of an earlier one is committed once it has begun.

A run that was killed may have a COMMIT on its way, held up in the network. It must not arrive after the next run has
read which pages there are and has begun to fetch the same places anew, maybe with other contents.

Advisory locks belong to a database. The key within it is a hash of 64 bits: of 10,000 schemas two share one with a
probability of 3 in 10^12.
"""

from __future__ import annotations

from psycopg2.extensions import cursor as Cursor

from .tables import schema_of

# Seeds of the hash, any constants of ours: a schema has two locks.
_RUN = 0x64617461
_PAGE = 0x64617462

# Each takes the schema's name. This one comes first in the transaction of each page.
HOLD_FOR_PAGE = f"SELECT pg_advisory_xact_lock_shared(hashtextextended(%s, {_PAGE}))"

_TRY_FOR_RUN = f"SELECT pg_try_advisory_lock(hashtextextended(%s, {_RUN}))"
# https://www.postgresql.org/docs/current/view-pg-locks.html: how a key of 64 bits is shown, objsubid being 1 then
_END_PAGES = f"""
    SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND objsubid = 1 AND (classid::bigint << 32) | objid::bigint = hashtextextended(%s, {_PAGE})
    AND usename = current_user
"""
_AWAIT_PAGES = f"SELECT pg_advisory_xact_lock(hashtextextended(%s, {_PAGE}))"


def try_for_run(cursor: Cursor) -> bool:
    """Whether this session holds the run's lock now, until it ends."""
    cursor.execute(_TRY_FOR_RUN, (schema_of(cursor),))
    row = cursor.fetchone()
    return bool(row and row[0])


def end_earlier_pages(cursor: Cursor) -> None:
    """Rolls back what earlier runs have under way, and waits until none of it can be committed any more.

    For whoever holds the run's lock and has no workers yet.
    """
    cursor.execute(_END_PAGES, (schema_of(cursor),))
    cursor.execute(_AWAIT_PAGES, (schema_of(cursor),))
