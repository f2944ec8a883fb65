"""How long requests and commits took: each of them, and the quantiles."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from .figures import Cell, Chart, Column, Figure, count, decimal, thinned
from .gathering import ShownRun
from .kinds import GOOD, kind_of

_DOTS = 1500  # of all runs together


def requests(runs: Sequence[ShownRun]) -> Figure:
    """Faults are never thinned out before a good answer is."""
    rows: list[Sequence[Cell]] = []
    every = 0
    for run in runs:
        found: list[Sequence[Cell]] = [
            (run.name, run.minutes(one.at), one.seconds, kind_of(one), one.page, one.attempt, one.status, one.size)
            for one in run.past.requests
        ]
        every += len(found)
        room = max(50, _DOTS // len(runs))
        faults = thinned([row for row in found if row[3] not in GOOD], room)
        good = thinned([row for row in found if row[3] in GOOD], max(2, room - len(faults)))
        rows += sorted([*faults, *good], key=lambda row: row[1] if isinstance(row[1], float) else 0.0)
    return Figure(
        "request-latency",
        "Latency of requests",
        "Seconds from a request to its whole answer, by minutes since the run began; the scale is logarithmic.",
        (
            Column("run"),
            decimal("minutes", 2),
            decimal("seconds", 3),
            Column("answer"),
            Column("page"),
            count("attempt"),
            Column("status", "{:d}"),
            count("bytes"),
        ),
        rows,
        Chart("dots", x=1, y=2, colour=3, facet=0, palette="answers", log=True),
        left_out=_left_out(every, len(rows)),
    )


def commits(runs: Sequence[ShownRun]) -> Figure:
    rows: list[Sequence[Cell]] = []
    every = 0
    for run in runs:
        found: list[Sequence[Cell]] = [
            (run.name, run.minutes(one.completed_at), one.write_s, one.decode_s, one.page, one.received)
            for one in run.past.pages
            if one.write_s is not None
        ]
        every += len(found)
        rows += thinned(found, max(50, _DOTS // len(runs)))
    return Figure(
        "commit-latency",
        "Latency of commits",
        "Seconds in which a worker wrote and committed a page, by minutes since the run began.",
        (
            Column("run"),
            decimal("minutes", 2),
            decimal("seconds", 3),
            decimal("seconds to decode it", 3),
            Column("page"),
            count("events"),
        ),
        rows,
        Chart("dots", x=1, y=2, colour=0),
        left_out=_left_out(every, len(rows)),
    )


def quantiles(runs: Sequence[ShownRun]) -> Figure:
    rows: list[Sequence[Cell]] = []
    for run in runs:
        of_pages = [one.seconds for one in run.past.requests if kind_of(one) in GOOD]
        others = [one.seconds for one in run.past.requests if kind_of(one) not in GOOD]
        writes = [one.write_s for one in run.past.pages if one.write_s is not None]
        decodes = [one.decode_s for one in run.past.pages if one.decode_s is not None]
        measured = {
            "requests answered with a page": of_pages,
            "other requests": others,
            "commits of a page": writes,
            "decoding a page": decodes,
        }
        rows += [(run.name, what, len(seconds), *_quantiles(seconds)) for what, seconds in measured.items() if seconds]
    return Figure(
        "quantiles",
        "Latencies in numbers",
        "Seconds: half of them took at most the median, 99 of 100 at most the value in that column.",
        (
            Column("run"),
            Column("what"),
            count("number"),
            decimal("median", 3),
            decimal("90 of 100", 3),
            decimal("99 of 100", 3),
            decimal("longest", 3),
        ),
        rows,
    )


def _quantiles(seconds: Sequence[float]) -> tuple[float, float, float, float]:
    if len(seconds) == 1:
        return (seconds[0],) * 4
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return cuts[49], cuts[89], cuts[98], max(seconds)


def _left_out(every: int, shown: int) -> str:
    return f"{shown:,} of {every:,} are shown, evenly chosen." if shown < every else ""
