"""The only room that draws: a tqdm bar on a terminal, plain lines elsewhere, JSON lines on request, and log lines."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from .log_lines import as_json, as_text, fields_of, stamp
from .redaction import mask
from .settings import Settings
from .units import show_seconds

if TYPE_CHECKING:  # tqdm takes 50 ms to load, and only a terminal has bars
    from tqdm import tqdm

LINE_EVERY_S = 5.0
_BAR = "{percentage:3.0f}%|{bar}| {n:,}/{total:,} events [{elapsed}]"
_BAR_WITHOUT_TOTAL = "{n:,} events [{elapsed}]"
STYLES = ("auto", "bar", "lines", "json")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How the run stands at one moment. Durations are seconds; None is unknown.

    `committed` counts events in the table, `initial` those that were there when the run began; `rate` is events
    received a second; `waiting` says what holds the run, empty when nothing does. `seconds`: where the walk's time
    went, by cause; `doing`: the cause that holds it now. `cursor_left_s`: until the newest cursor dies. `workers`: how
    many live; `pids`: their process ids, as far as they are processes of this machine.
    """

    committed: int
    initial: int
    total: int | None
    rate: float
    left_s: float | None
    requests: int
    requests_left: int | None
    queued: int
    spooled: int
    rejected: int
    key_left_s: float | None
    waiting: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    doing: str = ""
    cursor_left_s: float | None = None
    workers: int = 0
    pids: tuple[int, ...] = ()

    def standing(self) -> str:
        """Half a sentence for the one who stops a run."""
        return f"{self.committed:,} of {'unknown' if self.total is None else f'{self.total:,}'} events are in the table"

    def status(self) -> str:
        """The line under the bar."""
        parts = [f"{self.rate:,.0f} events/s"]
        if self.left_s is not None:
            parts.append(f"{show_seconds(self.left_s)} left")
        if self.requests_left is not None:
            parts.append(f"requests left {self.requests_left}")
        parts.append(f"queue {self.queued}")
        if self.spooled:
            parts.append(f"spool {self.spooled:,}")
        if self.rejected:
            parts.append(f"rejected {self.rejected:,}")
        if self.waiting:
            parts.append(self.waiting)
        if self.key_left_s is not None:
            parts.append(
                f"key ends in {show_seconds(self.key_left_s)}" if self.key_left_s > 0 else "key is past its life"
            )
        return " | ".join(parts)


class Display(Protocol):
    """One way of showing a run. All methods are called by the main thread."""

    def show(self, snapshot: Snapshot) -> None:
        """Called several times a second; shows what is due."""

    def write(self, line: str) -> None:
        """A log line, which must not tear what is shown."""

    def close(self) -> None:
        """Idempotent."""


class Bar:
    """tqdm on a terminal: a bar of committed events, and a status line below it."""

    def __init__(self, stream: TextIO) -> None:
        from tqdm import tqdm

        self._tqdm = tqdm
        self._stream = stream
        self._bar: tqdm[Any] | None = None
        self._status: tqdm[Any] | None = None

    def show(self, snapshot: Snapshot) -> None:
        if self._bar is None or self._status is None:
            self._bar, self._status = self._open(snapshot)
        if snapshot.total is not None:
            self._bar.bar_format = _BAR
            self._bar.total = max(snapshot.total, snapshot.committed)
        self._bar.n = snapshot.committed
        self._bar.refresh()
        self._status.set_description_str(snapshot.status())

    def write(self, line: str) -> None:
        self._tqdm.write(line, file=self._stream)

    def close(self) -> None:
        for bar in (self._status, self._bar):
            if bar is not None:
                bar.close()
        self._bar = self._status = None

    def _open(self, snapshot: Snapshot) -> tuple[tqdm[Any], tqdm[Any]]:
        bar: tqdm[Any] = self._tqdm(
            total=snapshot.total,
            initial=snapshot.initial,
            unit=" events",
            file=self._stream,
            dynamic_ncols=True,
            bar_format=_BAR if snapshot.total is not None else _BAR_WITHOUT_TOTAL,
        )
        status: tqdm[Any] = self._tqdm(
            position=1, total=0, bar_format="{desc}", file=self._stream, dynamic_ncols=True, leave=False
        )
        return bar, status


class Lines:
    """A plain line every five seconds, for log files and pipes."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._due = clock() + LINE_EVERY_S

    def show(self, snapshot: Snapshot) -> None:
        if self._clock() >= self._due:
            self._due = self._clock() + LINE_EVERY_S
            self.write(self.line(snapshot))

    def line(self, snapshot: Snapshot) -> str:
        return (
            f"Progress: {snapshot.committed:,} events | {snapshot.rate:,.0f} events/sec"
            f" | Requests: {snapshot.requests:,}"
        )

    def write(self, line: str) -> None:
        print(line, file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing to close."""


class JsonLines(Lines):
    """The whole snapshot as one JSON object a line, with the fields of a log line."""

    def line(self, snapshot: Snapshot) -> str:
        return as_json({**stamp("progress", super().line(snapshot)), **asdict(snapshot)})


def display(style: str, stream: TextIO | None = None, *, log_format: str = "text") -> Display:
    """The display for one of `STYLES`; `auto` is the bar on a terminal, elsewhere lines in the format of the log's."""
    stream = stream or sys.stderr
    if style == "bar" or (style == "auto" and stream.isatty()):
        return Bar(stream)
    return JsonLines(stream) if style == "json" or (style, log_format) == ("auto", "json") else Lines(stream)


def export_bar(stream: TextIO) -> AbstractContextManager[Callable[[int, int | None], None]]:
    """A bar for a file of lines, see `_late_bar`."""
    return _late_bar(stream, unit=" IDs")


def upload_bar(stream: TextIO) -> AbstractContextManager[Callable[[int, int], None]]:
    """A bar for bytes that go out, see `_late_bar`."""
    return _late_bar(stream, unit="B", unit_scale=True)


def _shown_to_nobody(done: int, total: int | None) -> None:
    del done, total


@contextmanager
def _late_bar(stream: TextIO, **look: Any) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on a terminal only; yields what to call with (done, total), None where that is unknown.

    It appears with the first call, so that there is none where nothing is begun, and questions can be asked before.
    """
    if not stream.isatty():
        yield _shown_to_nobody
        return
    from tqdm import tqdm

    bar: tqdm[Any] | None = None

    def shown(done: int, total: int | None) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=total, file=stream, dynamic_ncols=True, **look)
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    try:
        yield shown
    finally:
        if bar is not None:
            bar.close()


@contextmanager
def logging_to(shown: Display, settings: Settings, *, debug: bool) -> Iterator[None]:
    """Log records of this package go through the display, with secrets masked; nothing else of it changes."""
    logger = logging.getLogger(__package__)
    handler = _Handler(shown, settings)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Handler(logging.Handler):
    def __init__(self, shown: Display, settings: Settings) -> None:
        super().__init__()
        self._shown = shown
        self._settings = settings

    def emit(self, record: logging.LogRecord) -> None:
        fields = fields_of(record)
        shown = {name: _masked(value, self._settings) for name, value in fields.items()}
        self._shown.write(as_json(shown) if self._settings.log_format == "json" else as_text(shown))


def _masked(value: Any, settings: Settings) -> Any:
    return mask(value, settings) if isinstance(value, str) else value
