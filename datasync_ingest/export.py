"""`bin/export-ids`: the submission file, one ID a line, complete or not written at all."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .books import Balance
from .errors import IncompleteError
from .files import whole_file, write_all
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
    shown: Callable[[int, int], None],
) -> Export:
    """Writes all ids to the file `target`, or to standard output for `-`.

    `shown(done, total)` is called as it goes. A file appears only when it is whole and on the disk.
    Raises IncompleteError, without writing, when the table holds fewer events than the API has, unless `incomplete`.
    """
    with ExitStack() as opened:
        wake = opened.enter_context(closing(Wake()))
        stop = opened.enter_context(stop_on_signals(wake))
        ledger = opened.enter_context(Ledger.open(settings.data_dir, purpose="bin/export-ids"))
        conninfo = opened.enter_context(database(settings, say=say)).conninfo.reveal()
        _require_source(ledger)
        # They are read while the events are counted; nothing is written before that says that all of them are there.
        blocks = opened.enter_context(closing(ids(conninfo, patience_s=PATIENCE_S, waiting=say)))
        events = _events(ledger, conninfo, stop, say, incomplete=incomplete)

        def copy(file: BinaryIO) -> _Output:
            output = _Output(file, lambda done: shown(done, events))
            for block in blocks:
                output.take(block)
            require_all(output.ids, events)
            return output

        output = copy(sys.stdout.buffer) if target == "-" else _to_file(Path(target), copy)
        export = Export(target, output.ids, output.size, output.sha256)
        ledger.exported(target, ids=export.ids, size=export.size, sha256=export.sha256)
        return export


def _require_source(ledger: Ledger) -> None:
    """Raises IncompleteError where there was no ingest, and maybe no table."""
    if ledger.fact("source") is None:
        raise IncompleteError("Nothing was ingested into this data directory yet.", hint="Run bin/ingest first.")


def require_all(ids: int, events: int) -> None:
    """Raises IncompleteError where fewer ids were read than events counted: reading began before the counting."""
    if ids < events:
        raise IncompleteError(
            f"{ids:,} IDs were read, and then {events:,} events counted: somebody has written to the table meanwhile.",
            hint="Run bin/export-ids again.",
        )


def _events(ledger: Ledger, conninfo: str, stop: StopRequest, say: Callable[[str], None], *, incomplete: bool) -> int:
    """The number of events in the table, which must not be fewer than the API's total unless `incomplete`."""
    with SourceDatabase(conninfo, patience_s=PATIENCE_S, waiting=say, waits=stop.wait_for) as source:
        balance = Balance(source.holdings(), ledger.fact("total"))
    events, total = balance.holdings.events, balance.total or 0
    if balance.total is None and not incomplete and (reason := _unfinished(ledger)):
        raise IncompleteError(
            f"{reason}, and the API tells no total to hold the table against. No file was written.",
            hint="Run bin/ingest again; it goes on from where it ended. --incomplete writes what there is.",
        )
    if events < total and not incomplete:
        explained = total - events <= balance.holdings.rejected
        raise IncompleteError(
            f"The table holds {events:,} events and the API has {total:,}: {total - events:,} are missing"
            f" ({balance.holdings.rejected:,} were rejected). No file was written.",
            hint="Those have no usable id, and bin/ingest cannot bring them: they are in the table rejected_events."
            " --incomplete writes the others."
            if explained
            else "Run bin/ingest again; it goes on from where it ended. --incomplete writes what there is.",
        )
    return events


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
