"""What answers at a scheduler's address, and what a worker makes of it; the servers are real ones of Dask's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from importlib import metadata
from typing import Any

import pytest
from distributed.core import Server

from datasync_ingest.cluster.scheduler import Scheduler
from datasync_ingest.errors import ConfigurationError, SchedulerAwayError

VERSION = metadata.version("distributed")


async def dask_server(kind: str, version: str, then: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    """Calls `then` with the address of a server that says this of itself."""
    handlers = {
        "identity": lambda: {"type": kind},
        "versions": lambda: {"packages": {"distributed": version, "python": "3.11.0.final.0"}},
    }
    async with Server(handlers) as server:
        await server.listen("tcp://127.0.0.1:0")
        await then(server.address)


async def wait(address: str) -> None:
    await Scheduler(address, patience_s=0).wait()


async def web_server(then: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        await then(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")


def test_a_scheduler_of_our_version_is_one() -> None:
    asyncio.run(dask_server("Scheduler", VERSION, wait))


def test_a_scheduler_of_another_version_is_refused_with_both() -> None:
    with pytest.raises(ConfigurationError, match=rf"runs Dask 2020\.1\.0, and this worker {VERSION}\."):
        asyncio.run(dask_server("Scheduler", "2020.1.0", wait))


def test_a_worker_is_no_scheduler() -> None:
    with pytest.raises(ConfigurationError, match="is a Dask worker, not the scheduler"):
        asyncio.run(dask_server("Worker", VERSION, wait))


def test_a_web_server_is_no_scheduler() -> None:
    with pytest.raises(ConfigurationError, match="No Dask scheduler can be reached"):
        asyncio.run(web_server(wait))


def test_an_address_without_a_certificate_for_it_says_where_one_is_named() -> None:
    with pytest.raises(ConfigurationError) as caught:
        asyncio.run(wait("tls://127.0.0.1:9"))
    assert "DASK_DISTRIBUTED__COMM__TLS__CA_FILE" in caught.value.hint


def test_nobody_there_is_waited_for_and_then_named() -> None:
    with pytest.raises(SchedulerAwayError, match=r"answered at tcp://127\.0\.0\.1:9 for "):
        asyncio.run(wait("tcp://127.0.0.1:9"))
