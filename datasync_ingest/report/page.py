"""The page: its sections in their order, and everything that it needs inside of it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files

from .. import __version__
from ..postgres.overview import TableOverview
from ..units import show_seconds
from . import contents, faults, latencies, timeline
from .figures import Cell, Column, Figure, count, data_table, decimal, long_text
from .gathering import Gathered, ShownRun
from .markup import Html, element, joined
from .times import moment

# Observable Plot draws with d3; report.js gives it the tables of the page.
_SCRIPTS = ("d3.min.js", "plot.umd.min.js", "report.js")


def page(gathered: Gathered, *, now: float) -> str:
    """The whole document; `now` is when it is made, epoch seconds."""
    runs = gathered.runs
    title = f"Ingest report: {', '.join(run.name for run in runs[:4])}{' …' if len(runs) > 4 else ''}"
    sections = dict(_sections(gathered))
    body = element(
        "body",
        element("header", element("h1", title), element("p", _made(runs, now), class_="note"), _tiles(gathered)),
        element("nav", [element("a", name, href=f"#{_anchor(name)}") for name in sections], aria_label="Sections"),
        element("noscript", element("p", "Without scripts there are no charts; each one's table has its numbers.")),
        element("main", [_section(name, parts) for name, parts in sections.items()]),
        [element("script", Html(text)) for text in _scripts()],
    )
    return f'<!DOCTYPE html>\n<html lang="en">{_head(title)}{body}</html>\n'


def _head(title: str) -> Html:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy()),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", Html(_asset("report.css"))),
    )


def _policy() -> str:
    """Nothing may be loaded from anywhere, and no script may run but those of this page."""
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in _scripts())
    scripts = " ".join(f"'sha256-{one}'" for one in hashes)
    return f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def _scripts() -> list[str]:
    return [_asset(name) for name in _SCRIPTS]


@cache
def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-").replace(",", "")


def _section(name: str, parts: Sequence[Html]) -> Html:
    return element("section", element("h2", name), parts, id=_anchor(name), class_="part")


def _made(runs: Sequence[ShownRun], now: float) -> str:
    sources = dict.fromkeys(run.past.options.get("API_BASE_URL", "") for run in runs)
    source = ", ".join(filter(None, sources))
    return f"{source + ' · ' if source else ''}made {moment(now)} UTC by datasync_ingest {__version__} · all times UTC"


def _sections(gathered: Gathered) -> Iterator[tuple[str, Sequence[Html]]]:
    runs, table = gathered.runs, gathered.table
    yield "Runs", [_runs(runs), _settings(runs)]
    yield "Over time", _html(timeline.events_in_the_table(runs), timeline.throughput(runs))
    yield "Where the time went", _html(timeline.time_spent(runs), timeline.time_spent_when(runs))
    yield "Latency", _html(latencies.requests(runs), latencies.commits(runs), latencies.quantiles(runs))
    found = faults.faults(runs)
    yield (
        "Faults",
        [
            *_html(faults.summary(found)),
            _folded(faults.listing(found)),
            *_html(faults.incidents(runs)),
        ],
    )
    yield (
        "Books",
        [
            contents.books(runs).html(),
            _away(gathered.trouble) if table is None else contents.books_of_the_table(runs, table).html(),
        ],
    )
    yield "Rejects and repairs", [_away(gathered.trouble)] if table is None else list(_odd_events(table))
    yield "Events", [_away(gathered.trouble)] if table is None else _events(table)


def _html(*figures: Figure) -> list[Html]:
    return [figure.html() for figure in figures]


def _folded(figure: Figure) -> Html:
    if not figure.rows:
        return Html("")
    return element("details", element("summary", f"{figure.title} ({len(figure.rows):,})"), figure.html())


def _away(trouble: str) -> Html:
    return element("p", trouble, class_="away", role="note")


def _runs(runs: Sequence[ShownRun]) -> Html:
    columns = (
        Column("run"),
        Column("began (UTC)"),
        Column("took"),
        long_text("ending"),
        Column("exit code", "{:d}"),
        count("pages"),
        count("events received"),
        decimal("events/s", 0),
        count("requests"),
        count("faults"),
    )
    return Figure("all-runs", "The runs", "What each did by itself.", columns, [_run(run) for run in runs]).html()


def _run(run: ShownRun) -> Sequence[Cell]:
    past = run.past
    received = sum(page.received for page in past.pages)
    return (
        run.name,
        moment(past.begun_at),
        show_seconds(run.elapsed_s),
        ending_of(run),
        past.exit_code,
        len(past.pages),
        received,
        received / run.elapsed_s if run.elapsed_s > 0 else None,
        len(past.requests),
        len(faults.faults([run])),
    )


def ending_of(run: ShownRun) -> str:
    """As the run said it; one that could say nothing is running or was killed."""
    if run.past.ending is not None:
        return run.past.ending
    return "running" if run.past.active else "killed: it left no ending"


def _settings(runs: Sequence[ShownRun]) -> Html:
    rows = [(name, *texts) for name, texts in contents.settings_that_differ(runs)]
    title = "Settings" if len(runs) == 1 else "Settings that differ"
    columns = [Column("variable"), *(Column(run.name) for run in runs)]
    if not rows:
        return element("p", "All runs had the same settings.", class_="note")
    return element("details", element("summary", title), data_table(columns, rows, label=title))


def _odd_events(table: TableOverview) -> Iterator[Html]:
    yield contents.reasons(
        "rejects",
        "Rejected events, by reason",
        "Events without a usable id: they have no row in the table, and are kept byte for byte. One that was served"
        " twice counts twice.",
        table.rejects,
    ).html()
    yield contents.examples(table.rejects)
    yield contents.reasons(
        "repairs",
        "Repaired events, by reason",
        "Events of which a value was not kept as it came: they have a row, and their bytes are kept.",
        table.repairs,
    ).html()
    yield contents.examples(table.repairs)


def _events(table: TableOverview) -> list[Html]:
    return _html(
        contents.by_day(table),
        contents.by_value(table, "type", "Events by type"),
        contents.by_value(table, "device", "Events by device"),
        contents.by_value(table, "browser", "Events by browser"),
    )


def _tiles(gathered: Gathered) -> Html:
    return element(
        "dl",
        [element("div", element("dt", name), element("dd", value)) for name, value in _headlines(gathered)],
        class_="tiles",
    )


def _headlines(gathered: Gathered) -> Iterator[tuple[str, str]]:
    """Few numbers for the one who reads no further."""
    runs, table = gathered.runs, gathered.table
    total = timeline.last_total(runs)
    yield "ending" if len(runs) == 1 else "last ending", joined(ending_of(runs[-1]))
    if table is not None:
        yield "events in the table", f"{table.events:,}" + ("" if total is None else f" of {total:,}")
        yield "rejected", f"{table.rejected:,}"
    received = sum(page.received for run in runs for page in run.past.pages)
    elapsed_s = sum(run.elapsed_s for run in runs)
    yield "time", show_seconds(elapsed_s)
    yield "events/s", f"{received / elapsed_s:,.0f}" if elapsed_s > 0 else "none"
    requests = sum(len(run.past.requests) for run in runs)
    yield "requests", f"{requests:,}, {len(faults.faults(runs)):,} faults"
