"""The run: a walk fetches pages, a pool of workers commits them, receipts go into the ledger and onto the screen."""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from .api.cursors import Renewal
from .api.fetching import PageFetcher
from .books import Balance, reconcile
from .copying import FETCHING_FACT, Copier
from .errors import CursorExpiredError, LedgerDamagedError
from .key_clock import KEY_FACT, KeyClock
from .ledger import Ledger, set_aside
from .meter import Meter
from .plan import ACTIVE, FINISHED, Plan, branch, is_over, next_plan
from .pools import DEFAULT_POOL, POOLS
from .postgres.database import Database, database
from .postgres.source import Holdings, SourceDatabase
from .postgres.writers import DEFAULT_WRITER
from .progress import Display
from .settings import Settings
from .stopping import Wake, stop_on_signals
from .summary import Summary
from .walk import DivergedError
from .worker import WorkerOptions

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
    pool: str = DEFAULT_POOL
    writer: str = DEFAULT_WRITER


def run(settings: Settings, intent: Intent, display: Display) -> Summary:
    """Copies every event that the API has and the database has not, walk after walk, until nothing is left to walk.

    The summary's balance says whether the books are complete. Raises an IngestError for every other ending; what was
    committed by then stays, and is not fetched again.
    """
    key = settings.required_api_key
    with ExitStack() as opened:
        enter = opened.enter_context
        wake = enter(closing(Wake()))
        stop = enter(stop_on_signals(wake))
        ledger = enter(_ledger(settings, intent))
        ending = enter(ledger.run())
        served = enter(database(settings, say=_log.info))
        source = enter(_source(served))
        holdings = _reconciled(settings, intent, ledger, source)
        fetcher = enter(closing(PageFetcher(settings)))
        fetcher.restore(ledger.fact(FETCHING_FACT))
        key_clock = KeyClock(ledger, key)
        meter = Meter(holdings, fetcher.activity, fetcher.pacer, key_clock, total=ledger.fact("total"))
        options = WorkerOptions(served.conninfo, intent.writer, settings.db_patience)
        pool = POOLS[intent.pool](options, settings.worker_concurrency)
        copier = Copier(
            settings,
            fetcher=fetcher,
            renewal=Renewal(fetcher, fetcher.cursors) if intent.renew_cursors else None,
            pool=pool,
            ledger=ledger,
            meter=meter,
            display=display,
            stop=stop,
            wake=wake,
            in_trouble=served.revive,
            after_trouble=source.check,
        )
        enter(closing(copier))
        stop.defer()
        key_clock.first_call()
        pool.start()
        if intent.retry_poisoned:
            _log.info("%d poisoned pages are tried once more", ledger.spool.retry_poisoned())
        if ledger.spool.waiting:
            _log.info("%d pages are in the spool: they are written first", ledger.spool.waiting)
        balance = _walk_until_balanced(ledger, source, copier, meter)
        ending.exit_code, ending.sentence = balance.verdict()
        return meter.summary(balance, demo=settings.demo)


def _source(served: Database) -> SourceDatabase:
    def waiting(cause: str) -> None:
        _log.warning(cause)
        served.revive()

    return SourceDatabase(served.conninfo.reveal(), patience_s=START_PATIENCE_S, waiting=waiting)


def _ledger(settings: Settings, intent: Intent) -> Ledger:
    if not intent.fresh:
        return Ledger.open(settings.data_dir, purpose="bin/ingest")
    kept = _facts_that_outlive_the_sidecar(settings)
    if aside := set_aside(settings.data_dir, purpose="bin/ingest --fresh"):
        _log.info("the sidecar was set aside as %s", aside)
    ledger = Ledger.open(settings.data_dir, purpose="bin/ingest --fresh")
    ledger.keep(**kept)
    return ledger


def _facts_that_outlive_the_sidecar(settings: Settings) -> dict[str, Any]:
    """The key's clock and the rate limit's window go on whatever becomes of the sidecar; a garbage one has none."""
    try:
        with Ledger.open(settings.data_dir, purpose="bin/ingest --fresh") as old:
            found = {name: old.fact(name) for name in (KEY_FACT, FETCHING_FACT)}
            return {name: value for name, value in found.items() if value is not None}
    except LedgerDamagedError:
        return {}


def _reconciled(settings: Settings, intent: Intent, ledger: Ledger, source: SourceDatabase) -> Holdings:
    source.lock()
    if intent.fresh:
        source.forget_pages()
    holdings = reconcile(ledger, source, settings.source, adopt=intent.adopt)
    if intent.retry_rejected:
        again = source.reread()
        _log.info("%d rejected events have a row now, %d repaired ones are whole", again.accepted, again.mended)
        holdings = source.holdings()
    source.patience_s = settings.db_patience
    return holdings


def _walk_until_balanced(ledger: Ledger, source: SourceDatabase, copier: Copier, meter: Meter) -> Balance:
    """Walk after walk, as the plan says, until there is none left. Raises what ended a walk for good."""
    balance = Balance(Holdings(0, 0), None)
    walked = topped_up = False
    missing = ledger.fact("missing") or 0
    expiry = _Expiry()
    while True:
        _end_what_is_over(ledger)
        plan = next_plan(ledger.walks(), ledger.known, walked=walked, topped_up=topped_up, missing=missing)
        if plan is None:
            return balance
        behind = _received(ledger, plan)
        try:
            _walk(plan, ledger, copier, meter)
        except CursorExpiredError as error:
            expiry.judge(error, _received(ledger, plan) - behind)
            ledger.end(plan.walk.walk, "expired")
            _log.warning(
                "%s What is there is kept: walking once more from the newest event. %d pages are fetched again.",
                error,
                len(ledger.known(plan.walk.walk)),
            )
            continue
        except DivergedError as diverged:
            _log.warning("%s: fetching from there", diverged)
            ledger.end(plan.walk.walk, "diverged")
            ledger.begin(branch(diverged.at).walk)
            continue
        expiry = _Expiry()
        walked, topped_up = True, topped_up or plan.walk.until is not None
        balance = Balance(source.holdings(), meter.total, tuple(ledger.spool.poisoned()))
        missing = balance.unexplained
        ledger.keep(missing=missing)


def _end_what_is_over(ledger: Ledger) -> None:
    """A walk whose last page was committed in the moment in which the last run died."""
    for walk in ledger.walks():
        if walk.state == ACTIVE and is_over(ledger.settled(walk.walk)):
            ledger.end(walk.walk, FINISHED)


def _walk(plan: Plan, ledger: Ledger, copier: Copier, meter: Meter) -> None:
    if plan.is_new:
        ledger.begin(plan.walk)
    _log.info("walking: %s", plan.reason)
    meter.walk_begins(_received(ledger, plan), top_up=plan.walk.until is not None)
    copier.follow(plan)


def _received(ledger: Ledger, plan: Plan) -> int:
    """Events of the walk's known pages."""
    return sum(page.received for page in ledger.known(plan.walk.walk))


class _Expiry:
    """Refuses to walk from the start for ever: after an expiry the next walk must get further, until one finishes."""

    def __init__(self) -> None:
        self._furthest: int | None = None

    def judge(self, error: CursorExpiredError, events: int) -> None:
        """A walk has expired after so many events in this run. Raises CursorExpiredError."""
        if self._furthest is not None and events <= self._furthest:
            raise CursorExpiredError(
                f"{error} It did so before, and this time the walk came no further.",
                hint="The API's cursors die faster than pages can be fetched: set a smaller BATCH_SIZE.",
            )
        self._furthest = events
