"""One round: an ingest that is struck at random, started again until it is complete, and compared."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from psycopg2.extensions import cursor as Cursor

from datasync_ingest.messages import EVENTS, FEED
from datasync_ingest.postgres.writers import WRITERS
from tests.faults.site import Run, Site
from tests.faults.strikes import CRASH_OF_API, HEAVY, OF_PROXY, STRIKES

NOT_LISTENING = frozenset({-1, -2, -15})  # a signal that fell before the command had begun, or behind its last line
RESUMABLE = frozenset({3, 4, 5, 129, 130, 143, -9}) | NOT_LISTENING
NAMED_ERRORS = frozenset({3, 4, 5})
PEACE_STARTS = 6  # a run that nobody strikes must be complete after so many starts
PROGRESS_S = 90.0  # in peace, a run that marks no page for so long hangs
POLL_S = 0.02
PEACE_POLL_S = 0.2
AT_ONCE = 3  # strikes


UNLIMITED: dict[str, Any] = {"rate-limit": 1000, "rate-window": 1}  # a limit that nobody reaches: the headers are there
WITHOUT_HEADERS: dict[str, Any] = {"rate-limit": 0}  # one 429, and the learned rate is slow for the rest of the round


@dataclass
class Tally:
    """What was survived, over all rounds."""

    events: int = 0
    pages: int = 0
    starts: int = 0
    twice: int = 0
    rounds: int = 0
    strikes: Counter[str] = field(default_factory=Counter)
    endings: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)  # of ends with a named error


def server_options(chance: Random, events: int) -> dict[str, Any]:
    """What the API is like in a round."""
    limited: dict[str, Any] = {
        "rate-limit": chance.choice([10, 20]),
        "rate-window": 1,
        "window-style": chance.choice(["first-request", "aligned"]),
        "reset-style": chance.choice(["delta", "epoch-s", "epoch-ms", "none"]),
        "reset-rounding": chance.choice(["up", "down"]),
        "clock-skew": chance.choice([0, 20, -20]),
    }
    told = {
        "envelope": chance.choice(["nested", "nested", "flat"]),
        "cursor-style": chance.choice(["plain", "padded", "signed"]),
    }
    # Where nothing tells a cursor's life, faults of a young one are taken for the server's until 116 s are over, and a
    # rate that is learned after a 429 may be slower than such a short life.
    untold = told == {"envelope": "flat", "cursor-style": "signed"}
    return {
        **told,
        "events": events,
        "seed": chance.randrange(10**9),
        "latency-ms": chance.choice([20, 50, 100]),
        "cursor-life": chance.choice([3, 4, 6]),
        "cursor-expired-status": chance.choice([400, 410] if untold else [400, 410, 502, 200]),
        "id-style": chance.choice(["uuid", "uuid", "int"]),
        "slow-s": 1,
        "cache-life": chance.choice([0, 30]),
        "renewed-cursors": chance.choice(["accept", "accept", "accept", "refuse", "misplace"]),
        "grow-per-page": chance.choice([0, 0, 3]),
        **feed_options(chance),
        **(UNLIMITED if untold else chance.choices([limited, UNLIMITED, WITHOUT_HEADERS], [3, 6, 1])[0]),
    }


def feed_options(chance: Random) -> dict[str, Any]:
    """How the feed is, for the rounds that read it."""
    return {
        "dashboard-needs": "",  # a proxy has another origin
        "feed-rate": 0,
        "feed-latency-ms": chance.choice([20, 50, 100]),
        "feed-since": chance.choice(["inclusive", "exclusive", "ignored"]),
        "feed-until": chance.choice(["inclusive", "exclusive", "inclusive", "exclusive", "ignored"]),
        "out-of-range": chance.choice(["418", "empty"]),
        "token-life": chance.choice([2, 5, 300]),
    }


def run_flags(chance: Random) -> list[str]:
    flags = ["--batch-size", str(chance.choice([100, 250, 250, 500]))]
    flags += ["--worker-concurrency", str(chance.choice([1, 2, 3]))]
    flags += ["--writer", chance.choice(sorted(WRITERS))]
    flags += ["--fetch-concurrency", str(chance.choice([2, 4, 8]))]
    flags += ["--stop-grace", chance.choice(["0.3s", "2s", "8s"])]
    return flags + (["--no-renew-cursors"] if chance.random() < 0.2 else [])


class Round:
    """Strikes fall until `strike_s` are over; then the run is left in peace and must come to its end."""

    def __init__(self, site: Site, chance: Random, tally: Tally, *, strike_s: float) -> None:
        self._site = site
        self._chance = chance
        self._tally = tally
        self._strike_s = strike_s
        self._endpoints = chance.choice([[EVENTS], [FEED], [FEED, EVENTS]])  # one of them for each start
        self._under_way: dict[str, threading.Thread] = {}
        self._broken: list[str] = []  # strikes that raised: bugs of the strikes

    def first_difference(self) -> str | None:
        """Runs the round; None when the ingest came to its end and everything is as it was served."""
        wrong = self._run_to_the_end()
        self._join()
        if not wrong and self._site.api.grows:
            self._site.at_api(self._site.api.calm)
            self._strike_s = 0
            wrong = self._run_to_the_end()  # for what has come since
        if wrong or self._broken:
            return wrong or self._broken[0]
        self._site.at_api(self._site.api.calm)
        self._tally.rounds += 1
        self._tally.twice += self._site.api.fetched_twice()
        wrong = self._site.difference()
        with self._site.serving():
            self._site.at_database(self._count)
        return wrong

    def _count(self, cursor: Cursor) -> None:
        cursor.execute("SELECT count(*), coalesce(sum(received), 0)::bigint FROM ingested_pages")
        pages, events = cursor.fetchone() or (0, 0)
        self._tally.pages += pages
        self._tally.events += events

    def _run_to_the_end(self) -> str | None:
        """What is wrong with how a run ended, None when the last one was complete."""
        peace_at = time.monotonic() + self._strike_s
        words: Sequence[str] = ()
        in_peace = 0
        while in_peace < PEACE_STARTS:
            peaceful = time.monotonic() >= peace_at
            in_peace += peaceful
            run = self._site.start(*words, "--source", self._chance.choice(self._endpoints))
            self._tally.starts += 1
            if not self._strike_until_the_end(run, peace_at):
                return f"{run.output} does not end"
            code = run.process.wait()
            self._tally.endings[code] += 1
            if code in NAMED_ERRORS:
                self._tally.reasons[reason(run)] += 1
            self._site.require_gone(run)
            if code == 0:
                return None
            if code not in RESUMABLE:
                return f"{run.output} ended with exit code {code}"
            words = ("--retry-poisoned",) if "--retry-poisoned" in run.said() else ()
        return f"{self._site.run.output} is the last of {PEACE_STARTS} that did not end complete, though in peace"

    def _strike_until_the_end(self, run: Run, peace_at: float) -> bool:
        """False where the run hangs although nobody strikes."""
        next_at = time.monotonic() + self._chance.uniform(0.3, 2)
        while not run.ended and time.monotonic() < peace_at:
            if time.monotonic() >= next_at:
                self._strike()
                next_at = time.monotonic() + self._chance.uniform(0.3, 2)
            time.sleep(POLL_S)
        if time.monotonic() >= peace_at:
            self._join()
            self._site.at_api(self._site.api.calm)
        return self._ends_in_peace(run) if not run.ended else True

    def _ends_in_peace(self, run: Run) -> bool:
        pages, moved_at = 0, time.monotonic()
        while not run.ended:
            marked = self._site.workplace.completed_pages()
            if marked != pages:
                pages, moved_at = marked, time.monotonic()
            if time.monotonic() > moved_at + PROGRESS_S:
                return False
            time.sleep(PEACE_POLL_S)
        return True

    def _strike(self) -> None:
        """Begins a strike that is not under way yet."""
        self._under_way = {name: thread for name, thread in self._under_way.items() if thread.is_alive()}
        names = [name for name in STRIKES if name not in self._under_way and self._fits(name)]
        weights = [weight(name) for name in names]
        name = self._chance.choices(names, weights)[0]
        seed = self._chance.random()
        if len(self._under_way) < AT_ONCE:
            thread = threading.Thread(target=self._act, args=(name, Random(seed)), name=name)
            self._under_way[name] = thread
            thread.start()

    def _fits(self, name: str) -> bool:
        if name in OF_PROXY:
            return self._site.proxy is not None
        return name != CRASH_OF_API or self._site.api.can_crash

    def _act(self, name: str, chance: Random) -> None:
        try:
            STRIKES[name](self._site, chance)
            self._tally.strikes[name] += 1
        except Exception as error:  # told as the round's difference
            self._broken.append(f"the strike {name!r} failed: {type(error).__name__}: {error}")

    def _join(self) -> None:
        for thread in self._under_way.values():
            thread.join()


def weight(name: str) -> float:
    """Strikes at processes and at PostgreSQL as often as all of the API's faults together."""
    if not name.startswith("API: "):
        return 2.0
    return 0.1 if name.removeprefix("API: ") in HEAVY else 1.0


def reason(run: Run) -> str:
    """The sentence with which a run ended, without its numbers, so that alike ones are counted together."""
    lines = [line for line in run.said().splitlines() if line.startswith("error: ")]
    return re.sub(r"\b[0-9a-f]{8}/[0-9]+|\b[0-9][0-9,]*", "N", lines[-1]) if lines else "no reason was given"
