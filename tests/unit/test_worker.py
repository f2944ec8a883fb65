"""What a worker says: small enough for a pipe, and often enough to be known to live."""

from __future__ import annotations

import pickle
import select
import threading
import time
from dataclasses import replace

from datasync_ingest.errors import DatabaseUnreachableError
from datasync_ingest.messages import PageId
from datasync_ingest.patience import signs_of_life
from datasync_ingest.worker import failure
from tests.harness import until


def deep(depth: int) -> None:
    if depth == 0:
        raise ValueError("\N{SNOWMAN}" * 10_000)
    deep(depth - 1)


def test_a_failure_goes_through_a_pipe_in_one_piece_however_long_its_cause() -> None:
    try:
        deep(500)
    except ValueError as error:
        made = replace(failure(error, None, 7), page=PageId("0" * 36, 10**9))
    assert len(pickle.dumps(made)) + 4 <= select.PIPE_BUF  # with the four bytes of its length
    assert made.error == "ValueError"
    assert made.message.startswith("\N{SNOWMAN}" * 300)


def test_a_failure_whose_text_has_no_utf_8_form_is_told_all_the_same() -> None:
    assert failure(ValueError("lone \ud800"), None, 0).message == "lone ?"


def test_a_wait_is_told_of_until_it_ends_and_not_after() -> None:
    told: list[str] = []
    with signs_of_life(0.01, 60, still=told.append, over=lambda _: None) as waiting:
        waiting("a cause of its own")
        until(lambda: len(told) >= 3, what="signs of life")
    count = len(told)
    assert told[0] == "a cause of its own"
    assert not [thread for thread in threading.enumerate() if thread.name == "signs of life"]
    assert len(told) == count


def test_a_wait_without_a_cause_of_its_own_is_over_once_after_the_patience() -> None:
    over: list[Exception] = []
    with signs_of_life(0.01, 0.05, still=lambda _: None, over=over.append):
        until(lambda: over, what="the end of the patience")
        until(lambda: not [t for t in threading.enumerate() if t.name == "signs of life"], what="the thread's end")
    (error,) = over
    assert isinstance(error, DatabaseUnreachableError)


def test_a_cause_of_its_own_begins_the_patience_anew() -> None:
    over: list[Exception] = []
    with signs_of_life(0.01, 1.0, still=lambda _: None, over=over.append) as waiting:
        began = time.monotonic()
        while time.monotonic() - began < 1.5:
            waiting("database away")
    assert over == []
