"""`bin/export-ids`: the submission file, one ID a line, complete or not written at all."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .books import require_own
from .errors import IncompleteError
from .files import is_special, whole_file, write_all
from .ledger import Ledger
from .plan import ACTIVE, FINISHED
from .postgres.database import database
from .postgres.ids import ids
from .postgres.source import SourceDatabase
from .settings import Settings
from .stopping import StopRequest, Wake, stop_on_signals

PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Export:
    """What was written: number of lines, bytes, and the SHA-256 of the bytes."""

    path: str
    ids: int
    size: int
    sha256: str


class _Output:
    """Counts and digests what goes through; `shown` is told how many lines there are so far."""

    def __init__(self, file: BinaryIO, shown: Callable[[int], None]) -> None:
        self._file = file
        self._shown = shown
        self._digest = hashlib.sha256()
        self.ids = 0
        self.size = 0

    def take(self, block: bytes) -> None:
        write_all(self._file, block)
        self._digest.update(block)
        self.ids += block.count(b"\n")
        self.size += len(block)
        self._shown(self.ids)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def export_ids(
    settings: Settings,
    target: str,
    *,
    incomplete: bool,
    say: Callable[[str], None],
    shown: Callable[[int, int | None], None],
) -> Export:
    """Writes all ids to the file `target`, or to standard output for `-`.

    `shown(done, total)` is called as it goes, with the API's total. A file appears only when it is whole and on the
    disk. Raises IncompleteError, and no file appears, when the table holds fewer events than the API has, unless
    `incomplete`.
    """
    with ExitStack() as opened:
        wake = opened.enter_context(closing(Wake()))
        stop = opened.enter_context(stop_on_signals(wake))
        ledger = opened.enter_context(Ledger.open(settings.data_dir, purpose="bin/export-ids"))
        conninfo = opened.enter_context(database(settings, say=say)).conninfo.reveal()
        _require_source(ledger)
        table = _Table(conninfo, settings.schema, stop, say)
        table.require_own(ledger)
        total = None if incomplete else _total(ledger)

        def copy(file: BinaryIO) -> _Output:
            output = _Output(file, lambda done: shown(done, total))
            with closing(ids(conninfo, schema=settings.schema, patience_s=PATIENCE_S, waiting=say)) as blocks:
                for block in blocks:
                    output.take(block)
            table.require(total, output.ids)  # in the place of a count before, which reads all of it once more
            return output

        if target == "-" or is_special(Path(target)):  # what was written there cannot be taken back
            table.require(total)
        output = copy(sys.stdout.buffer) if target == "-" else _to_file(Path(target), copy)
        export = Export(target, output.ids, output.size, output.sha256)
        ledger.exported(target, ids=export.ids, size=export.size, sha256=export.sha256)
        return export


def _require_source(ledger: Ledger) -> None:
    """Raises IncompleteError where there is no table yet."""
    if ledger.fact("source") is None:
        raise IncompleteError("Nothing was ingested into this data directory yet.", hint="Run bin/ingest first.")


def _total(ledger: Ledger) -> int | None:
    """How many events the API has, as far as it told. Raises IncompleteError where there are surely more to come."""
    total: int | None = ledger.fact("total")
    if total is None and (reason := _unfinished(ledger)):
        raise IncompleteError(
            f"{reason}, and the API tells no total to hold the table against. No file was written.",
            hint="Run bin/ingest again; it goes on from where it ended. --incomplete writes what there is.",
        )
    return total


@dataclass(frozen=True, slots=True)
class _Table:
    """The events, held against the API's total."""

    conninfo: str
    schema: str
    stop: StopRequest
    say: Callable[[str], None]

    def require_own(self, ledger: Ledger) -> None:
        """Raises LedgerDivergedError where it is not the one that the data directory was filled into."""
        with self._opened() as source:
            require_own(ledger, source)

    def require(self, total: int | None, events: int | None = None) -> None:
        """Raises IncompleteError where there are fewer `events` (None: counts them) than the API has."""
        if total is None or (events is not None and events >= total):
            return
        with self._opened() as source:
            holdings = source.holdings()
        events = holdings.events if events is None else events
        if events >= total:
            return
        explained = total - events <= holdings.rejected
        raise IncompleteError(
            f"The table holds {events:,} events and the API has {total:,}: {total - events:,} are missing"
            f" ({holdings.rejected:,} were rejected). No file was written.",
            hint="Those have no usable id, and bin/ingest cannot bring them: they are in the table rejected_events."
            " --incomplete writes the others."
            if explained
            else "Run bin/ingest again; it goes on from where it ended. --incomplete writes what there is.",
        )

    def _opened(self) -> SourceDatabase:
        return SourceDatabase(
            self.conninfo,
            schema=self.schema,
            patience_s=PATIENCE_S,
            waiting=self.say,
            waits=self.stop.wait_for,
        )


def _unfinished(ledger: Ledger) -> str:
    """What the sidecar knows to be undone; empty where it knows of nothing."""
    if count := ledger.spool.waiting + len(ledger.spool.poisoned()):
        return f"{count:,} fetched pages are not in the table yet"
    states = {walk.state for walk in ledger.walks()}
    return "" if FINISHED in states and ACTIVE not in states else "The last walk has not come to its end"


def _to_file(path: Path, copy: Callable[[BinaryIO], _Output]) -> _Output:
    """`path` is the whole export or what it was before."""
    with whole_file(path, room="37 bytes an ID") as file:
        return copy(file)
