"""The rows of a page, kept column by column: thousands of events are then ten lists, and no object for each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar, overload


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


T = TypeVar("T")


class Rows(Sequence[EventRow]):
    """Reads as a sequence of EventRow, sorted by id, in which rows of one id stand as they were given.

    Rows are made when they are asked for. `columns` stay in the order in which they were given: to go through values in
    the order in which they lie in memory takes a fifth less time, so whatever is made of them is sorted last.
    """

    __slots__ = ("_order", "columns", "is_plain")

    def __init__(self, columns: Columns, *, is_plain: bool = False) -> None:
        """The columns are kept, and must not change. `is_plain`: it is known that no value holds a backslash, a tab or
        the end of a line."""
        self.columns = columns
        self.is_plain = is_plain
        self._order = sorted(range(len(columns.id)), key=columns.id.__getitem__)

    @classmethod
    def of(cls, rows: Iterable[EventRow]) -> Rows:
        columns: Any = tuple(zip(*rows, strict=True)) or [()] * len(EventRow._fields)
        return cls(Columns(*columns))

    def in_order(self, items: Iterable[T]) -> list[T]:
        """What was made of each row in the order of `columns`, in the order of the rows."""
        return list(map(list(items).__getitem__, self._order))

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[EventRow]:
        return map(EventRow._make, self.in_order(zip(*self.columns, strict=True)))

    @overload
    def __getitem__(self, index: int) -> EventRow: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> EventRow | Rows:
        if isinstance(index, slice):
            return Rows.of([self._row(at) for at in self._order[index]])
        return self._row(self._order[index])

    def _row(self, at: int) -> EventRow:
        values: Any = [column[at] for column in self.columns]
        return EventRow(*values)
