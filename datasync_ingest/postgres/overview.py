"""What the tables hold, for a reader: events by day, type, device and browser, and what was rejected and repaired."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import cursor as Cursor

from .connection import connect_patiently, named
from .preparing import identity
from .source import count_holdings
from .tables import EVENTS, REJECTED, REPAIRED, here

_REASONS = 40  # at most; they come from short lists of ours
_EXAMPLES = 3
_SHOWN_BYTES = 600  # of an example
_LABEL = 80  # characters of a type, a device or a browser; a hostile one may have millions

# One pass over the table for all four: 3,000,000 rows take 2 s on one core.
_EVENTS = f"""
    WITH counted AS MATERIALIZED (
        SELECT (occurred_at AT TIME ZONE 'UTC')::date AS day, left(type, {_LABEL}) AS type,
            left(device_type, {_LABEL}) AS device, left(browser, {_LABEL}) AS browser, count(*) AS n
        FROM {EVENTS} GROUP BY 1, 2, 3, 4
    )
    SELECT grouping(day, type, device, browser), coalesce(day::text, type, device, browser), sum(n)
    FROM counted GROUP BY GROUPING SETS ((day), (type), (device), (browser))
"""
_BY_GROUPING = {0b0111: "day", 0b1011: "type", 0b1101: "device", 0b1110: "browser"}
# An event may have several repairs, see `rows_of` in pages.py.
_REASON = f"""
    SELECT of_it, n, walk::text, sequence, position, event_id, substr(raw, 1, {_SHOWN_BYTES}), length(raw)
    FROM (
        SELECT of_it, count(*) AS n FROM {{table}}, unnest(string_to_array(reason, '; ')) AS of_it
        GROUP BY of_it ORDER BY n DESC, of_it LIMIT {_REASONS}
    ) AS reasons
    CROSS JOIN LATERAL (
        SELECT walk, sequence, position, {{event_id}} AS event_id, raw FROM {{table}} AS example
        WHERE reasons.of_it = ANY (string_to_array(example.reason, '; '))
        ORDER BY walk, sequence, position LIMIT {_EXAMPLES}
    ) AS examples
    ORDER BY n DESC, of_it, walk, sequence, position
"""
# One core is enough, and the others are the run's.
_SESSION = "SET statement_timeout = '60s'; SET lock_timeout = '2s'; SET max_parallel_workers_per_gather = 0"


@dataclass(frozen=True, slots=True)
class Example:
    """An event as it was served: the page in the form of log lines, its place there, the first of its `size` bytes."""

    page: str
    position: int
    event_id: str
    raw: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Reason:
    """How many events were rejected, or repaired, for one reason; a repaired event may count under several."""

    reason: str
    events: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class TableOverview:
    """`rejected` are distinct ones; those of `rejects` count as often as they came.

    `counts`: by `day` (UTC), `type`, `device` and `browser`, each value (None: the event has none) and its events.
    `database_id` is the schema's own.
    """

    events: int
    rejected: int
    counts: Mapping[str, Sequence[tuple[str | None, int]]]
    rejects: tuple[Reason, ...]
    repairs: tuple[Reason, ...]
    database_id: str | None = None


def overview(conninfo: str, *, schema: str, patience_s: float, waiting: Callable[[str], None]) -> TableOverview | None:
    """As of one moment, without a lock that anybody waits for; None where nothing was ever ingested.

    Raises DatabaseUnreachableError, DatabaseRefusedError, DatabaseError.
    """
    connection = connect_patiently(
        conninfo,
        schema=schema,
        application_name="datasync_ingest report",
        patience_s=patience_s,
        waiting=waiting,
    )
    with closing(connection):
        try:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            with connection, connection.cursor() as cursor:
                cursor.execute(_SESSION)
                cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (here(cursor, EVENTS),))
                (there,) = cursor.fetchone() or (False,)
                return _overview(cursor) if there else None
        except psycopg2.Error as error:
            raise named(error) from error


def _overview(cursor: Cursor) -> TableOverview:
    counts = _counts(cursor)
    return TableOverview(
        events=sum(events for _, events in counts["type"]),
        rejected=count_holdings(cursor).rejected,
        counts=counts,
        rejects=_reasons(cursor, REJECTED, "''"),
        repairs=_reasons(cursor, REPAIRED, "event_id"),
        database_id=None if (found := identity(cursor)) is None else found.database_id,
    )


def _counts(cursor: Cursor) -> dict[str, list[tuple[str | None, int]]]:
    found: dict[str, list[tuple[str | None, int]]] = {name: [] for name in _BY_GROUPING.values()}
    cursor.execute(here(cursor, _EVENTS))
    for grouping, value, events in cursor:
        found[_BY_GROUPING[grouping]].append((value, int(events)))
    return found


def _reasons(cursor: Cursor, table: str, event_id: str) -> tuple[Reason, ...]:
    cursor.execute(here(cursor, _REASON.format(table=table, event_id=event_id)))
    found: dict[str, tuple[int, list[Example]]] = {}
    for reason, events, walk, sequence, position, one, raw, size in cursor:
        example = Example(f"{walk[:8]}/{sequence}", position, one, bytes(raw), size)
        found.setdefault(reason, (events, []))[1].append(example)
    return tuple(Reason(reason, events, tuple(examples)) for reason, (events, examples) in found.items())
