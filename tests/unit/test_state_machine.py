"""Runs that are led step by step, crash between any two of them, and are started again: the model must come out whole.

The ledger, the plan, the walks, the main loop, the feeder and the spool are the real ones (tests/model).
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from datasync_ingest.errors import CursorExpiredError, StoppedError
from datasync_ingest.ledger import Ledger
from datasync_ingest.messages import PageId, Position, RawPage
from datasync_ingest.plan import ACTIVE
from tests.model.api import CURSOR_LIFE_S, ModelApi, ModelClock
from tests.model.database import ModelDatabase
from tests.model.program import Crashed, Program, sigterm

SURVIVED = (Crashed, StoppedError, CursorExpiredError)
STARTS = 8  # a run that is left in peace must be complete after so many
TURNS = 2000  # of its main loop; a few a page are enough
LIMITS = st.integers(1, 6)
PICK = st.integers(0, 10)
running = precondition(lambda machine: machine.is_running)
resting = precondition(lambda machine: not machine.is_running)
holding = precondition(lambda machine: machine.is_running and machine.program.pool.held)


class Ingest(RuleBasedStateMachine):
    """Rules are what may happen to a run; the end leaves it in peace and looks at everything."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="datasync-model-"))
        self.clock = ModelClock()
        self.database = ModelDatabase()
        self.programs: list[Program] = []
        self.spooled: set[PageId] = set()
        # Pages of killed runs that the database has and has not committed, each with the number of runs by then.
        self.on_their_way: list[tuple[RawPage, int]] = []
        self.late: set[PageId] = set()  # those that it has committed since
        self.broken = False
        self.born = 0

    @initialize(events=st.integers(0, 25), renews=st.booleans(), totals=st.sampled_from([True, True, False]))
    def api_is_there(self, events: int, renews: bool, totals: bool) -> None:
        self.api = ModelApi(self.clock, renews=renews, totals=totals)
        self.api.may_fetch = self._may_fetch
        self.api.add(Position(1000 + number // 2, f"old-{number:02}") for number in range(events))

    @property
    def program(self) -> Program:
        """The run that was started last."""
        return self.programs[-1]

    @property
    def is_running(self) -> bool:
        return bool(self.programs) and self.program.is_running

    # --- what happens to a run ---

    @resting
    @rule(limit=LIMITS)
    def start(self, limit: int) -> None:
        self.api.limit = limit
        self.programs.append(Program(self.folder, self.api, self.database, self.clock))
        self.program.spooled = self._spooled
        self.program.start()
        self._look()

    @precondition(lambda machine: machine.is_running and machine.program.can_fetch)
    @rule()
    def fetch(self) -> None:
        self.program.fetch()
        self._look()

    @holding
    @rule(pick=PICK)
    def commit(self, pick: int) -> None:
        pool = self.program.pool
        self._step(lambda: pool.commit(pick % len(pool.held)))

    @holding
    @rule(pick=PICK)
    def commit_and_die(self, pick: int) -> None:
        pool = self.program.pool
        self._step(lambda: pool.commit_and_die(pick % len(pool.held)))

    @precondition(lambda machine: machine.is_running and machine.program.pool.answers)
    @rule(pick=PICK)
    def receipt(self, pick: int) -> None:
        pool = self.program.pool
        self._step(lambda: pool.answer(pick % len(pool.answers)))

    @holding
    @rule(pick=PICK)
    def poison(self, pick: int) -> None:
        pool = self.program.pool
        self._step(lambda: pool.poison(pick % len(pool.held)))

    @running
    @rule()
    def stall(self) -> None:
        """No receipt for so long that fetched pages go into the spool."""
        self.clock.now += 6
        self._step(lambda: None)

    @running
    @rule()
    def sigterm(self) -> None:
        sigterm(self.program)
        self._look()

    @running
    @rule()
    def crash(self) -> None:
        self.on_their_way += [(page, len(self.programs)) for page in self.program.pool.held]
        self.program.crash()
        self._look()

    @running
    @rule(moments=st.integers(0, 6))
    def crash_beside_a_transaction(self, moments: int) -> None:
        self.program.crash_in = moments

    # --- what happens around it ---

    @precondition(lambda machine: machine.on_their_way)
    @rule(pick=PICK)
    def a_commit_of_a_killed_run_arrives_late(self, pick: int) -> None:
        """Even when the next run has begun, which the database's locks do not let happen."""
        page, runs = self.on_their_way.pop(pick % len(self.on_their_way))
        if page.page not in self.database.committed:  # else its transaction met the other one's row, and is no more
            self.database.commit(page)
            if len(self.programs) > runs:
                self.late.add(page.page)

    @rule()
    def cursors_expire(self) -> None:
        self.clock.now += CURSOR_LIFE_S + 1

    @rule(seconds=st.sampled_from([-86_400.0, -60.0, 60.0, 86_400.0]))
    def the_wall_clock_steps(self, seconds: float) -> None:
        self.clock.skew += seconds

    @rule(count=st.integers(1, 4))
    def events_at_the_head(self, count: int) -> None:
        self.api.add(Position(2000 + self.born + number // 2, f"new-{self.born + number}") for number in range(count))
        self.born += count

    @precondition(lambda machine: machine.api.totals)  # without them nothing tells that there was one
    @rule(timestamp_ms=st.integers(1000, 1020))
    def a_late_event(self, timestamp_ms: int) -> None:
        self.api.add([Position(timestamp_ms, f"late-{self.born}")])
        self.born += 1

    @resting
    @rule()
    def the_sidecar_is_lost(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.spooled.clear()

    # --- what must hold ---

    @invariant()
    def books_balance(self) -> None:
        counts = [page.counts for page in self.database.committed.values()]
        assert all(page.balanced for page in counts)
        if not self.late:  # those that take the place of others take their books, too
            assert sum(page.inserted for page in counts) == len(self.database.events)

    def teardown(self) -> None:
        try:
            if self.is_running:
                self.program.crash()
            if not self.broken and hasattr(self, "api"):
                self._ends_complete()
                self._knows_that_nothing_is_new()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _ends_complete(self) -> None:
        for _ in range(STARTS):
            self.start(5)
            self._leave_in_peace()
            if self.program.balance is not None and self.program.balance.complete:
                break
        else:
            raise AssertionError(f"not complete after {STARTS} starts: {self.program.balance} {self.program.error!r}")
        self.books_balance()
        assert self.database.events == {position.event_id for position in self.api.events}
        with Ledger.open(self.folder, purpose="the test") as ledger:
            assert {page.page for page in ledger.pages()} == set(self.database.committed)
            assert ledger.spool.size == 0

    def _knows_that_nothing_is_new(self) -> None:
        before = len(self.api.fetched)
        self.start(5)
        self._leave_in_peace()
        assert self.program.balance is not None
        assert self.program.balance.complete
        assert len(self.api.fetched) - before == 1, "what is complete costs one request"

    def _leave_in_peace(self) -> None:
        for _ in range(TURNS):
            if not self.is_running:
                return
            pool = self.program.pool
            if pool.answers:
                self.receipt(0)
            elif pool.held:
                self.commit(0)
            elif self.program.can_fetch:
                self.fetch()
            else:
                self.stall()
        raise AssertionError("a run that was left in peace does not end")

    def _step(self, step) -> None:
        self.program.step(step)
        self._look()

    def _look(self) -> None:
        """Lets an error that no run may end with end the test."""
        error = self.program.error
        if error is not None and not isinstance(error, SURVIVED):
            self.broken = True
            raise error
        if self.program.balance is not None:
            self._nothing_waits()

    def _nothing_waits(self) -> None:
        """A run that says how things stand has left nothing undone but poisoned pages."""
        with Ledger.open(self.folder, purpose="the test") as ledger:
            assert ledger.spool.waiting == 0
            assert not [walk for walk in ledger.walks() if walk.state == ACTIVE]

    def _spooled(self, page: RawPage) -> None:
        self.spooled.add(page.page)

    def _may_fetch(self, page: PageId) -> None:
        assert page not in self.database.committed.keys() - self.late, f"page {page} is committed, and fetched again"
        assert page not in self.spooled, f"page {page} is in the spool, and fetched again"


def test_a_walk_whose_first_page_was_marked_by_the_next_run_is_topped_up_by_one_request() -> None:
    ingest = Ingest()
    ingest.api_is_there(events=20, renews=True, totals=True)
    ingest.start(limit=3)
    ingest.fetch()
    ingest.commit(0)
    ingest.crash()
    ingest.teardown()


def test_a_walk_that_branches_after_its_first_page_was_fetched_again_is_topped_up_by_one_request() -> None:
    ingest = Ingest()
    ingest.api_is_there(events=25, renews=True, totals=True)
    ingest.start(limit=1)
    for _ in range(6):  # four pages go to the pool, from where the crash takes them; one is spooled
        ingest.fetch()
        ingest.stall()
    ingest.crash()
    ingest.teardown()


def test_the_late_commit_of_another_page_does_not_take_a_page_of_the_same_identity_from_the_spool() -> None:
    ingest = Ingest()
    ingest.api_is_there(events=4, renews=False, totals=False)
    ingest.start(limit=1)
    ingest.fetch()
    ingest.crash()
    ingest.start(limit=4)
    ingest.a_commit_of_a_killed_run_arrives_late(0)
    ingest.fetch()
    ingest.fetch()
    ingest.poison(0)  # the walk is at its end: only the spool has these events
    ingest.crash()
    ingest.events_at_the_head(1)
    ingest.start(limit=1)
    ingest.stall()
    ingest.fetch()
    ingest.sigterm()
    ingest.events_at_the_head(1)
    ingest.cursors_expire()
    ingest.teardown()


@pytest.mark.parametrize("totals", [True, False])
@pytest.mark.parametrize("events", [0, 3])
def test_a_run_that_has_only_the_spool_to_write_asks_for_what_is_new_as_well(events: int, totals: bool) -> None:
    ingest = Ingest()
    ingest.api_is_there(events, renews=True, totals=totals)
    ingest.start(limit=3)
    ingest.fetch()
    ingest.sigterm()
    ingest.events_at_the_head(4)
    ingest.teardown()


TestIngest = pytest.mark.long(Ingest.TestCase)
TestIngest.settings = settings(max_examples=60, stateful_step_count=40)
