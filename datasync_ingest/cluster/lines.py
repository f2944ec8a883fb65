"""Dask's own log lines: warnings and deaths go where ours go, the rest is for --debug."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

QUIET = {"DASK_LOGGING__DISTRIBUTED": "warning"}  # the environment of a worker process that has not met `Member` yet
_SPEAKERS = ("distributed", "tornado", "asyncio")
# Said in the course of things: of a page that nobody wants any more, and by a worker process that is about to end.
_HARMLESS = ("Async instruction for ", "Worker process died unexpectedly")
_DEATH = re.compile(r"Worker process \d+ (was killed|exited)")  # distributed.nanny says it as information


@contextmanager
def dasks_lines(*, debug: bool) -> Iterator[None]:
    """To be used inside of `progress.logging_to`, whose handlers they get; with `debug` all of them."""
    ours = logging.getLogger(__name__.partition(".")[0]).handlers
    _take_away_handlers()
    worth = _Worth(debug)
    handlers = [_Through(handler, worth) for handler in ours]
    for name in _SPEAKERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = handlers
        logger.propagate = False
    try:
        yield
    finally:
        for name in _SPEAKERS:
            logging.getLogger(name).handlers[:] = [logging.NullHandler()]  # none at all would be stderr


def _take_away_handlers() -> None:
    """Dask has given one, with a format of its own, to several of its loggers when it was imported."""
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in _SPEAKERS:
            logger.handlers.clear()
            logger.propagate = True


class _Worth(logging.Filter):
    def __init__(self, debug: bool) -> None:
        super().__init__()
        self._debug = debug

    def filter(self, record: logging.LogRecord) -> bool:
        if self._debug:
            return True
        if record.levelno >= logging.WARNING:
            return not record.getMessage().startswith(_HARMLESS)
        return record.name == "distributed.nanny" and _DEATH.search(record.getMessage()) is not None


class _Through(logging.Handler):
    """Hands to another handler what is worth it."""

    def __init__(self, handler: logging.Handler, worth: logging.Filter) -> None:
        super().__init__()
        self.addFilter(worth)
        self._handler = handler

    def emit(self, record: logging.LogRecord) -> None:
        self._handler.emit(record)
