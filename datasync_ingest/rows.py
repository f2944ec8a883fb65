"""The rows of a page, kept column by column: thousands of events are then ten lists, and no object for each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, overload


class EventRow(NamedTuple):
    """The columns of `ingested_events`, in order: `properties` and `extra` as JSON text, `occurred_at` as ISO 8601."""

    id: str
    session_id: str | None
    user_id: str | None
    type: str | None
    name: str | None
    properties: str | None
    occurred_at: str | None
    device_type: str | None
    browser: str | None
    extra: str | None


Column = Sequence[str | None]


class Columns(NamedTuple):
    """The values of each field of EventRow, in the same order; all of one length."""

    id: Sequence[str]
    session_id: Column
    user_id: Column
    type: Column
    name: Column
    properties: Column
    occurred_at: Column
    device_type: Column
    browser: Column
    extra: Column


class Rows(Sequence[EventRow]):
    """Reads as a sequence of EventRow, which are made when they are asked for; a slice makes none."""

    __slots__ = ("columns",)

    def __init__(self, columns: Columns) -> None:
        """The columns are kept, and must not change."""
        self.columns = columns

    @classmethod
    def of(cls, rows: Iterable[EventRow]) -> Rows:
        columns: Any = tuple(zip(*rows, strict=True)) or [()] * len(EventRow._fields)
        return cls(Columns(*columns))

    def __len__(self) -> int:
        return len(self.columns.id)

    def __iter__(self) -> Iterator[EventRow]:
        return map(EventRow._make, zip(*self.columns, strict=True))

    @overload
    def __getitem__(self, index: int) -> EventRow: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> EventRow | Rows:
        values: Any = [column[index] for column in self.columns]
        return Rows(Columns(*values)) if isinstance(index, slice) else EventRow(*values)
