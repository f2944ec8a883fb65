"""The constants of the model as the README's table, written and read: what is pasted there is what the tests take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import NamedTuple

from tests.bench.model import Costs


class Shown(NamedTuple):
    """How a constant stands in the table: times `scale`, with so many `decimals`."""

    label: str
    scale: float
    decimals: int


_MICRO = 1e6
_MIB = 1 / 2**20
SHOWN = {
    "launch_s": Shown("from the command to its first request, s", 1, 2),
    "start_s": Shown("from there until pages flow, s", 1, 2),
    "launch_core_s": Shown("CPU of both, s", 1, 2),
    "main_s": Shown("main process, µs of CPU an event", _MICRO, 2),
    "worker_s": Shown("workers, µs of CPU an event", _MICRO, 2),
    "postgres_s": Shown("PostgreSQL, µs of CPU an event", _MICRO, 2),
    "growth_s": Shown("more for each doubling of the table, µs an event", _MICRO, 2),
    "base_events": Shown("events in the table by then, millions", 1e-6, 2),
    "cluster_factor": Shown("main process and workers of a cluster, CPU beside processes", 1, 2),
    "page_bytes": Shown("an event in a page, bytes", 1, 0),
    "row_bytes": Shown("sent to PostgreSQL, bytes", 1, 0),
    "table_bytes": Shown("in the table, bytes", 1, 0),
    "index_bytes": Shown("in the index, bytes", 1, 0),
    "wal_bytes": Shown("in the WAL, bytes", 1, 0),
    "full_page_s": Shown("a page of the index that is written whole into the WAL, µs of CPU", _MICRO, 1),
    "full_page_bytes": Shown("such a page, bytes", 1, 0),
    "main_memory": Shown("memory of the main process, MiB", _MIB, 0),
    "worker_memory": Shown("memory of a worker, MiB", _MIB, 0),
}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of Markdown."""
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def costs_table(writers: Mapping[str, Costs]) -> list[str]:
    """A row for each constant, a column for each writer."""
    values = [asdict(costs) for costs in writers.values()]
    rows = [
        [shown.label, *(f"{one[name] * shown.scale:.{shown.decimals}f}" for one in values)]
        for name, shown in SHOWN.items()
    ]
    return table(["constant", *(f"`{writer}`" for writer in writers)], rows)


def costs_of(text: str) -> dict[str, Costs]:
    """What `costs_table` wrote, wherever in `text` it stands, by writer. Raises ValueError where rows are missing."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    rows = {row[0]: row[1:] for row in cells}
    missing = [label for label in ("constant", *(shown.label for shown in SHOWN.values())) if label not in rows]
    if missing:
        raise ValueError(f"constants are missing: {missing}")
    return {
        writer.strip("`"): Costs(
            **{one.name: float(rows[SHOWN[one.name].label][column]) / SHOWN[one.name].scale for one in fields(Costs)}
        )
        for column, writer in enumerate(rows["constant"])
    }
