"""Strikes whole ingests at random, starts them again until they are complete, and compares all with what was served.

Everything happens in a new folder under /tmp with a simulated API and an embedded PostgreSQL: no setting of yours is
read, nothing of yours is touched.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from tests.faults.sites import SharedServer, embedded_site, shared_server, shared_site
from tests.isolation import without_user_settings
from tests.torture.rounds import Round, Tally, run_flags, server_options

INTERRUPTED = 130
ROUND_S = 25.0  # of strikes; then a run is left in peace
EMBEDDED = 0.25  # of the rounds
Say = Callable[[str], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 when every round came out exact, 1 at the first that did not."""
    parser = argparse.ArgumentParser(prog="bin/torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="begin no round after so many (default: 5)")
    parser.add_argument("--seed", type=int, default=None, help="of options and strikes (default: a new one)")
    parser.add_argument("--events", type=int, default=20_000, help="events a round (default: 20000)")
    options = parser.parse_args(argv)
    _forget_user_settings()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what was started
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    _say(f"seed {seed}")
    folder = Path(tempfile.mkdtemp(prefix="datasync-torture-", dir="/tmp"))
    folder.chmod(0o711)  # the account of root's PostgreSQL must pass
    tally = Tally()
    try:
        wrong = torture(folder, seed, options.minutes * 60, options.events, tally, _say)
    except KeyboardInterrupt:
        _say(text(seed, tally))
        shutil.rmtree(folder)
        return INTERRUPTED
    _say(text(seed, tally))
    if wrong is not None:
        _say(f"FIRST DIFFERENCE: {wrong}\nEverything is kept in {folder}; again with --seed {seed}")
        return 1
    shutil.rmtree(folder)
    return 0


def torture(
    folder: Path, seed: int, seconds: float, events: int, tally: Tally, say: Say, *, round_s: float = ROUND_S
) -> str | None:
    """Rounds until the time is up or something is wrong, which is returned. `folder`: one that others can reach."""
    chance = Random(seed)
    end = time.monotonic() + seconds
    with shared_server(folder / "postgres") as server:
        number = 0
        while number == 0 or time.monotonic() < end:
            number += 1
            directory = folder / f"round-{number}"
            directory.mkdir()
            strike_s = min(round_s, max(5.0, end - time.monotonic()))
            wrong = _round(server, directory, Random(chance.random()), events, tally, strike_s)
            if wrong is not None:
                return f"round {number}: {wrong}"
            shutil.rmtree(directory)
            say(
                f"round {number}: exact; {tally.events:,} events, {sum(tally.strikes.values())} strikes survived so far"
            )
    return None


def _round(
    server: SharedServer, directory: Path, chance: Random, events: int, tally: Tally, strike_s: float
) -> str | None:
    options, flags = server_options(chance, events), run_flags(chance)
    embedded = chance.random() < EMBEDDED
    made = embedded_site(directory, options, flags) if embedded else shared_site(server, directory, options, flags)
    (directory / "round.txt").write_text(f"{options}\n{flags}\nembedded: {embedded}\n")
    try:
        with made as site:
            return Round(site, chance, tally, strike_s=strike_s).first_difference()
    except AssertionError as error:
        return str(error)


def text(seed: int, tally: Tally) -> str:
    """All that was done and survived."""
    endings = ", ".join(f"{code}: {count}" for code, count in sorted(tally.endings.items()))
    lines = [
        f"seed {seed}: {tally.rounds} rounds, {tally.events:,} events in {tally.pages:,} pages,"
        f" {tally.twice:,} pages fetched twice",
        f"{tally.starts} runs, by exit code: {endings}",
        *(f"  {count:5} {reason}" for reason, count in sorted(tally.reasons.items())),
        f"{tally.strikes.total()} strikes survived:",
        *(f"  {count:5} {name}" for name, count in sorted(tally.strikes.items())),
    ]
    return "\n".join(lines)


def _forget_user_settings() -> None:
    kept = without_user_settings(os.environ)
    for name in set(os.environ) - set(kept):
        del os.environ[name]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
