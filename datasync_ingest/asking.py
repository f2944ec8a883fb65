"""A question that may block for long, asked beside the main loop, which looks at each turn whether it was answered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context


class Question:
    """Calls `ask` in a thread of its own, one call at a time. Its methods are for one thread and never block."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._answer: Future[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether a call is under way, or has ended in a way that nobody has looked at."""
        return self._answer is not None

    def put(self) -> None:
        """Begins a call, unless one is under way. Raises what ended the one before."""
        self.look()
        if self._answer is None:
            self._answer = Future()
            run = copy_context().run  # what is logged there is about the same
            threading.Thread(target=run, args=(self._run, self._answer), name="question", daemon=True).start()

    def look(self) -> None:
        """Raises what ended the call, once."""
        if self._answer is not None and self._answer.done():
            answer, self._answer = self._answer, None
            answer.result()

    def _run(self, answer: Future[None]) -> None:
        try:
            answer.set_result(self._ask())
        except BaseException as error:
            answer.set_exception(error)
