"""The main loop beside a database that comes and goes: it waits for no answer of the main process's own connection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from datasync_ingest.errors import AlreadyRunningError, StoppedError
from datasync_ingest.messages import Position, Waiting, WorkerMessage
from tests.harness import until
from tests.model.api import ModelApi, ModelClock
from tests.model.database import ModelDatabase
from tests.model.program import Program, sigterm

EVENTS = 12  # four pages


@contextmanager
def flapping(folder: Path, after_trouble: Callable[[], None]) -> Iterator[Program]:
    """A run one of whose workers could not reach the database for a moment, and has committed its page by now."""
    clock = ModelClock()
    api = ModelApi(clock, renews=False)
    api.add(Position(1000 + number, f"event-{number}") for number in range(EVENTS))
    program = Program(folder, api, ModelDatabase(), clock)
    program.after_trouble = after_trouble
    program.start()
    program.fetch()
    trouble(program)
    try:
        yield program
    finally:
        if program.is_running:
            program.crash()


def trouble(program: Program) -> None:
    """A worker waits for the database, and then commits the page."""
    (page,) = program.pool.held

    def committed() -> list[WorkerMessage]:
        program.pool.commit(0)
        return program.pool.answer(0)

    program.step(lambda: [Waiting(page.page, 1, "the database is away")])
    program.step(committed)


def turn(program: Program) -> bool:
    """One turn of the main loop; whether the run has ended."""
    if program.is_running:
        program.step(lambda: None)
    return not program.is_running


def test_pages_are_fetched_while_the_main_connection_waits_for_the_database(tmp_path: Path) -> None:
    asked, answered = threading.Event(), threading.Event()

    def after_trouble() -> None:
        asked.set()
        assert answered.wait(60)

    with flapping(tmp_path, after_trouble) as program:
        assert asked.wait(60)
        assert turn(program) is False
        while program.can_fetch:
            program.fetch()
            while program.pool.held:
                program.step(lambda: program.pool.commit(0))
                program.step(lambda: program.pool.answer(0))
        assert len(program.pool.held) == 0
        assert turn(program) is False, "the books are not balanced before the answer is there"
        answered.set()
        until(lambda: turn(program), what="the end of the run")
        assert program.error is None
        assert program.balance is not None
        assert program.balance.holdings.events == EVENTS


def test_another_run_that_took_the_lock_meanwhile_ends_this_one(tmp_path: Path) -> None:
    def after_trouble() -> None:
        raise AlreadyRunningError("another one")

    with flapping(tmp_path, after_trouble) as program:
        until(lambda: turn(program), what="the end of the run")
        assert isinstance(program.error, AlreadyRunningError)


def test_each_trouble_is_asked_about_once_it_has_passed(tmp_path: Path) -> None:
    asked: list[int] = []
    with flapping(tmp_path, lambda: asked.append(1)) as program:
        until(lambda: turn(program) or asked, what="the first question")
        program.fetch()
        trouble(program)
        until(lambda: turn(program) or len(asked) == 2, what="the second question")
        assert program.error is None


def test_a_stop_is_the_runs_own_also_when_the_question_sees_it_first(tmp_path: Path) -> None:
    stopped = threading.Event()

    def after_trouble() -> None:
        assert stopped.wait(60)
        raise StoppedError(15, "seen by the question")

    with flapping(tmp_path, after_trouble) as program:
        stopped.set()
        assert turn(program) is False
        assert turn(program) is False
        sigterm(program)
        assert isinstance(program.error, StoppedError)
        assert "seen by the question" not in str(program.error)
