"""`bin/worker`: worker processes for a run with `--pool dask`."""

from __future__ import annotations

import argparse
import re

from ..errors import ConfigurationError
from ..output import Output
from ..progress import Display
from ..settings import Settings
from ..units import parse_seconds
from .command import command


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        dest="worker_concurrency",
        metavar="N",
        help="how many worker processes, the same as --worker-concurrency",
    )
    parser.add_argument(
        "--patience",
        type=_seconds,
        default="15min",
        metavar="DURATION",
        help="how long the scheduler may be away, at the start and later (default: 15min)",
    )
    parser.add_argument(
        "--host",
        metavar="ADDRESS",
        help="this machine's address for scheduler and run (default: that of the way to the scheduler)",
    )
    parser.add_argument(
        "--ports",
        type=_port_range,
        metavar="FIRST:LAST",
        help="ports to listen on, two for each worker (default: free ones)",
    )
    parser.set_defaults(progress="lines")


def _seconds(text: str) -> float:
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def _port_range(text: str) -> range:
    match = re.fullmatch(r"(\d{1,5}):(\d{1,5})", text)
    if match is None or not 0 < int(match[1]) <= int(match[2]) < 65_536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of ports such as 9000:9015")
    return range(int(match[1]), int(match[2]) + 1)


def _run(options: argparse.Namespace, chosen: Settings, shown: Display, out: Output) -> int:
    del shown, out
    try:
        from ..cluster.joining import join
    except ModuleNotFoundError as error:
        if error.name != "distributed":
            raise
        raise ConfigurationError(
            "bin/worker needs dask.distributed, which is not installed here.",
            hint="pip install 'datasync_ingest[dask]'",
        ) from None
    join(chosen, patience_s=options.patience, host=options.host, ports=options.ports, debug=options.debug)
    return 0


COMMAND = command(
    "worker",
    "Starts worker processes at a Dask scheduler, for bin/ingest --pool dask, and keeps them until it is stopped.",
    "  bin/scheduler\n"
    "  DATABASE_URL=postgresql://... bin/worker --scheduler tcp://10.0.0.1:8786\n"
    "  bin/worker --scheduler tls://10.0.0.1:8786 --workers 4 --host 10.0.0.7 --ports 9000:9007",
    _run,
    _flags,
)
