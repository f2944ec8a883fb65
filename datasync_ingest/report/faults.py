"""Faults met and how each ended: requests that brought no page, and what a run warned of."""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..ledger import Incident
from ..ledger.run_history import PastRequest
from .figures import Cell, Chart, Column, Figure, count, decimal, long_text, thinned
from .gathering import ShownRun
from .kinds import GOOD, PROBE, kind_of
from .times import clock_time

ANSWERED = "asked again and answered"
HALVED = "asked for in smaller pages and answered"
RENEWED = "cursor renewed"
LATER_RUN = "fetched later"
ELSEWHERE = "the walk went on elsewhere"
PENDING = "asked again at present"
OPEN = "not answered in this run"
_SHOWN = 1000
_VARYING = re.compile(r"\b[0-9a-f]{8}/\d+\b|b(['\"]).*\1|\d[\d,.]*( ms| s| min \d+ s| h \d+ min)?")


@dataclass(frozen=True, slots=True)
class Fault:
    """A request that brought no page, and what came of it: `attempts` and `seconds` until the answer, if one came."""

    run: ShownRun
    request: PastRequest
    ending: str
    attempts: int | None = None
    seconds: float | None = None


def faults(runs: Sequence[ShownRun]) -> list[Fault]:
    """Of all runs, in the order of time within each."""
    return [fault for run in runs for fault in _faults_of(run)]


def _faults_of(run: ShownRun) -> Iterator[Fault]:
    by_page: dict[str, list[PastRequest]] = defaultdict(list)
    for request in run.past.requests:
        by_page[request.page].append(request)
    for request in run.past.requests:
        if kind_of(request) not in GOOD:
            yield _ended(run, request, by_page[request.page])


def _ended(run: ShownRun, request: PastRequest, of_the_page: Sequence[PastRequest]) -> Fault:
    later = [one for one in of_the_page if one.at > request.at and kind_of(one) in GOOD - {PROBE}]
    if later:
        answer = later[0]
        smaller = HALVED if _is_smaller(run, request.page) else ANSWERED
        ending = RENEWED if _is_renewed(run, request) else smaller
        attempts = sum(1 for one in of_the_page if request.at < one.at <= answer.at)
        return Fault(run, request, ending, attempts, answer.at + answer.seconds - request.at)
    return Fault(run, request, _ending_without_an_answer(run, request))


def _ending_without_an_answer(run: ShownRun, request: PastRequest) -> str:
    if _next_answer(run, request) is not None:
        return RENEWED if _is_renewed(run, request) else ELSEWHERE
    page = run.completed.get(request.page)
    if page is not None and page.completed_at > request.at:
        return LATER_RUN
    return PENDING if run.past.active else OPEN


def _is_renewed(run: ShownRun, request: PastRequest) -> bool:
    """Whether the refusal was followed by a page that was known by then: it is asked for, for the cursor it brings."""
    answer = _next_answer(run, request) if request.outcome == "refused" else None
    known = None if answer is None else run.completed.get(answer.page)
    return known is not None and known.completed_at < request.at


def _next_answer(run: ShownRun, request: PastRequest) -> PastRequest | None:
    return next((one for one in run.past.requests if one.at > request.at and one.outcome == "page"), None)


def _is_smaller(run: ShownRun, page: str) -> bool:
    """Whether it was asked for with fewer events than the pages of its run are mostly."""
    limits = Counter(one.limit for one in run.past.pages)
    completed = run.completed.get(page)
    return completed is not None and bool(limits) and completed.limit < limits.most_common(1)[0][0]


def summary(found: Sequence[Fault]) -> Figure:
    groups: dict[tuple[str, str], list[Fault]] = defaultdict(list)
    for fault in found:
        groups[kind_of(fault.request), fault.ending].append(fault)
    times = Counter(kind_of(fault.request) for fault in found)
    order = sorted(groups.items(), key=lambda one: (-times[one[0][0]], one[0][0], -len(one[1])))
    rows = [(kind, ending, len(of_it), *_cost(of_it)) for (kind, ending), of_it in order]
    return Figure(
        "faults-of-requests",
        "Faults of requests, and how each ended",
        "Requests that brought no page. Attempts and seconds are those from the fault to the page's whole answer.",
        (
            Column("fault"),
            Column("what came of it"),
            count("times"),
            decimal("attempts, median", 1),
            count("attempts, most"),
            decimal("seconds, median"),
            decimal("seconds, most"),
        ),
        rows,
        Chart("bars", x=2, y=0, colour=1, palette="endings"),
    )


def _cost(found: Sequence[Fault]) -> tuple[float | None, int | None, float | None, float | None]:
    attempts = [fault.attempts for fault in found if fault.attempts is not None]
    seconds = [fault.seconds for fault in found if fault.seconds is not None]
    if not attempts or not seconds:
        return None, None, None, None
    return statistics.median(attempts), max(attempts), statistics.median(seconds), max(seconds)


def listing(found: Sequence[Fault]) -> Figure:
    rows: list[Sequence[Cell]] = [
        (
            fault.run.name,
            clock_time(fault.request.at),
            fault.request.page,
            fault.request.attempt,
            kind_of(fault.request),
            fault.request.seconds,
            _sentence(fault),
        )
        for fault in found
    ]
    shown = thinned(rows, _SHOWN)
    return Figure(
        "every-fault",
        "Every fault",
        "In the order in which they came.",
        (
            Column("run"),
            Column("time (UTC)"),
            Column("page"),
            count("attempt"),
            Column("fault"),
            decimal("took, s", 2),
            long_text("what came of it"),
        ),
        shown,
        left_out=f"{len(shown):,} of {len(rows):,} are shown, evenly chosen." if len(shown) < len(rows) else "",
    )


def _sentence(fault: Fault) -> str:
    if fault.seconds is None:
        return f"{OPEN}, {_ending_of(fault.run)}" if fault.ending == OPEN else fault.ending
    attempts = f"{fault.attempts} more {'attempt' if fault.attempts == 1 else 'attempts'}"
    return f"{fault.ending} after {attempts} and {fault.seconds:,.1f} s"


def incidents(runs: Sequence[ShownRun]) -> Figure:
    """Warnings that say the same thing but for their numbers are one row."""
    groups: dict[str, list[tuple[ShownRun, Incident]]] = defaultdict(list)
    for run in runs:
        for one in run.past.incidents:
            groups[_VARYING.sub("…", one.message)].append((run, one))
    rows = [
        (
            of_it[0][1].level,
            of_it[0][1].room,
            _shortened(of_it[0][1].message),
            len(of_it),
            f"{of_it[0][0].name}, {clock_time(of_it[0][1].at)}",
            f"{of_it[-1][0].name}, {clock_time(of_it[-1][1].at)}",
            *_went_on(of_it),
        )
        for of_it in sorted(groups.values(), key=len, reverse=True)
    ]
    return Figure(
        "warnings",
        "Warnings and errors in the log, and what came of them",
        "Those that differ in numbers alone are one row, with the first of them as it was logged.",
        (
            Column("level"),
            Column("room"),
            long_text("message"),
            count("times"),
            Column("first (UTC)"),
            Column("last (UTC)"),
            decimal("next commit after, s, most"),
            long_text("what came of it"),
        ),
        rows,
    )


def _went_on(found: Sequence[tuple[ShownRun, Incident]]) -> tuple[float | None, str]:
    waits = [_until_next_commit_s(run, one) for run, one in found]
    known = [wait for wait in waits if wait is not None]
    ended = {run.name: _ending_of(run) for (run, _), wait in zip(found, waits, strict=True) if wait is None}
    words = [f"the run went on {'once' if len(known) == 1 else f'{len(known):,} times'}"] if known else []
    words += [f"nothing more was committed in {name}: {ending}" for name, ending in ended.items()]
    return max(known, default=None), "; ".join(words)


def _ending_of(run: ShownRun) -> str:
    if run.past.active:
        return "it is running"
    return f"it ended: {run.past.ending}" if run.past.ending else "it was killed"


def _until_next_commit_s(run: ShownRun, incident: Incident) -> float | None:
    later = [page.completed_at for page in run.past.pages if page.completed_at > incident.at]
    return later[0] - incident.at if later else None


def _shortened(message: str, length: int = 400) -> str:
    return message if len(message) <= length else f"{message[:length]}…"
