"""Walk after walk, as the plan says, until the books are balanced or nothing is left to walk."""

from __future__ import annotations

import logging
import uuid
from dataclasses import replace

from .api.time_bounds import NOT_HEEDED
from .books import Balance
from .copying import READING_FACT, Copier
from .errors import CursorExpiredError
from .ledger import Ledger, Walk
from .messages import EVENTS
from .meter import Meter
from .plan import (
    ACTIVE,
    FINISHED,
    SUPERSEDED,
    Plan,
    Rewalk,
    SoFar,
    branch,
    can_sweep,
    is_over,
    next_plan,
    onward,
    superseded,
)
from .postgres.source import Holdings, SourceDatabase
from .sweeping import UnsweepableError
from .walk import DivergedError

_MOST_TOP_UPS = 5  # each is shorter than the one before: as long as what came during that
_FUTILE_FACT = "missing after a walk that brought nothing"

_log = logging.getLogger(__name__)


class Walking:
    """The walks of one run, over one endpoint; as sweeps, where it can be read by many chains at once."""

    def __init__(
        self,
        ledger: Ledger,
        source: SourceDatabase,
        copier: Copier,
        meter: Meter,
        rewalk: Rewalk = Rewalk.IF_SHORT,
        *,
        endpoint: str = EVENTS,
        can_sweep: bool = False,
    ) -> None:
        self._ledger = ledger
        self._source = source
        self._copier = copier
        self._meter = meter
        self._rewalk = rewalk
        self._endpoint = endpoint
        self._can_sweep = can_sweep and ledger.fact(READING_FACT) != NOT_HEEDED.as_json()
        self._so_far = SoFar()
        self._top_ups = 0
        self._is_again = False  # the walk under way is over everything, though nothing new was left
        self._expiry = _Expiry()

    def until_balanced(self) -> Balance:
        """Returns how things stand when nothing is left to walk. Raises what ended a walk for good."""
        self._leave_other_endpoint()
        balance = Balance(Holdings(0, 0), None)
        while (plan := self._next()) is not None:
            missing_before = self._so_far.missing if plan.is_new else None
            if self._walked(plan):
                balance = self._balanced(plan)
                self._remember(balance, missing_before)
        return replace(balance, futile=self._is_futile(balance.unexplained))

    def _next(self) -> Plan | None:
        self._end_what_is_over()
        rewalk = self._rewalk
        if rewalk is Rewalk.IF_SHORT and self._is_futile(self._so_far.missing):
            rewalk = Rewalk.NEVER
        plan = next_plan(self._ledger.walks(), self._ledger.known, self._so_far, rewalk)
        if plan is None or not plan.is_new:
            return plan
        # What a sweep has not brought has no time to find it by: then one chain reads everything.
        again = plan.walk.until is None and self._has_finished()
        is_sweep = self._can_sweep and can_sweep(plan.walk) and not again
        return replace(plan, walk=replace(plan.walk, endpoint=self._endpoint, is_sweep=is_sweep))

    def _walked(self, plan: Plan) -> bool:
        """Whether the walk came to its end; if not, the ledger says what comes in its place."""
        behind = self._received(plan)
        try:
            self._walk(plan)
        except UnsweepableError as error:
            _log.warning("%s: one chain of pages reads all of them, from the newest event", error)
            self._can_sweep = False
            self._ledger.end(plan.walk.walk, "not bounded by times")
        except CursorExpiredError as error:
            if plan.walk.is_sweep:
                raise  # what is left of it is asked for by its time, and that has come no further
            self._expiry.judge(error, self._received(plan) - behind)
            self._ledger.end(plan.walk.walk, "expired")
            _log.warning(
                "%s What is there is kept: walking once more from the newest event. %d pages are fetched again.",
                error,
                len(self._ledger.known(plan.walk.walk)),
            )
        except DivergedError as diverged:
            _log.warning("%s: fetching from there", diverged)
            self._ledger.branch(plan.walk.walk, "diverged", branch(diverged.at).walk)
        else:
            self._expiry = _Expiry()
            return True
        return False

    def _walk(self, plan: Plan) -> None:
        self._is_again = plan.walk.until is None and (self._so_far.topped_up if plan.is_new else self._has_finished())
        if plan.is_new:
            self._ledger.begin(plan.walk)
        _log.info("walking: %s", plan.reason)
        if self._is_again and plan.is_new:
            _log.info("this costs %s; --no-rewalk leaves it out", self._meter.cost_of_a_walk())
        self._meter.walk_begins(self._received(plan), top_up=plan.walk.until is not None)
        if plan.walk.is_sweep:
            self._copier.sweep(plan.walk)
        else:
            self._copier.follow(plan)

    def _balanced(self, plan: Plan) -> Balance:
        """Counts, and notes what this run has done by now."""
        balance = Balance(self._source.holdings(), self._meter.total, tuple(self._ledger.spool.poisoned()))
        top_up = plan.walk.until is not None
        self._top_ups += top_up
        self._so_far = SoFar(
            # One that an earlier run began may have missed what is new since.
            walked=self._so_far.walked or (not top_up and (plan.is_new or self._meter.total_is_fresh)),
            topped_up=(self._so_far.topped_up or (top_up and plan.is_new)) and not self._must_top_up_again(),
            missing=balance.unexplained,
            walked_anew=self._so_far.walked_anew or (not top_up and plan.is_new),
        )
        if not balance.unexplained and self._ledger.fact(_FUTILE_FACT) is not None:
            self._ledger.keep(**{_FUTILE_FACT: None})
        return balance

    def _must_top_up_again(self) -> bool:
        """Whether events have come since the walk read the newest one; not for ever, where some always do."""
        return self._meter.grown > 0 and self._top_ups < _MOST_TOP_UPS

    def _remember(self, balance: Balance, missing_before: int | None) -> None:
        """A walk over everything that left the books as short as before need not be made again unasked.

        `missing_before` is None for one that an earlier run began: then how it was is not known.
        """
        if self._is_again and balance.unexplained and missing_before in (None, balance.unexplained):
            self._ledger.keep(**{_FUTILE_FACT: balance.unexplained})

    def _is_futile(self, missing: int) -> bool:
        return bool(missing) and self._ledger.fact(_FUTILE_FACT) == missing

    def _has_finished(self) -> bool:
        return any(walk.state == FINISHED for walk in self._ledger.walks())

    def _leave_other_endpoint(self) -> None:
        """Cursors of the one are none of the other. What a walk has read, a sweep need not read once more.

        One that is under way already reads everything: the sidecar was lost that knew on from where.
        """
        active = [walk for walk in self._ledger.walks() if walk.state == ACTIVE]
        is_swept = any(walk.is_sweep and walk.endpoint == self._endpoint for walk in active)
        for walk in active:
            if walk.endpoint == self._endpoint:
                continue
            place = onward(walk, self._ledger.known(walk.walk))
            below = place.after if not walk.is_sweep and walk.until is None else None
            if self._can_sweep and not is_swept and below is not None and below.timestamp_ms is not None:
                rest = Walk(str(uuid.uuid4()), None, None, below, walk.head, ACTIVE, self._endpoint, is_sweep=True)
                self._ledger.branch(walk.walk, f"goes on over the {self._endpoint}", rest)
                _log.info("the rest of walk %s is read over the %s, by its times", walk.walk[:8], self._endpoint)
            else:
                self._ledger.end(walk.walk, f"left for the {self._endpoint} endpoint")
                _log.warning(
                    "walk %s over the %s endpoint is not finished; over the %s it begins anew",
                    *(walk.walk[:8], walk.endpoint, self._endpoint),
                )

    def _end_what_is_over(self) -> None:
        """A walk whose last page was committed in the moment in which the last run died."""
        for walk in self._ledger.walks():
            if walk.state == ACTIVE and not walk.is_sweep and is_over(self._ledger.settled(walk.walk)):
                self._ledger.end(walk.walk, FINISHED)
        for walk in superseded(self._ledger.walks()):
            self._ledger.end(walk.walk, SUPERSEDED)

    def _received(self, plan: Plan) -> int:
        """Events of the walk's known pages."""
        known = self._ledger.swept if plan.walk.is_sweep else self._ledger.known
        return sum(page.received for page in known(plan.walk.walk))


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
