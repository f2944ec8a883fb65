"""The simulator for tests that start one each: forked from a process that has it loaded, no interpreter to start."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from datasync_ingest.simulator import cli
from datasync_ingest.simulator.process import SimulatorError, SimulatorProcess

_STOP_S = 10.0
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([cli.__name__])


class ForkedSimulator(SimulatorProcess):
    """A process of its own in a session of its own, which ends with this one, as that of `SimulatorProcess`."""

    _child: ForkServerProcess | None = None

    def __enter__(self) -> ForkedSimulator:
        stdin, self._alive = _FORKS.Pipe(duplex=False)
        said, stdout = _FORKS.Pipe(duplex=False)
        words = [*self._flags(), "--until-stdin-ends"]
        with stdin, stdout, said:
            self._child = _FORKS.Process(target=_simulate, args=(words, stdin, stdout))
            self._child.start()
            stdout.close()
            try:
                self.url = self._read_url(said)
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        self._alive.close()
        child.join(_STOP_S)
        if child.is_alive():
            child.kill()
            child.join()
        child.close()

    @property
    def pid(self) -> int:
        if self._child is None or self._child.pid is None:
            raise SimulatorError("the simulator does not run")
        return self._child.pid

    def _read_url(self, said: Connection) -> str:
        line = b""
        while not line.endswith(b"\n"):
            if not (more := os.read(said.fileno(), 1000)):
                raise SimulatorError("the simulator ended before it answered")
            line += more
        return line.decode().strip().removeprefix(cli.READY)


def _simulate(words: Sequence[str], stdin: Connection, stdout: Connection) -> None:
    os.setsid()
    os.dup2(stdin.fileno(), 0)
    os.dup2(stdout.fileno(), 1)
    sys.stdin, sys.stdout = open(0), open(1, "w", buffering=1)  # noqa: SIM115
    sys.exit(cli.main(words))
