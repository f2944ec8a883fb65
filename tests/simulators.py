"""The simulator for tests that start one each: the same process, without an interpreter of its own to start."""

from __future__ import annotations

import subprocess

from datasync_ingest.simulator.process import SimulatorProcess
from tests.harness import begun, clean_environment


class QuickSimulator(SimulatorProcess):
    """See `tests.forks`."""

    def _start(self, words: list[str]) -> subprocess.Popen[str]:
        return begun(words, clean_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
