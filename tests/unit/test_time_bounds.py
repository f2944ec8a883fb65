"""What `since` and `until` mean, found out from pages some of whose events are odd."""

from __future__ import annotations

import json

import pytest

from datasync_ingest.api.reading import envelope_of, page_of
from datasync_ingest.api.time_bounds import NOT_HEEDED, TimeReading, question_about
from datasync_ingest.messages import PageAddress, PageId, RawPage, TimeBounds

NOW = 1_700_000_000_000


def page(stamps: list[object]) -> RawPage:
    data = [{"id": f"e{number}", "timestamp": stamp} for number, stamp in enumerate(stamps)]
    body = json.dumps({"data": data, "hasMore": False}).encode()
    return page_of(PageAddress(PageId("w", 0), None, None), envelope_of(body), body, 100)


@pytest.mark.parametrize(
    ("stamps", "bounds"),
    [
        ([NOW - number for number in range(7)], TimeBounds(NOW - 4, NOW - 2)),
        ([3.5, *(NOW - number for number in range(6)), 3.5, NOW - 6, NOW - 7], TimeBounds(NOW - 4, NOW - 2)),
        ([NOW, NOW + 10**9, *(NOW - number for number in range(1, 8))], TimeBounds(NOW - 4, NOW - 2)),
        ([NOW + number for number in range(7)], None),
        ([NOW] * 50, None),
        ([None, True], None),
    ],
)
def test_a_question_is_about_a_stretch_that_is_in_order(stamps: list[object], bounds: TimeBounds | None) -> None:
    question = question_about(page(stamps))
    assert (None if question is None else question.bounds) == bounds


@pytest.mark.parametrize(
    ("answer", "reading"),
    [
        ([NOW - 2, NOW - 3, NOW - 4], TimeReading(since_inclusive=True, until_inclusive=True)),
        ([NOW - 3], TimeReading(since_inclusive=False, until_inclusive=False)),
        ([None, NOW - 3, None], TimeReading(since_inclusive=False, until_inclusive=False)),
        ([NOW - 2, NOW - 3, NOW - 4, NOW - 5], TimeReading(since_inclusive=None, until_inclusive=True)),
        ([NOW, NOW - 1, NOW - 2, NOW - 3], NOT_HEEDED),
        ([None], NOT_HEEDED),
        ([], NOT_HEEDED),
    ],
)
def test_an_answer_tells_how_bounds_are_read_also_where_an_event_at_its_end_is_odd(
    answer: list[object], reading: TimeReading
) -> None:
    question = question_about(page([NOW - number for number in range(7)]))
    assert question is not None
    assert question.read(page(answer)) == reading


def test_a_reading_is_told_in_words() -> None:
    assert TimeReading(since_inclusive=True, until_inclusive=False).in_words() == "since is inclusive, until exclusive"
    assert NOT_HEEDED.in_words() == "since is not heeded, until not heeded"
