"""What befalls a cluster in mid-run, and what it must have recovered from before the run may end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psycopg2

from tests.harness import family, until
from tests.namespaces.network import Machine
from tests.namespaces.site import Trial
from tests.pools import waiting_backends

HICCUP_S = 10.0  # shorter than anybody's patience: Dask's and PostgreSQL's is 30 s
OUTAGE_S = 45.0  # longer
Seconds = dict[str, float]  # what took how long
Strike = Callable[[Trial], Seconds]


def nothing(trial: Trial) -> Seconds:
    return {}


def kill_half(trial: Trial) -> Seconds:
    """SIGKILL to half of the worker processes; their nannies start others."""
    for _, workers in trial.members[: len(trial.members) // 2]:
        os.kill(workers.pids[-1], signal.SIGKILL)
    return {}


def lose_half_of_the_machines(trial: Trial) -> Seconds:
    """SIGKILL to half of the bin/worker and all that is below them: nobody comes back."""
    for _, workers in trial.members[: len(trial.members) // 2]:
        for one in family(workers.process):
            one.kill()
    return {}


def cut_half_of_the_workers_off(trial: Trial) -> Seconds:
    """Until the scheduler has given them up; they must come back by themselves."""
    cut = _half(trial)
    for machine in cut:
        machine.cut()
    return _given_up_and_back(trial, cut)


def cut_half_of_the_workers_off_in_mid_page(trial: Trial) -> Seconds:
    """When PostgreSQL has begun with a page of each: their transactions are open and hold these pages.

    Until the run has ended, which must not wait for them; they must come back.
    """
    cut, took = _half(trial), Seconds()
    with closing(psycopg2.connect(trial.database.conninfo)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE ingested_pages IN EXCLUSIVE MODE")
        until(lambda: waiting_backends(trial.database, len(trial.members)), what="every worker in mid-page")
        for machine in cut:
            machine.cut()
    with _taking(took, "run's end"):
        trial.end_run()
    _back(trial, cut, took)
    return took


def cut_the_scheduler_off_for_a_moment(trial: Trial) -> Seconds:
    return _cut_off(trial.scheduler_machine, HICCUP_S)


def cut_the_scheduler_off(trial: Trial) -> Seconds:
    """Until the run has ended by itself; then it is started again."""
    took = Seconds()
    trial.scheduler_machine.cut()
    with _taking(took, "given up"):
        trial.end_run()
    trial.scheduler_machine.join()
    with _taking(took, "back"):
        trial.until_at_work(len(trial.members))
    trial.begin_run()
    return took


def cut_the_database_off(trial: Trial) -> Seconds:
    return _cut_off(trial.site.database_machine, OUTAGE_S)


def _cut_off(machine: Machine, seconds: float) -> Seconds:
    machine.cut()
    time.sleep(seconds)
    machine.join()
    return {"cut": seconds}


def _half(trial: Trial) -> list[Machine]:
    return [machine for machine, _ in trial.members[: len(trial.members) // 2]]


def _given_up_and_back(trial: Trial, cut: list[Machine]) -> Seconds:
    took = Seconds()
    with _taking(took, "given up"):
        trial.until_at_work(len(trial.members) - len(cut))
    _back(trial, cut, took)
    return took


def _back(trial: Trial, cut: list[Machine], took: Seconds) -> None:
    for machine in cut:
        machine.join()
    with _taking(took, "back"):
        trial.until_at_work(len(trial.members))


@contextmanager
def _taking(took: Seconds, what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    took[what] = time.monotonic() - began
