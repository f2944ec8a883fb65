"""Figures of what came in: the books of the runs, the events by kind, what was rejected and repaired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..ledger.run_history import PastPage
from ..postgres.overview import Example, Reason, TableOverview
from .figures import Cell, Chart, Column, Figure, count, decimal, long_text
from .gathering import ShownRun
from .markup import Html, element
from .timeline import last_total

_DAYS = 120
_VALUES = 20
_NONE = "(none)"


def books(runs: Sequence[ShownRun]) -> Figure:
    rows = [_book(run.name, run.past.pages) for run in runs]
    every = {id(run.completed): run.completed for run in runs}.values()
    found = [[page for page in completed.values() if page.run is None] for completed in every]
    rows += [_book("found in the database", pages) for pages in found if pages]
    return Figure(
        "books-of-the-runs",
        "The books of the runs",
        "For the pages that each run committed: received = inserted + already there + rejected. Repaired events count"
        " among those of the table. “Found in the database” are pages that a run committed, and was killed before it"
        " could note it.",
        (
            Column("run"),
            count("pages"),
            count("received"),
            count("inserted"),
            count("already there"),
            count("rejected"),
            Column("balanced"),
            count("repaired"),
        ),
        rows,
    )


def _book(name: str, pages: Sequence[PastPage]) -> Sequence[Cell]:
    received = sum(page.received for page in pages)
    parts = [sum(getattr(page, part) for page in pages) for part in ("inserted", "already_there", "rejected")]
    verdict = "yes" if received == sum(parts) else f"NO: {received - sum(parts):+,}"
    return (name, len(pages), received, *parts, verdict, sum(page.repaired for page in pages))


def books_of_the_table(runs: Sequence[ShownRun], table: TableOverview) -> Figure:
    total = last_total(runs)
    rows: list[Sequence[Cell]] = [
        ("events in the table", table.events),
        ("rejected, distinct ones", table.rejected),
        ("total by the API, as it said last", total),
    ]
    if total is not None:
        rows.append(("missing", max(0, total - table.events - table.rejected)))
    return Figure(
        "books-of-the-table",
        "The books of the table",
        "As they stand now in the database that the settings name, whichever run they came by: what is missing is the"
        " API's total less events and rejects.",
        (Column("what"), count("events")),
        rows,
    )


def by_day(table: TableOverview) -> Figure:
    """Days with the most events, where there are too many to be drawn."""
    days = sorted(table.counts["day"], key=lambda one: -one[1])
    shown = sorted((day, events) for day, events in days[:_DAYS] if day is not None)
    without = sum(events for day, events in days if day is None)
    rest = [events for day, events in days[_DAYS:] if day is not None]
    left_out = f"{without:,} events have no readable time. " if without else ""
    left_out += f"{len(rest):,} more days with {sum(rest):,} events are left out." if rest else ""
    return Figure(
        "by-day",
        "Events by day",
        "By the day (UTC) on which they happened.",
        (Column("day"), count("events")),
        shown,
        Chart("days", x=0, y=1),
        left_out.strip(),
    )


def by_value(table: TableOverview, name: str, title: str) -> Figure:
    found = sorted(table.counts[name], key=lambda one: (-one[1], one[0] or ""))
    whole = sum(events for _, events in found) or 1
    shown = [(_NONE if value is None else value or "(empty)", events) for value, events in found[:_VALUES]]
    if rest := [events for _, events in found[_VALUES:]]:
        shown.append((f"{len(rest):,} others", sum(rest)))
    return Figure(
        f"by-{name}",
        title,
        "Of all events in the table.",
        (Column(name), count("events"), decimal("% of all")),
        [(value, events, 100 * events / whole) for value, events in shown],
        Chart("bars", x=1, y=0),
    )


def reasons(name: str, title: str, note: str, found: Sequence[Reason]) -> Figure:
    return Figure(
        name,
        title,
        note,
        (long_text("reason"), count("events")),
        [(one.reason, one.events) for one in found],
        Chart("bars", x=1, y=0, palette="rejects"),
    )


def examples(found: Sequence[Reason]) -> Html:
    """For each reason the first few events, with the page and the place at which they were served."""
    return element("div", [_examples_of(one) for one in found], class_="examples")


def _examples_of(reason: Reason) -> Html:
    shown = f"{len(reason.examples)} of {reason.events:,}"
    return element(
        "details",
        element("summary", f"{reason.reason}: {shown} {'event' if reason.events == 1 else 'events'}"),
        [list(_example(one)) for one in reason.examples],
        class_="printed",
    )


def _example(example: Example) -> Iterator[Html]:
    where = f"page {example.page}, event {example.position + 1:,}"
    yield element("p", f"{where}, id {example.event_id}" if example.event_id else where, class_="where")
    text = example.raw.decode("utf-8", "backslashreplace")
    rest = example.size - len(example.raw)
    yield element("pre", element("code", text), f" … {rest:,} more bytes" if rest > 0 else None, tabindex="0")


def settings_that_differ(runs: Sequence[ShownRun]) -> list[tuple[str, Sequence[Any]]]:
    """Variable, and its text in each run; all variables where there is one run only."""
    names = list(dict.fromkeys(name for run in runs for name in run.past.options))
    texts = [(name, [run.past.options.get(name, "") for run in runs]) for name in names]
    return [(name, values) for name, values in texts if len(runs) == 1 or len(set(values)) > 1]
