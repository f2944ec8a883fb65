"""Case `namespaces`: a cluster whose parts are on machines of their own, struck in mid-run; exact every time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.bench.bench import Bench
from tests.bench.floors import PAGE_EVENTS
from tests.faults.truth import Truth
from tests.namespaces import strikes
from tests.namespaces.site import Site, Trial, site, trial

SLOW_S = 90.0  # of the API for all pages, where a run must still be under way when what was cut off is back
STRUCK_AT = 0.2  # of the pages


@dataclass(frozen=True)
class Row:
    """`cuts`: it needs real machines. `slow`: the API takes `SLOW_S`. `endings`: the exit codes of its runs."""

    about: str
    workers: int
    strike: strikes.Strike = strikes.nothing
    cuts: bool = False
    slow: bool = False
    endings: tuple[int, ...] = (0,)


ROWS = (
    Row("nothing", 1),
    Row("nothing", 2),
    Row("nothing", 4),
    Row("kill -9 of half of the worker processes", 4, strikes.kill_half),
    Row("kill -9 of half of the machines' processes", 4, strikes.lose_half_of_the_machines),
    Row("half of the workers cut off in mid-page", 4, strikes.cut_half_of_the_workers_off_in_mid_page, cuts=True),
    Row("half of the workers cut off, back in mid-run", 4, strikes.cut_half_of_the_workers_off, cuts=True, slow=True),
    Row("the scheduler cut off for a moment", 4, strikes.cut_the_scheduler_off_for_a_moment, cuts=True, slow=True),
    Row(
        "the scheduler cut off until the run ends, run again",
        4,
        strikes.cut_the_scheduler_off,
        cuts=True,
        slow=True,
        endings=(5, 0),
    ),
    Row("the database cut off", 4, strikes.cut_the_database_off, cuts=True, slow=True),
)


def measure(bench: Bench) -> dict[str, Any]:
    """Every row that can be had here; a row that does not come out as it must says so in `exact`."""
    folder = bench.root / "namespaces"
    folder.mkdir()
    with site(folder, events=bench.events, gzip="off") as place:
        bench.say(place.network.described)
        truth = Truth(place.api.events(), [])
        rows = [row for row in ROWS if place.network.is_real or not row.cuts]
        return {
            "topology": place.network.described,
            "events": bench.events,
            "rows": [_measured(bench, place, f"trial_{number}", row, truth) for number, row in enumerate(rows)],
            "left_out": [row.about for row in ROWS if row not in rows],
        }


def _measured(bench: Bench, place: Site, name: str, row: Row, truth: Truth) -> dict[str, Any]:
    pages = -(-bench.events // PAGE_EVENTS)
    place.api.options(latency_ms=SLOW_S * 1000 / pages if row.slow else 0)
    place.api.reset_counters()
    with trial(place, name, row.workers) as made:
        try:
            made.begin_run()
            made.until_pages(max(1, round(STRUCK_AT * pages)))
            took = row.strike(made)
            made.end_run()
            wrong = _wrong(made, row) or made.difference(truth)
        except AssertionError as error:
            took, wrong = {}, str(error)
        found = {"strike": row.about, "workers": row.workers, "wrong": wrong, "took_s": took, **_figures(made)}
    bench.say(_line(found))
    return found


def _wrong(made: Trial, row: Row) -> str | None:
    if tuple(made.endings) == row.endings:
        return None
    return f"exit codes {made.endings}, not {list(row.endings)}: {made.said[-1][-2000:]}"


def _figures(made: Trial) -> dict[str, Any]:
    """Of the runs that have ended: from the first request to the last commit."""
    counters = made.site.api.counters()
    statement = "SELECT extract(epoch FROM max(committed_at)), count(*) FROM ingested_pages"
    ((last, pages),) = made.database.query(statement)
    seconds = float(last or 0) - float(counters["first_request_at"])
    events = int(made.database.value("SELECT count(*) FROM ingested_events"))
    return {
        "events": events,
        "pages": int(pages),
        "seconds": seconds,
        "events_per_s": events / seconds,
        "pages_fetched_twice": counters["pages_fetched_twice"],
        "pages_given_out_again": sum(said.count("is given out again") for said in made.said),
        "endings": made.endings,
    }


def holds(found: dict[str, Any]) -> bool:
    return all(row["wrong"] is None for row in found["rows"])


def text(found: dict[str, Any]) -> list[str]:
    lines = [
        found["topology"],
        f"{found['events']:,} events, {PAGE_EVENTS:,} a page; struck after a fifth of the pages",
    ]
    lines += [f"  {_line(row)}" for row in found["rows"]]
    return lines + [f"  not here: {about}" for about in found["left_out"]]


def _line(row: dict[str, Any]) -> str:
    took = "".join(f", {what} {seconds:.0f} s" for what, seconds in row["took_s"].items())
    exact = "exact" if row["wrong"] is None else f"WRONG: {row['wrong']}"
    codes = ", ".join(map(str, row["endings"]))
    return (
        f"{row['workers']} workers  {row['seconds']:6.1f} s {row['events_per_s']:8,.0f} events/s"
        f"  pages fetched twice {row['pages_fetched_twice']}, given out again {row['pages_given_out_again']}"
        f"  exit codes {codes}  {exact}  {row['strike']}{took}"
    )
