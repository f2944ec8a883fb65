"""A page's rows, kept as columns: they read as rows sorted by id, and nothing is lost on the way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from datasync_ingest.rows import Columns, EventRow, Rows

TEXTS = st.none() | st.text(max_size=2)
ROWS = st.lists(st.tuples(st.sampled_from("abc"), TEXTS, TEXTS).map(lambda values: row(*values)), max_size=8)


def row(event_id: str, user_id: str | None, browser: str | None) -> EventRow:
    """Columns near both ends tell as much as all of them, and are made sooner."""
    return EventRow(event_id, None, user_id, None, None, None, None, None, browser, None)


def by_id(rows: list[EventRow]) -> list[EventRow]:
    return sorted(rows, key=lambda one: one.id)


@given(ROWS)
def test_rows_are_sorted_by_id_and_those_of_one_id_stay_as_they_stood(rows: list[EventRow]) -> None:
    made = Rows.of(rows)
    assert list(made) == [made[index] for index in range(len(made))] == by_id(rows)


@given(ROWS, st.integers(0, 8), st.integers(0, 8))
def test_a_slice_holds_the_rows_that_it_would_of_a_list(rows: list[EventRow], start: int, end: int) -> None:
    assert list(Rows.of(rows)[start:end]) == by_id(rows)[start:end]


@given(ROWS)
def test_what_is_made_of_the_columns_is_brought_into_the_order_of_the_rows(rows: list[EventRow]) -> None:
    made = Rows.of(rows)
    assert made.in_order(zip(*made.columns, strict=True)) == by_id(rows)


def test_columns_have_the_names_of_a_row() -> None:
    assert Columns._fields == EventRow._fields
