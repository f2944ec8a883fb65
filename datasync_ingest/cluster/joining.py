"""`bin/worker` from its first line to its last: the database is looked at, then workers are kept at the scheduler."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from contextlib import closing

from ..database_check import require_writable
from ..errors import ConfigurationError
from ..postgres.checking import Standing, look
from ..settings import Secret, Settings, hand_down
from ..stopping import Wake, stop_on_signals
from .defaults import set_defaults
from .keeping import Keeper, Kept
from .lines import QUIET, dasks_lines
from .member import Member
from .scheduler import Scheduler

_DATABASE_PATIENCE_S = 30.0  # at the start, as for a run

_log = logging.getLogger(__name__)


def join(
    settings: Settings, *, patience_s: float, host: str | None = None, ports: range | None = None, debug: bool = False
) -> None:
    """Returns when the scheduler has retired every worker.

    Raises StoppedError after a signal, SchedulerAwayError, ConfigurationError, DatabaseError.
    """
    address, conninfo = _scheduler(settings), _database(settings)
    _require_enough(ports, settings.worker_concurrency)
    with closing(Wake()) as wake, stop_on_signals(wake) as request:
        standing = request.wait_for(lambda: _looked_at(conninfo, settings.schema))
    _log.info("%s", _described(standing))
    hand_down(conninfo, {} if debug else QUIET)
    set_defaults()
    with dasks_lines(debug=debug), tempfile.TemporaryDirectory(prefix="datasync-worker-") as folder:
        kept = Kept(
            settings.worker_concurrency,
            settings.stop_grace,
            folder,
            Member(settings.log_format, debug),
            host=host,
            ports=ports,
        )
        asyncio.run(_keep(kept, address, patience_s))


async def _keep(kept: Kept, address: str, patience_s: float) -> None:
    await Keeper(kept, Scheduler(address, patience_s=patience_s)).run()


def _scheduler(settings: Settings) -> str:
    if settings.scheduler is None:
        raise ConfigurationError(
            "No scheduler is named: neither --scheduler nor DASK_SCHEDULER_ADDRESS is set.",
            hint="bin/scheduler (or dask scheduler) starts one and prints its address, such as tcp://10.0.0.1:8786.",
        )
    return settings.scheduler


def _database(settings: Settings) -> Secret:
    if settings.database is None:
        raise ConfigurationError(
            "No database is named, and the embedded PostgreSQL cannot be reached from a cluster.",
            hint="Set DATABASE_URL (or PGHOST, PGSERVICE, PGDATABASE) to the database of the run, on every machine.",
        )
    return settings.database


def _require_enough(ports: range | None, workers: int) -> None:
    """Raises ConfigurationError where not every worker and its nanny would find one."""
    if ports is not None and len(ports) < 2 * workers:
        raise ConfigurationError(
            f"--ports {ports[0]}:{ports[-1]} are {len(ports)} ports, and {workers} workers need {2 * workers}.",
            hint="One is for the worker, one for its nanny. Name more ports, or fewer --workers.",
        )


def _looked_at(conninfo: Secret, schema: str) -> Standing:
    """Raises DatabaseUnreachableError, DatabaseRefusedError, DatabaseError."""
    standing = look(
        conninfo.reveal(),
        schema=schema,
        patience_s=_DATABASE_PATIENCE_S,
        waiting=lambda cause: _log.warning("%s", cause),
    )
    require_writable(_server(standing), standing, schema)
    return standing


def _server(standing: Standing) -> str:
    return f"PostgreSQL {standing.version.split()[0]} ({standing.database} as {standing.user})"


def _described(standing: Standing) -> str:
    server = _server(standing)
    if standing.source is None:
        return f"{server}, without tables yet: the first run makes them"
    return f"{server}, with {standing.events:,} events of {standing.source}"
