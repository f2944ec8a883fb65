"""`bin/ingest`: the run."""

from __future__ import annotations

import argparse
from contextlib import ExitStack, closing

from ..errors import ConfigurationError
from ..output import Output
from ..pools import DEFAULT_POOL, POOLS, PoolOptions
from ..postgres.writers import DEFAULT_WRITER, WRITERS
from ..progress import STYLES, Display
from ..settings import Settings
from ..stopping import Wake, signals_held, stop_on_signals
from .command import command


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fresh", action="store_true", help="set the sidecar aside and walk everything once more")
    parser.add_argument("--adopt", action="store_true", help="the API moved: go on under its new address")
    parser.add_argument(
        "--rewalk",
        dest="rewalk",
        action="store_const",
        const=True,
        help="walk everything once more, even if nothing is missing",
    )
    parser.add_argument(
        "--no-rewalk",
        dest="rewalk",
        action="store_const",
        const=False,
        help="do not walk everything once more, even if events are missing",
    )
    parser.add_argument("--retry-poisoned", action="store_true", help="try pages again that no worker survived")
    parser.add_argument(
        "--retry-rejected", action="store_true", help="read rejected and repaired events once more (after an upgrade)"
    )
    parser.add_argument(
        "--no-renew-cursors",
        dest="renew_cursors",
        action="store_false",
        help="where a cursor has expired, walk from the newest event instead of renewing it",
    )
    parser.add_argument(
        "--writer",
        choices=WRITERS,
        default=DEFAULT_WRITER,
        help=f"how rows reach the table (default: {DEFAULT_WRITER}); copy takes less time, see README",
    )
    parser.add_argument(
        "--pool",
        choices=POOLS,
        default=DEFAULT_POOL,
        help=f"who writes the pages (default: {DEFAULT_POOL}): processes of this machine, with dask the workers of a"
        " cluster, see README; inline, for profiling, this process itself",
    )
    parser.add_argument("--progress", choices=STYLES, default="auto", help="how progress is shown (default: auto)")


def _run(options: argparse.Namespace, chosen: Settings, shown: Display, out: Output) -> int:
    _require_pool(options, chosen)
    with ExitStack() as opened:
        opened.enter_context(stop_on_signals(opened.enter_context(closing(Wake()))))
        pool = POOLS[options.pool](PoolOptions(chosen.worker_concurrency, chosen.scheduler))
        opened.callback(pool.stop, 0)
        with signals_held():
            pool.prepare()
            # What follows takes as long to load as the workers, and is loaded beside them.
            from ..ingest import Intent, run
            from ..monitoring import monitoring
            from ..plan import Rewalk

        observers = opened.enter_context(monitoring(chosen))
        if options.demo:
            from ..demo import demo_api

            chosen = opened.enter_context(demo_api(chosen))
        intent = Intent(
            fresh=options.fresh,
            adopt=options.adopt,
            retry_poisoned=options.retry_poisoned,
            retry_rejected=options.retry_rejected,
            renew_cursors=options.renew_cursors,
            rewalk={None: Rewalk.IF_SHORT, True: Rewalk.ALWAYS, False: Rewalk.NEVER}[options.rewalk],
            writer=options.writer,
        )
        summary = run(chosen, intent, pool, shown, observers)
        shown.close()
        out.result(summary.text(), summary.as_json())
        summary.balance.require_complete()
        return 0


def _require_pool(options: argparse.Namespace, chosen: Settings) -> None:
    """Raises ConfigurationError where the pool and the settings do not go together."""
    if options.pool != "dask":
        if options.scheduler is not None:
            raise ConfigurationError(
                "--scheduler is for --pool dask, which was not chosen.", hint="Add it, or leave both out."
            )
        return
    if chosen.scheduler is None:
        raise ConfigurationError(
            "--pool dask needs a scheduler, and none is named.",
            hint="Say --scheduler tcp://host:8786, or set DASK_SCHEDULER_ADDRESS. bin/scheduler starts one.",
        )
    if chosen.database is None:
        raise ConfigurationError(
            "The embedded PostgreSQL cannot be reached from the workers of a cluster.",
            hint="Set DATABASE_URL to a PostgreSQL that they reach, here and where bin/worker runs. --demo has none.",
        )


COMMAND = command(
    "ingest",
    "Copies every event of the API into PostgreSQL. Can be stopped at any moment and started again.",
    "  bin/ingest --demo\n  echo TARGET_API_KEY=... > .env; bin/ingest\n  bin/ingest --batch-size 1000",
    _run,
    _flags,
)
