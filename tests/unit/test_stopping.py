"""How a run is told to stop, and sees it while it waits."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from datasync_ingest.errors import StoppedError
from datasync_ingest.stopping import StopRequest, Wake


@pytest.fixture
def wake() -> Iterator[Wake]:
    with closing(Wake()) as opened:
        yield opened


@pytest.fixture
def stop(wake: Wake) -> StopRequest:
    request = StopRequest(wake)
    request.defer()
    return request


def test_a_ring_after_the_end_writes_into_nobodys_file(wake: Wake) -> None:
    wake.close()
    read, write = os.pipe()  # gets the numbers that the closed one had
    with os.fdopen(read, "rb"), os.fdopen(write, "wb"):
        wake.ring()
        assert select.select([read], [], [], 0)[0] == []


def test_a_signal_handler_may_ring_while_the_pipe_is_being_closed(wake: Wake) -> None:
    with wake._closing:
        wake.ring()
    assert select.select([wake], [], [], 0)[0] == [wake]


def test_what_was_waited_for_is_returned_or_raised(stop: StopRequest) -> None:
    assert stop.wait_for(lambda: 7) == 7
    with pytest.raises(TimeoutError, match="of its own"):
        stop.wait_for(lambda: _raise(TimeoutError("of its own")))


def test_a_stop_leaves_behind_what_blocks(stop: StopRequest) -> None:
    blocked, release = threading.Event(), threading.Event()

    def work() -> None:
        blocked.set()
        release.wait(60)

    def signal_comes() -> None:
        blocked.wait(60)
        stop.received(signal.SIGTERM, None)

    threading.Thread(target=signal_comes).start()
    began = time.monotonic()
    with pytest.raises(StoppedError, match="SIGTERM") as caught:
        stop.wait_for(work)
    release.set()
    assert caught.value.exit_code == 143
    assert time.monotonic() - began < 30


def test_after_a_stop_nothing_is_begun(stop: StopRequest) -> None:
    begun: list[int] = []
    stop.received(signal.SIGINT, None)
    with pytest.raises(StoppedError):
        stop.wait_for(lambda: begun.append(1))
    assert begun == []


def _raise(error: Exception) -> None:
    raise error
