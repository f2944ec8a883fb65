"""CPU seconds and peak memory of a run's processes, and CPU seconds of PostgreSQL's, sampled while it lasts."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import suppress

import psutil

EVERY_S = 0.1
_SEARCH_AT = 5  # in so many samples: to search children is to read every process of the system


class Watch:
    """A context manager. `cpu` is seconds, `peak` resident bytes, by process: `main`, `worker 0`, ..., `server`.

    PostgreSQL's processes are the children of `postmaster`; what one used is counted up to its last sample (one that
    lives for less than 0.5 s may be missed), and of its memory what it does not share (Linux), all of them together. It
    runs beside what is measured, so it must cost little: 0.02 s of CPU a second.
    """

    def __init__(self, pid: int, postmaster: int) -> None:
        self._main = psutil.Process(pid)
        self._postmaster = psutil.Process(postmaster)
        self._family = {"main": self._main}
        self._backends = self._postmaster.children()
        self._before = dict(self._used())
        self._server: dict[psutil.Process, float] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.cpu: dict[str, float] = {}
        self.peak: dict[str, int] = {}

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self.cpu["server"] = sum(seconds - self._before.get(one, 0.0) for one, seconds in self._server.items())

    def _watch(self) -> None:
        samples = 0
        while not self._end.wait(EVERY_S):
            if samples % _SEARCH_AT == 0:
                self._search()
            samples += 1
            self._server.update(self._used())
            self._highest("server", sum(map(_own_memory, self._backends)))
            for name, process in self._family.items():
                with suppress(psutil.Error):
                    self.cpu[name] = cpu(process)
                    self._highest(name, process.memory_info().rss)

    def _search(self) -> None:
        with suppress(psutil.Error):
            self._backends = self._postmaster.children()
            workers = [one for one in self._main.children() if "spawn_main" in " ".join(one.cmdline())]
            workers.sort(key=lambda one: one.pid)
            self._family |= {f"worker {number}": worker for number, worker in enumerate(workers)}

    def _highest(self, name: str, size: int) -> None:
        self.peak[name] = max(self.peak.get(name, 0), size)

    def _used(self) -> Iterator[tuple[psutil.Process, float]]:
        for one in self._backends:
            with suppress(psutil.Error):
                yield one, cpu(one)


def ended_children() -> float:
    """CPU seconds of all processes that this one started and waited for, and of those that they waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _own_memory(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        memory = process.memory_info()
        return int(memory.rss - getattr(memory, "shared", 0))
    return 0
