"""What a worker holds of pages whose tasks it has not begun: their bodies, which came from the run itself.

A body that is not there costs a second way, through the scheduler, and nothing else: so nothing here is for sure.
"""

from __future__ import annotations

from time import monotonic

from distributed import Worker, WorkerPlugin

DELIVER = "datasync_ingest-deliver"  # the handler that a worker has for it
KEPT_S = 600.0  # then the run that brought it was killed, or is in no hurry


class BodyElsewhereError(Exception):
    """Raised when a task comes to a worker that does not hold its page's body."""


class Bodies(WorkerPlugin):  # type: ignore[misc]  # which mypy does not read
    """Goes to a worker process as `Member` does. The handler runs in the loop's thread, `take` in the task's."""

    name = "datasync_ingest-bodies"

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, bytes]] = {}

    def setup(self, worker: Worker) -> None:
        worker.handlers[DELIVER] = self._keep

    async def _keep(self, page: str, body: bytes) -> None:
        now = monotonic()
        for old in [kept for kept, (since, _) in list(self._kept.items()) if now - since > KEPT_S]:
            self._kept.pop(old, None)
        self._kept[page] = now, bytes(body)

    def drop(self, run: str) -> None:
        """All of a run that has ended."""
        for page in [page for page in list(self._kept) if page.startswith(run)]:
            self._kept.pop(page, None)


def take(worker: Worker, page: str) -> bytes:
    """Raises BodyElsewhereError."""
    bodies = worker.plugins.get(Bodies.name)
    _, body = (None, None) if bodies is None else bodies._kept.pop(page, (None, None))
    if body is None:
        raise BodyElsewhereError(page)
    assert isinstance(body, bytes), "as it was kept"
    return body


def drop(worker: Worker, run: str) -> None:
    bodies = worker.plugins.get(Bodies.name)
    if bodies is not None:
        bodies.drop(run)
