"""The ledger held against the database: at the start of a run, and at its end against the API's total."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from .errors import IncompleteError, LedgerDivergedError, OtherSourceError
from .ledger import Ledger, PoisonedPage
from .plan import rebuilt, walk_of
from .postgres.preparing import SourceIdentity
from .postgres.source import Holdings, SourceDatabase
from .settings import PUBLIC

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Balance:
    """Events in the table and distinct rejects, against the API's latest total (None: it names none).

    `poisoned` pages are fetched, and no worker survived them. `futile`: a walk over everything has left it so.
    """

    holdings: Holdings
    total: int | None
    poisoned: tuple[PoisonedPage, ...] = ()
    futile: bool = False

    @property
    def missing(self) -> int:
        """How many events the table and the rejects are short of the total; 0 where there is no total."""
        return max(0, (self.total or 0) - self.holdings.events - self.holdings.rejected)

    @property
    def unexplained(self) -> int:
        """How many of the missing events are not in poisoned pages, so that another walk may bring them."""
        return max(0, self.missing - sum(page.received for page in self.poisoned))

    @property
    def complete(self) -> bool:
        return not self.missing and not self.poisoned

    def verdict(self) -> tuple[int, str]:
        """Exit code and ending of a run that leaves things like this."""
        if self.complete:
            return 0, "complete"
        return IncompleteError.exit_code, f"{self.missing:,} events missing, {len(self.poisoned)} pages poisoned"

    def require_complete(self) -> None:
        """Raises IncompleteError with the numbers."""
        if self.poisoned:
            page = self.poisoned[0]
            raise IncompleteError(
                f"{len(self.poisoned)} fetched pages could not be written, {self.missing:,} events are missing. Page"
                f" {page.page} ({page.received:,} events): {page.reason}.",
                hint="The pages are kept. Run with --retry-poisoned, when what killed the workers is mended, to try"
                " them once more.",
            )
        if self.missing:
            raise IncompleteError(
                f"{self.missing:,} events are missing: the API has {self.total:,}, the table {self.holdings.events:,}"
                f" and {self.holdings.rejected:,} were rejected.",
                hint="A walk over everything has brought none of them: the API may count events that it does not serve."
                " --rewalk walks once more all the same; bin/export-ids --incomplete writes what is there."
                if self.futile
                else "Run the same command again: it adds what is new and, if that is not enough, walks once more from"
                " the newest event to the oldest.",
            )


def reconcile(ledger: Ledger, database: SourceDatabase, source: str, *, adopt: bool, fresh: bool = False) -> Holdings:
    """Makes the sidecar agree with the database, or says why it cannot; returns what the database holds.

    Pages that the database has and the sidecar does not get marked; with `fresh` they are forgotten instead, and the
    ledger takes the old one's place, once it is sure that the database is this source's.
    Raises OtherSourceError, LedgerDivergedError.
    """
    marked = {page.page for page in ledger.pages()}
    there = database.identity()
    if marked and there is None:
        raise _another(ledger, database)  # before tables are made where there should be some
    _agree_on_source(ledger, there, source, adopt=adopt)
    identity = database.prepare(source)
    if identity.source != source:
        database.adopt(source)
    if fresh:
        ledger.take_place()
        database.forget_pages()
    # What waits in the spool may go into a schema that is new, and not among the events of another data directory.
    _agree_on_database(ledger, database, identity, filled=bool(marked or (there and ledger.spool.waiting)))
    committed = database.pages()
    gone = marked - {page.page for page in committed}
    if gone:
        raise _diverged(f"{len(gone):,} of the {len(marked):,} pages that the sidecar has marked are not in it")
    holdings = database.holdings()
    inserted = sum(page.counts.inserted for page in committed)
    if holdings.events < inserted:
        raise _diverged(f"its pages inserted {inserted:,} events and the table holds {holdings.events:,}")
    walks = ledger.walks()
    unknown = {walk_of(page) for page in committed} - {walk.walk for walk in walks}
    adopted = ledger.adopt_pages(
        [page for page in committed if page.page not in marked],
        rebuilt((page for page in committed if walk_of(page) in unknown), walks),
    )
    if adopted:
        _log.info("%d committed pages were not marked in the sidecar; they are now", adopted)
    ledger.keep(source=source, database_id=identity.database_id, schema=database.schema)
    return holdings


def _agree_on_source(ledger: Ledger, there: SourceIdentity | None, source: str, *, adopt: bool) -> None:
    for holder, theirs in (("database", there and there.source), ("data directory", ledger.fact("source"))):
        if theirs is None or theirs == source:
            continue
        if not adopt:
            raise OtherSourceError(
                f"The {holder} belongs to {theirs}, not to {source}.",
                hint="Use another DATA_DIR, and another --schema (or database), for another API. If the same API has"
                " moved to a new address, run once with --adopt.",
            )
        _log.info("the %s belonged to %s; it is adopted for %s", holder, theirs, source)


def require_own(ledger: Ledger, database: SourceDatabase) -> None:
    """Whoever only reads must not take another source's tables for those of this data directory.

    Raises LedgerDivergedError.
    """
    identity = database.identity()
    known = ledger.fact("database_id")
    if known is not None and (identity is None or identity.database_id != known):
        raise _another(ledger, database)


def _agree_on_database(ledger: Ledger, database: SourceDatabase, identity: SourceIdentity, *, filled: bool) -> None:
    known = ledger.fact("database_id")
    if known is not None and known != identity.database_id and filled:
        raise _another(ledger, database)


def _another(ledger: Ledger, database: SourceDatabase) -> LedgerDivergedError:
    filled = ledger.fact("schema") or database.by_search_path() or PUBLIC  # earlier versions followed it
    if filled != database.schema:
        return _diverged(f"this data directory was filled into the schema {filled}, and this is {database.schema}")
    return _diverged("it is another database than the one that this data directory was filled into")


def _diverged(how: str) -> LedgerDivergedError:
    return LedgerDivergedError(
        f"The sidecar and the database do not belong together: {how}.",
        hint="Name the right database and --schema, or run bin/ingest with --fresh: it sets the sidecar aside, keeps"
        " all events that are there, and walks once more from the newest event.",
    )
