"""Python processes that are forked from one which has the program loaded already: they cost what they do.

A command as a test starts it takes 0.2 to 0.4 s of a core before its first line runs, and the suite starts a thousand.
What is forked is a process like any other: own session, own standard streams, own end. New interpreters are for the
tests of bin/, of the faults and of the image.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

LOADED = ("datasync_ingest.cli", "datasync_ingest.simulator.cli", "datasync_ingest.pools.processes")
COMMANDS = ("ingest", "export_ids", "quick_test", "explore_api", "status", "submit", "report", "psql")
# An interpreter reads these when it begins: where one differs, another has to be started.
OF_THE_INTERPRETER = ("PYTHON", "LD_", "MALLOC_", "LC_", "LANG")
_NUMBER = struct.Struct("!q")


class Forked(subprocess.Popen[str]):
    """`python -m MODULE WORDS`, as `subprocess.Popen` would start it in a session of its own; texts, no buffers."""

    def __init__(self, forks: Forks, words: Sequence[str], **how: Any) -> None:
        self._forks = forks
        super().__init__(words, text=True, start_new_session=True, **how)

    def _execute_child(self, words: Sequence[str], *how: Any) -> None:
        """See CPython's subprocess.py: the order of its arguments is the same in all of 3.10 to 3.14."""
        cwd, environment, streams = how[4], how[5], how[9:15]
        child = [own if own != -1 else number for number, own in enumerate((streams[0], streams[3], streams[5]))]
        try:
            self._ending, self.pid = self._forks.begin(words, cwd, environment, child)
            self._child_created = True
        finally:
            self._close_pipe_fds(*streams)  # type: ignore[attr-defined]

    def _try_wait(self, flags: int) -> tuple[int, int]:
        if flags & os.WNOHANG and not select.select([self._ending], [], [], 0)[0]:
            return 0, 0
        status = self._ending.recv(_NUMBER.size)
        self._ending.close()
        return self.pid, _NUMBER.unpack(status)[0] if status else signal.SIGKILL

    def _internal_poll(self, *_: object, **__: object) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):  # type: ignore[attr-defined]
            try:
                pid, status = (0, 0) if self.returncode is not None else self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode


class Forks:
    """The process that is forked; it ends with this one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._of_the_interpreter = _of_the_interpreter(environment)
        self._asking = threading.Lock()
        ours, theirs = socket.socketpair()
        with theirs:
            words = [sys.executable, "-m", __name__, str(theirs.fileno())]
            self._process = subprocess.Popen(
                words,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # no terminal: how what is written is buffered is settled here
                pass_fds=[theirs.fileno()],
            )
        self._door = ours
        atexit.register(self._close)

    def takes(self, environment: Mapping[str, str]) -> bool:
        """Whether a new interpreter would be one like this."""
        return _of_the_interpreter(environment) == self._of_the_interpreter

    def begin(
        self, words: Sequence[str], cwd: os.PathLike[str], environment: Mapping[str, str], streams: Sequence[int]
    ) -> tuple[socket.socket, int]:
        """Returns the socket that brings the exit status, and the pid."""
        job = json.dumps([list(words[2:]), os.fspath(cwd or "."), dict(environment)]).encode()
        ours, theirs = socket.socketpair()
        with theirs, self._asking:
            socket.send_fds(self._door, [_NUMBER.pack(len(job))], [*streams, theirs.fileno()])
            self._door.sendall(job)
        return ours, _NUMBER.unpack(ours.recv(_NUMBER.size))[0]

    def _close(self) -> None:
        self._door.close()
        self._process.wait()


def _of_the_interpreter(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in environment.items() if name.startswith(OF_THE_INTERPRETER)}


class _Server:
    """What the process that is forked does."""

    def __init__(self, door: socket.socket) -> None:
        self._door = door
        self._endings: dict[int, socket.socket] = {}
        self._woken, wake = socket.socketpair()
        for one in (self._woken, wake):
            one.setblocking(False)
        self._wake = wake
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)

    def next_child(self) -> list[str]:
        """Returns in each child, with its words; in this process only by SystemExit, when nobody can ask any more."""
        while True:
            ready, _, _ = select.select([self._door, self._woken], [], [])
            if self._woken in ready:
                self._woken.recv(4096)
                self._tell_endings()
            if self._door in ready:
                head, received, _, _ = socket.recv_fds(self._door, _NUMBER.size, 4)
                if not head:
                    self._close()
                    raise SystemExit
                words, cwd, environment = json.loads(self._received(_NUMBER.unpack(head)[0]))
                if self._forks(received):
                    os.chdir(cwd)
                    os.environ.clear()
                    os.environ.update(environment)
                    time.tzset()
                    return list(words)

    def _received(self, length: int) -> bytes:
        text = b""
        while len(text) < length:
            text += self._door.recv(length - len(text))
        return text

    def _forks(self, received: Sequence[int]) -> bool:
        """Whether this is the child: in a session of its own, with the three streams, and nothing of the parent's."""
        ending = socket.socket(fileno=received[3])
        pid = os.fork()
        if pid:
            for one in received[:3]:
                os.close(one)
            self._endings[pid] = ending
            ending.sendall(_NUMBER.pack(pid))
            return False
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        for number, one in enumerate(received[:3]):
            os.dup2(one, number)
            os.close(one)
        ending.close()
        self._close()
        return True

    def _close(self) -> None:
        signal.set_wakeup_fd(-1)
        for one in (self._door, self._woken, self._wake, *self._endings.values()):
            one.close()

    def _tell_endings(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                with self._endings.pop(ended[0]) as ending, suppress(OSError):
                    ending.sendall(_NUMBER.pack(ended[1]))


def _main() -> NoReturn:
    for name in (*LOADED, *(f"datasync_ingest.commands.{command}" for command in COMMANDS)):
        import_module(name)
    gc.freeze()  # so that no collection writes to memory that parent and child share
    module, *words = _Server(socket.socket(fileno=int(sys.argv[1]))).next_child()
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    raise SystemExit


if __name__ == "__main__":
    _main()
