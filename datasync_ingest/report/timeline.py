"""Figures over the time of a run: events in the table, events a second, and what held the walk when."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..activity import DATABASE, FETCHING, RATE_LIMIT, SERVER
from .figures import Cell, Chart, Column, Figure, count, decimal, thinned
from .gathering import ShownRun

ELSE = "else"
STOPPED = "stopped"
CAUSES: Mapping[str, str] = {
    FETCHING: "fetching",
    RATE_LIMIT: "rate limit",
    SERVER: "server trouble",
    DATABASE: "database",
    ELSE: "else",
    STOPPED: "stopped",
}
_POINTS = 900  # of all runs together: a chart is about as many pixels wide
_BINS = 60
_LEAST_BINS = 15
_SHORTEST_BIN_S = 1.0


def events_in_the_table(runs: Sequence[ShownRun]) -> Figure:
    rows: list[Sequence[Cell]] = []
    for run in runs:
        stood = [(0.0, one.snapshot["initial"]) for one in run.past.samples[:1]]
        stood += [(run.minutes(one.at), one.snapshot["committed"]) for one in run.past.samples]
        rows += thinned([(run.name, minutes, events) for minutes, events in stood], max(30, _POINTS // len(runs)))
    total = last_total(runs)
    return Figure(
        "events-in-the-table",
        "Events in the table",
        "Events that were durably in the table, by minutes since the run began.",
        (Column("run"), decimal("minutes", 2), count("events")),
        rows,
        Chart("line", x=1, y=2, colour=0, line=None if total is None else (total, "total by the API")),
    )


def last_total(runs: Sequence[ShownRun]) -> int | None:
    """What the API said last that it has."""
    totals = [one.snapshot["total"] for run in runs for one in run.past.samples if one.snapshot["total"] is not None]
    return totals[-1] if totals else None


def throughput(runs: Sequence[ShownRun]) -> Figure:
    rows: list[Sequence[Cell]] = []
    width_s = _bin_width_s(runs, 2 * _BINS, 8 * _BINS)
    for run in runs:
        received = [0] * _bins(run.elapsed_s, width_s)
        for page in run.past.pages:
            received[_bin(page.completed_at - run.past.begun_at, width_s, len(received))] += page.received
        ends = [min(run.elapsed_s, (place + 1) * width_s) for place in range(len(received))]
        rates = [
            events / ((end - place * width_s) or width_s)
            for place, (events, end) in enumerate(zip(received, ends, strict=True))
        ]
        rows += [(run.name, place * width_s / 60, rate) for place, rate in enumerate(rates)]
        rows.append((run.name, run.elapsed_s / 60, rates[-1]))
    return Figure(
        "throughput",
        "Throughput",
        "Events committed a second, by minutes since the run began; each value is the mean until the next.",
        (Column("run"), decimal("minutes", 2), decimal("events/s", 0)),
        rows,
        Chart("steps", x=1, y=2, colour=0),
    )


def time_spent(runs: Sequence[ShownRun]) -> Figure:
    rows: list[Sequence[Cell]] = []
    for run in runs:
        seconds = _spent(run)
        whole = sum(seconds.values()) or 1.0
        rows += [(run.name, CAUSES[cause], spent, 100 * spent / whole) for cause, spent in seconds.items()]
    return Figure(
        "time-spent",
        "Where the time went",
        "Seconds of the thread that fetches, by what held it. “Else” is start, end, our own work and the last commits;"
        " “stopped” is the time before a run in which nothing ran, though the run before it was not complete.",
        (Column("run"), Column("cause"), decimal("seconds"), decimal("% of the run")),
        rows,
        Chart("bars", x=2, y=0, colour=1, palette="causes"),
    )


def _spent(run: ShownRun) -> dict[str, float]:
    """Seconds by cause, in the order of CAUSES; together the time since the run before ended."""
    samples, summary = run.past.samples, run.past.summary
    told: Mapping[str, float] = summary["seconds_by_cause"] if summary else samples[-1].seconds if samples else {}
    seconds = {cause: told[cause] for cause in CAUSES if told.get(cause, 0.0) > 0}
    if (rest := run.elapsed_s - sum(seconds.values())) > 0:
        seconds[ELSE] = rest
    if run.stopped_s > 0:
        seconds[STOPPED] = run.stopped_s
    return seconds


def time_spent_when(runs: Sequence[ShownRun]) -> Figure:
    rows: list[Sequence[Cell]] = []
    width_s = _bin_width_s(runs, _BINS, 4 * _BINS)
    for run in runs:
        for place, seconds in enumerate(_spent_by_bin(run, width_s)):
            length_s = sum(seconds.values())
            rows += [
                (run.name, place * width_s / 60, length_s / 60, CAUSES[cause], 100 * seconds[cause] / length_s)
                for cause in CAUSES
                if seconds.get(cause, 0.0) > 0
            ]
    return Figure(
        "time-spent-when",
        "What held the run when",
        "Share of each stretch of time that went to each cause, by minutes since the run began.",
        (Column("run"), decimal("minutes", 2), decimal("length, minutes", 2), Column("cause"), decimal("% of it")),
        rows,
        Chart("columns", x=1, y=4, colour=3, facet=0, palette="causes"),
    )


def _spent_by_bin(run: ShownRun, width_s: float) -> list[dict[str, float]]:
    """The samples' growing sums as seconds of each bin; what lies between two samples is spread evenly."""
    bins: list[dict[str, float]] = [defaultdict(float) for _ in range(_bins(run.elapsed_s, width_s))]
    for begin, end, seconds in _stretches(run):
        for cause, spent in seconds.items():
            for place, share in _shares(begin, end, width_s, len(bins)):
                bins[place][cause] += spent * share
    return bins


def _stretches(run: ShownRun) -> Iterator[tuple[float, float, dict[str, float]]]:
    """From sample to sample: seconds since the beginning, and what was added by cause; the rest is `ELSE`."""
    before_at, before = run.past.begun_at, dict[str, float]()
    for sample in run.past.samples:
        length = sample.at - before_at
        if length <= 0:
            continue
        added = {cause: max(0.0, sample.seconds.get(cause, 0.0) - before.get(cause, 0.0)) for cause in sample.seconds}
        scale = min(1.0, length / (sum(added.values()) or length))
        added = {cause: spent * scale for cause, spent in added.items()}
        added[ELSE] = max(0.0, length - sum(added.values()))
        yield before_at - run.past.begun_at, sample.at - run.past.begun_at, added
        before_at, before = sample.at, dict(sample.seconds)
    if (rest := run.past.last_seen_at - before_at) > 0:
        yield before_at - run.past.begun_at, run.elapsed_s, {ELSE: rest}


def _shares(begin: float, end: float, width_s: float, bins: int) -> Iterable[tuple[int, float]]:
    first, last = _bin(begin, width_s, bins), _bin(end, width_s, bins)
    for place in range(first, last + 1):
        low = begin if place == first else place * width_s
        high = end if place == last else (place + 1) * width_s
        yield place, max(0.0, high - low) / (end - begin)


def _bin_width_s(runs: Sequence[ShownRun], at_most: int, of_all: int) -> float:
    """The same for all runs, so that they can be compared; one that people count in.

    A run gets `at_most` bins, fewer where there would be more than `of_all`, but not fewer than `_LEAST_BINS`.
    """
    needed = max(run.elapsed_s for run in runs) / max(_LEAST_BINS, min(at_most, of_all // len(runs)))
    steps = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 1800, 3600)
    return float(next((step for step in steps if step >= needed), max(_SHORTEST_BIN_S, math.ceil(needed))))


def _bins(elapsed_s: float, width_s: float) -> int:
    return max(1, math.ceil(elapsed_s / width_s))


def _bin(at_s: float, width_s: float, bins: int) -> int:
    return min(bins - 1, max(0, int(at_s / width_s)))
