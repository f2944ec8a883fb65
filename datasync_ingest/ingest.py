"""The run: a walk fetches pages, a pool of workers commits them, receipts go into the ledger and onto the screen."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from .activity import Activities
from .api.cursors import CursorClocks, Renewal
from .api.endpoints import endpoint_of
from .api.fetching import PageFetcher
from .api.sharing import with_any_page_size
from .books import reconcile
from .chain import Chain
from .copying import FETCHING_FACT, READING_FACT, Copier
from .errors import IngestError
from .history import History
from .key_clock import KEY_FACT, KeyClock
from .ledger import Ledger, RunEnding
from .log_lines import about
from .memory import keep_freed_memory
from .messages import FEED, WorkerOptions
from .meter import Meter
from .observing import Observer, Observers
from .plan import Rewalk
from .pools import Pool
from .postgres.database import Database, database
from .postgres.source import Holdings, SourceDatabase
from .postgres.writers import DEFAULT_WRITER
from .progress import Display
from .redaction import mask
from .settings import Settings
from .stopping import StopRequest, Wake, stop_on_signals
from .summary import Summary
from .units import show_seconds
from .walking import Walking

START_PATIENCE_S = 30.0  # for a database that is just being started; later DB_PATIENCE holds

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Intent:
    """What this one run is asked for, beyond the settings."""

    fresh: bool = False
    adopt: bool = False
    retry_poisoned: bool = False
    retry_rejected: bool = False
    renew_cursors: bool = True
    rewalk: Rewalk = Rewalk.IF_SHORT
    writer: str = DEFAULT_WRITER


def run(
    settings: Settings, intent: Intent, pool: Pool, display: Display, observers: Sequence[Observer] = ()
) -> Summary:
    """Copies every event that the API has and the database has not, walk after walk, until nothing is left to walk.

    `pool`: one that has not been started; it is started here, and stopped whatever comes.

    The summary's balance says whether the books are complete. Raises an IngestError for every other ending; what was
    committed by then stays, and is not fetched again.
    """
    keep_freed_memory()
    with ExitStack() as opened:
        opened.callback(pool.stop, 0)
        enter = opened.enter_context
        key = settings.required_api_key
        wake = enter(closing(Wake()))
        stop = enter(stop_on_signals(wake))
        ledger = enter(_ledger(settings, intent))
        ending = enter(ledger.run(settings.shown()))
        enter(about(run=ending.run))
        enter(_announced(ending, settings))
        history = enter(History(ledger, ending.run, hide=partial(mask, settings=settings)))
        served = enter(database(settings, say=_log.info, urgent=lambda: stop.urgent))
        source = enter(_source(served, settings, stop))
        holdings = _reconciled(settings, intent, ledger, source)
        observer = Observers([history, *observers])
        fetcher, *siblings = fetchers = enter(_fetchers(settings, observer))
        fetcher.restore(_fetching(ledger, intent))
        key_clock = KeyClock(ledger, key)
        cursors = CursorClocks(*(one.cursors for one in fetchers))
        activities = Activities(*(one.activity for one in fetchers))
        total = ledger.fact("total")
        meter = Meter(holdings, activities, fetcher.pacer, key_clock, cursors=cursors, total=total)
        copier = Copier(
            settings,
            fetcher=fetcher,
            renewal=Renewal(fetcher, fetcher.cursors) if intent.renew_cursors else None,
            chains=[Chain(one, wake) for one in fetchers],
            pool=pool,
            ledger=ledger,
            meter=meter,
            display=display,
            stop=stop,
            wake=wake,
            in_trouble=served.revive,
            after_trouble=source.check,
            observer=observer,
        )
        enter(closing(copier))
        conninfo, database_id = served.conninfo, ledger.fact("database_id")
        options = WorkerOptions(conninfo, intent.writer, settings.db_patience, settings.schema, database_id)
        pool.start(options)  # before the key's clock starts: there may be no cluster
        stop.defer()
        key_clock.first_call()
        if intent.retry_poisoned:
            _log.info("%d poisoned pages are tried once more", ledger.spool.retry_poisoned())
        if ledger.spool.waiting:
            _log.info("%d pages are in the spool: they are written first", ledger.spool.waiting)
        walking = Walking(
            *(ledger, source, copier, meter, intent.rewalk), endpoint=settings.endpoint, can_sweep=bool(siblings)
        )
        balance = walking.until_balanced()
        ending.exit_code, ending.sentence = balance.verdict()
        summary = meter.summary(balance, demo=settings.demo)
        ending.summary = summary.as_json()
        return summary


@contextmanager
def _announced(ending: RunEnding, settings: Settings) -> Iterator[None]:
    """The first line of a run, with what it was given, and the last one."""
    changed = {name: text for name, text in settings.changed().items() if name not in ("API_BASE_URL", "DATA_DIR")}
    own = ", ".join(f"{name}={text}" for name, text in changed.items()) or "every setting has its default"
    into = "the embedded PostgreSQL" if settings.database is None else "the PostgreSQL that you named"
    began_at = time.monotonic()
    _log.info(
        "run %d begins: %s into %s; data directory %s; %s",
        *(ending.run, settings.source, into, settings.data_dir, own),
        extra={"facts": {"source": settings.source, "data_dir": str(settings.data_dir), "settings": changed}},
    )
    code, sentence = ending.exit_code, ending.sentence
    try:
        yield
        code, sentence = ending.exit_code, ending.sentence
    except IngestError as error:
        code, sentence = error.exit_code, str(error)
        raise
    finally:
        _log.info(
            "run %d ends after %s with exit code %d",
            *(ending.run, show_seconds(time.monotonic() - began_at), code),
            extra={"facts": {"exit_code": code, "ending": sentence}},
        )


@contextmanager
def _fetchers(settings: Settings, observer: Observer) -> Iterator[list[PageFetcher]]:
    """One for each chain of pages. Only the feed has bounds in time, by which several can read it at once."""
    chains = settings.fetch_concurrency if settings.endpoint == FEED else 1
    first = PageFetcher(settings, observe=observer.requested, endpoint=endpoint_of(settings))
    with ExitStack() as opened:
        opened.enter_context(closing(first))
        yield [first, *(opened.enter_context(closing(first.sibling())) for _ in range(1, chains))]


def _fetching(ledger: Ledger, intent: Intent) -> Mapping[str, Any] | None:
    """What the last run knew of the API; the page size may be another at a new address, or by now."""
    found: dict[str, Any] | None = ledger.fact(FETCHING_FACT)
    return with_any_page_size(found) if found and (intent.fresh or intent.adopt) else found


def _source(served: Database, settings: Settings, stop: StopRequest) -> SourceDatabase:
    def waiting(cause: str) -> None:
        if stop:
            raise stop.error()
        _log.warning(cause)
        served.revive()

    patience_s = min(START_PATIENCE_S, settings.db_patience)
    return SourceDatabase(
        served.conninfo.reveal(), schema=settings.schema, patience_s=patience_s, waiting=waiting, waits=stop.wait_for
    )


def _ledger(settings: Settings, intent: Intent) -> Ledger:
    if not intent.fresh:
        return Ledger.open(settings.data_dir, purpose="bin/ingest")
    # The key's clock and the rate limit's window go on whatever becomes of the sidecar.
    facts = (KEY_FACT, FETCHING_FACT)
    return Ledger.open_anew(settings.data_dir, purpose="bin/ingest --fresh", facts=facts)


def _reconciled(settings: Settings, intent: Intent, ledger: Ledger, source: SourceDatabase) -> Holdings:
    source.lock()
    holdings = reconcile(ledger, source, settings.source, adopt=intent.adopt, fresh=intent.fresh)
    if intent.adopt:
        ledger.keep(**{READING_FACT: None})  # another server may take bounds in time for something else
    if intent.retry_rejected:
        again = source.reread()
        ledger.recount(source.pages())
        _log.info("%d rejected events have a row now, %d repaired ones are whole", again.accepted, again.mended)
        holdings = source.holdings()
    source.patience_s = settings.db_patience
    return holdings
