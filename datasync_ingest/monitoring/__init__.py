"""Metrics and health of one run, where the user asks for them: a server while it lasts, a file at its end."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import IngestError
from ..observing import Observer
from ..settings import PUBLIC, Settings
from .health import Pulse
from .server import Answer, Page, Request, serving

if TYPE_CHECKING:
    from .metrics import Metrics

_log = logging.getLogger(__name__)


@contextmanager
def monitoring(settings: Settings) -> Iterator[Sequence[Observer]]:
    """Yields who is to be told of the run in the block; nobody, where neither METRICS_PORT nor METRICS_FILE is set.

    The server ends with the block, and the file is written then, whichever way the block ends. Raises
    ConfigurationError, before anything begins, where the port is taken or the file cannot be written.
    """
    if settings.metrics_port is None and settings.metrics_file is None:
        yield []
        return
    from .metrics import Metrics, require_writable  # prometheus_client takes 50 ms to import

    labels = {} if settings.schema == PUBLIC else {"schema": settings.schema}
    metrics, pulse = Metrics(labels=labels), Pulse()
    with ExitStack() as opened:
        if settings.metrics_file is not None:
            require_writable(settings.metrics_file)
        if settings.metrics_port is not None:
            pages: dict[str, Page] = {"/metrics": metrics.page, "/healthz": partial(_health, pulse)}
            url = opened.enter_context(serving(settings.metrics_host, settings.metrics_port, pages))
            _log.info("metrics are at %s/metrics, the health is at %s/healthz", url, url)
        code = IngestError.exit_code
        try:
            yield [metrics, pulse]
            code = 0
        except IngestError as error:
            code = error.exit_code
            raise
        finally:
            metrics.ended(code)
            if settings.metrics_file is not None:
                _write(metrics, settings.metrics_file)


def _health(pulse: Pulse, request: Request) -> Answer:
    del request
    healthy, known = pulse.health()
    return Answer(200 if healthy else 503, "application/json", json.dumps(known).encode() + b"\n")


def _write(metrics: Metrics, path: Path) -> None:
    """What ended the run is the better news than a file that cannot be written."""
    try:
        metrics.write(path)
    except OSError as error:
        _log.warning("METRICS_FILE=%s could not be written: %s", path, error.strerror)
