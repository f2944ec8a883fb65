"""What a report is made of: the runs that were asked for, and the tables that they filled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import ConfigurationError, DatabaseError, DataDirectoryError, IncompleteError
from ..ledger.run_history import PastPage, PastRun, read_runs
from ..ledger.standing import standing
from ..postgres.database import database, embedded_directory
from ..postgres.overview import TableOverview, overview
from ..redaction import mask
from ..settings import PUBLIC, Settings

PATIENCE_S = 5.0  # for a database that may be down: the rest of the page is worth having


@dataclass(frozen=True, slots=True)
class Choice:
    """Which runs: these numbers, or the last so many (None: all)."""

    numbers: Sequence[int] = ()
    last: int | None = 1


@dataclass(frozen=True, slots=True)
class ShownRun:
    """A run under the name that it has on the page.

    `stopped_s`: how long nothing ran before it, though the run before had not ended complete. `completed`: the pages of
    its data directory, by their names in the log.
    """

    name: str
    past: PastRun
    stopped_s: float
    completed: Mapping[str, PastPage] = field(repr=False)

    @property
    def elapsed_s(self) -> float:
        return self.past.last_seen_at - self.past.begun_at

    def minutes(self, at: float) -> float:
        """Since its beginning; a wall clock that was set back gives no time before that."""
        return max(0.0, at - self.past.begun_at) / 60


@dataclass(frozen=True, slots=True)
class Gathered:
    """`table` is None where it could not be read; `trouble` says why."""

    runs: Sequence[ShownRun]
    table: TableOverview | None
    trouble: str


def gather(settings: Settings, choice: Choice, others: Sequence[Path], *, say: Callable[[str], None]) -> Gathered:
    """The chosen runs of the settings' data directory, then those of `others`, and what the settings' database holds.

    Raises IncompleteError where there is no run, ConfigurationError where one that was asked for is not there, and the
    errors of a sidecar that cannot be read.
    """
    own = _chosen(settings.data_dir, choice, prefix="")
    beside = Choice(last=1 if choice.numbers else choice.last)
    for directory, name in zip(others, _short_names(others), strict=True):
        own += _chosen(directory, beside, prefix=f"{name} ")
    table, trouble = _table(settings, say)
    return Gathered([_masked(run, settings) for run in own], table, mask(trouble, settings))


def _masked(run: ShownRun, settings: Settings) -> ShownRun:
    """What was logged goes into a file that may be passed on."""
    past = run.past
    incidents = tuple(replace(one, message=mask(one.message, settings)) for one in past.incidents)
    ending = None if past.ending is None else mask(past.ending, settings)
    return replace(run, past=replace(past, incidents=incidents, ending=ending))


def _chosen(directory: Path, choice: Choice, *, prefix: str) -> list[ShownRun]:
    history = read_runs(directory)
    past = history.runs
    if not past:
        raise IncompleteError(f"No run was made with the data directory {directory} yet.", hint="Run bin/ingest first.")
    completed = {page.page: page for page in (*history.found, *(page for run in past for page in run.pages))}
    shown = [
        ShownRun(f"{prefix}run {run.run}", run, _stopped_s(before, run), completed)
        for before, run in zip([None, *past[:-1]], past, strict=True)
    ]
    if not choice.numbers:
        return shown[-choice.last :] if choice.last is not None else shown
    known = {run.past.run: run for run in shown}
    if unknown := [number for number in choice.numbers if number not in known]:
        raise ConfigurationError(
            f"There is no run {unknown[0]} in {directory}: its runs are {min(known)} to {max(known)}.",
            hint="Name others with --run, or --all for all of them.",
        )
    return [known[number] for number in dict.fromkeys(choice.numbers)]


def _stopped_s(before: PastRun | None, run: PastRun) -> float:
    if before is None or before.exit_code == 0:
        return 0.0
    return max(0.0, run.begun_at - before.last_seen_at)


def _short_names(directories: Sequence[Path]) -> list[str]:
    """Of each the last part that is not merely `data`, told apart by a number where two are alike."""
    resolved = [path.resolve() for path in directories]
    names = [path.parent.name if path.name == "data" else path.name for path in resolved]
    return [f"{name} ({place})" if names.count(name) > 1 else name for place, name in enumerate(names, start=1)]


def _table(settings: Settings, say: Callable[[str], None]) -> tuple[TableOverview | None, str]:
    if settings.database is None and not embedded_directory(settings).is_dir():
        return None, "There is no database in this data directory."
    try:
        with database(settings, say=say) as served:
            found = overview(served.conninfo.reveal(), schema=settings.schema, patience_s=PATIENCE_S, waiting=say)
    except (DatabaseError, DataDirectoryError) as error:
        return None, f"The database could not be read. {error}"
    if found is None:
        return None, "Nothing was ingested into this database yet."
    foreign = _foreign(found, settings)
    return (None, foreign) if foreign else (found, "")


def _foreign(found: TableOverview, settings: Settings) -> str:
    """Why these are not the tables that the data directory was filled into; empty where they are."""
    sidecar = standing(settings.data_dir, since=0.0)
    facts = {} if sidecar is None else sidecar.facts
    if facts.get("database_id") in (None, found.database_id):
        return ""
    filled = facts.get("schema") or PUBLIC
    if filled != settings.schema:
        return f"This data directory was filled into the schema {filled}, and this is {settings.schema}."
    return "It is another database than the one that this data directory was filled into."
