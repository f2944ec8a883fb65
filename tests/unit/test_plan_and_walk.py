"""Where a walk begins again, and how it follows its cursor: against an API that is a list."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasync_ingest.errors import CursorExpiredError
from datasync_ingest.ledger import Walk
from datasync_ingest.messages import CompletedPage, Counts, PageAddress, PageFacts, PageId, Position, RawPage
from datasync_ingest.plan import (
    ACTIVE,
    FINISHED,
    SUPERSEDED,
    TOPPED_UP,
    Plan,
    Rewalk,
    SoFar,
    branch,
    from_the_start,
    is_over,
    next_plan,
    onward,
    rebuilt,
    superseded,
)
from datasync_ingest.walk import DivergedError, follow

WALK = Walk("7d1f", until=None, cursor=None, after=None, head=None, state=ACTIVE)


class ListedApi:
    """Serves positions newest first, `limit` a page; the cursor is the index, and carries a serial like an expiry."""

    def __init__(self, length: int, limit: int) -> None:
        self.positions = [Position(length - index, f"e{index}") for index in range(length)]
        self.limit = limit
        self.fetched: list[int] = []

    def fetch(self, address: PageAddress) -> RawPage:
        start = 0 if address.cursor is None else int(address.cursor.split("~")[0])
        self.fetched.append(start)
        found = self.positions[start : start + self.limit]
        ends = start + self.limit >= len(self.positions)
        return RawPage(
            page=address.page,
            cursor=address.cursor,
            next_cursor=None if ends else f"{start + self.limit}~{len(self.fetched)}",
            ends_walk=ends,
            limit=self.limit,
            received=len(found),
            after=address.after,
            first=found[0] if found else None,
            last=found[-1] if found else None,
            total=len(self.positions),
            request_id=None,
            body=repr([position.event_id for position in found]).encode(),
        )


def completed(page: RawPage) -> CompletedPage:
    return CompletedPage.of(page, counts=Counts(page.received, page.received))


def ids_of(pages: Sequence[RawPage]) -> list[str]:
    return [event_id for page in pages for event_id in eval(page.body)]


def test_a_walk_yields_every_event_once_in_order() -> None:
    api = ListedApi(23, 5)
    pages = list(follow(from_the_start("all"), api))
    assert ids_of(pages) == [f"e{index}" for index in range(23)]
    assert [page.page.sequence for page in pages] == [0, 1, 2, 3, 4]
    assert [page.ends_walk for page in pages] == [False] * 4 + [True]


@given(
    length=st.integers(1, 60),
    limit=st.integers(1, 13),
    kept=st.sets(st.integers(0, 60)),
)
def test_a_resumed_walk_fetches_exactly_what_is_not_completed(length: int, limit: int, kept: set[int]) -> None:
    first = list(follow(Plan(WALK, 0, None, None), ListedApi(length, limit)))
    done = [completed(page) for page in first if page.page.sequence in kept]
    if is_over(done):
        return
    api = ListedApi(length, limit)
    again = list(follow(onward(WALK, done), api))
    assert sorted(page.page.sequence for page in again) == [
        page.page.sequence for page in first if page.page.sequence not in kept
    ]
    assert len(api.fetched) == len(again)
    assert {page.page for page in first} == {page.page for page in done} | {page.page for page in again}
    by_sequence = {page.page.sequence: page.body for page in first}
    assert all(by_sequence[page.page.sequence] == page.body for page in again)


@given(
    length=st.integers(2, 60),
    limit=st.integers(1, 13),
    other_limit=st.integers(1, 13),
    kept=st.sets(st.integers(0, 60)),
)
def test_another_page_size_on_resume_loses_nothing(length: int, limit: int, other_limit: int, kept: set[int]) -> None:
    first = list(follow(Plan(WALK, 0, None, None), ListedApi(length, limit)))
    done = [page for page in first if page.page.sequence in kept]
    if is_over([completed(page) for page in done]):
        return
    api, got, identities = ListedApi(length, other_limit), list(done), {page.page for page in done}
    plan = onward(WALK, [completed(page) for page in done])
    for _ in range(2):
        try:
            for page in follow(plan, api):
                assert page.page not in identities, "a page's identity must never stand for two contents"
                identities.add(page.page)
                got.append(page)
            break
        except DivergedError as diverged:
            walk = branch(diverged.at).walk
            plan = onward(walk, [])
    else:
        pytest.fail("the branch diverged as well")
    assert set(ids_of(got)) == {f"e{index}" for index in range(length)}


def test_a_gap_that_was_filled_by_a_smaller_page_is_a_gap_still() -> None:
    first = list(follow(Plan(WALK, 0, None, None), ListedApi(15, 5)))
    smaller = next(follow(onward(WALK, [completed(first[0]), completed(first[2])]), ListedApi(15, 2)))
    known = [completed(page) for page in (first[0], smaller, first[2])]
    assert not is_over(known)
    with pytest.raises(DivergedError):
        list(follow(onward(WALK, known), ListedApi(15, 5)))


def test_a_walk_whose_last_page_is_known_fetches_only_the_gap() -> None:
    first = list(follow(Plan(WALK, 0, None, None), ListedApi(20, 5)))
    done = [completed(first[0]), completed(first[2]), completed(first[3])]
    api = ListedApi(20, 5)
    assert [page.page.sequence for page in follow(onward(WALK, done), api)] == [1]
    assert api.fetched == [5]


def test_a_top_up_ends_with_the_page_that_reaches_the_head_of_the_finished_walk() -> None:
    api = ListedApi(50, 5)
    pages = list(follow(from_the_start("new", until=api.positions[7]), api))
    assert len(pages) == 2
    assert pages[-1].ends_walk
    assert pages[-1].next_cursor is not None


def test_a_top_up_that_begins_at_the_head_is_one_page_even_where_all_of_it_is_of_one_millisecond() -> None:
    api = ListedApi(10, 5)
    api.positions = [Position(7, f"e{index}") for index in range(10)]
    assert len(list(follow(from_the_start("new", until=api.positions[0]), api))) == 1


def test_the_walk_is_not_ended_by_an_equal_timestamp_alone() -> None:
    api = ListedApi(10, 5)
    until = Position(api.positions[4].timestamp_ms, "another event of the same millisecond")
    assert len(list(follow(from_the_start("new", until=until), api))) == 2


class MortalApi(ListedApi):
    """A listed API whose cursors die when the test says so; `steps` tells what was asked of it, in order."""

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(length, limit)
        self.dead: set[str | None] = set()
        self.dies_at_once = False
        self.steps: list[str] = []

    def fetch(self, address: PageAddress) -> RawPage:
        self.steps.append(f"fetch {address.page.sequence}")
        if address.cursor is not None and (address.cursor in self.dead or self.dies_at_once):
            raise CursorExpiredError(f"the cursor of page {address.page.sequence} has expired")
        return super().fetch(address)


class Renewer:
    """Gives a cursor for what follows `last`, with a serial of its own; as often as `times` says."""

    def __init__(self, api: MortalApi, times: int = 99) -> None:
        self.api = api
        self.times = times

    def next_cursor(self, last: PageFacts, expired: CursorExpiredError) -> str | None:
        assert last.last is not None
        self.api.steps.append(f"renew after {last.page.sequence}")
        self.times -= 1
        index = self.api.positions.index(last.last) + 1
        return f"{index}~renewed{self.times}" if self.times >= 0 else None


def resumed(api: MortalApi, kept: set[int]) -> Plan:
    """A walk of which the pages `kept` are completed, and all of whose cursors have died since."""
    done = [completed(page) for page in follow(Plan(WALK, 0, None, None), api) if page.page.sequence in kept]
    api.dead = {page.next_cursor for page in done}
    api.steps.clear()
    return onward(WALK, done)


def test_an_expired_cursor_is_renewed_and_the_page_before_it_is_not_yielded_again() -> None:
    api = MortalApi(23, 5)
    plan = resumed(api, {0, 1})
    pages = list(follow(plan, api, Renewer(api)))
    assert api.steps == ["fetch 2", "renew after 1", "fetch 2", "fetch 3", "fetch 4"]
    assert ids_of(pages) == [f"e{index}" for index in range(10, 23)]
    assert [page.page.sequence for page in pages] == [2, 3, 4]


def test_a_cursor_behind_known_pages_is_renewed_with_the_last_of_them() -> None:
    api = MortalApi(25, 5)
    plan = resumed(api, {0, 2, 3})
    pages = list(follow(plan, api, Renewer(api)))
    assert [page.page.sequence for page in pages] == [1, 4]
    assert api.steps == ["fetch 1", "renew after 0", "fetch 1", "fetch 4", "renew after 3", "fetch 4"]


def test_a_cursor_that_dies_in_mid_walk_is_renewed_with_the_page_that_was_just_fetched() -> None:
    api = MortalApi(15, 5)
    walking = follow(from_the_start("all"), api, Renewer(api))
    first = next(walking)
    api.dead.add(first.next_cursor)
    assert ids_of([first, *walking]) == [f"e{index}" for index in range(15)]
    assert api.steps == ["fetch 0", "fetch 1", "renew after 0", "fetch 1", "fetch 2"]


def test_a_renewal_that_brings_no_page_is_not_tried_again() -> None:
    api = MortalApi(15, 5)
    plan = resumed(api, {0})
    api.dies_at_once = True
    with pytest.raises(CursorExpiredError, match="page 1"):
        list(follow(plan, api, Renewer(api)))
    assert api.steps == ["fetch 1", "renew after 0", "fetch 1"]


@pytest.mark.parametrize("times", [0, None], ids=["a renewal that fails", "no renewal"])
def test_without_a_renewed_cursor_the_walk_ends_as_expired(times: int | None) -> None:
    api = MortalApi(15, 5)
    plan = resumed(api, {0})
    with pytest.raises(CursorExpiredError):
        list(follow(plan, api, None if times is None else Renewer(api, times)))
    assert api.steps == ["fetch 1", "renew after 0"][: 1 if times is None else 2]


def test_a_walk_that_begins_at_a_cursor_has_no_page_to_renew_it_with() -> None:
    api = MortalApi(15, 5)
    api.dies_at_once = True
    with pytest.raises(CursorExpiredError):
        list(follow(Plan(WALK, 0, "5~1", api.positions[4]), api, Renewer(api)))
    assert api.steps == ["fetch 0"]


def no_pages(walk: str) -> Sequence[CompletedPage]:
    return []


FINISHED_WALK = Walk("f1", None, None, None, Position(5, "head"), FINISHED)
EXPIRED_WALK = Walk("e1", None, None, None, Position(4, "old"), "expired")
EMPTY_WALK = Walk("n1", None, None, None, None, FINISHED)


FRESH, TOPPED = SoFar(), SoFar(topped_up=True)
SHORT = SoFar(topped_up=True, missing=7)


# Walks in the sidecar | what this run has done | what is allowed | the walk that comes next
NEXT = [
    ([], FRESH, Rewalk.IF_SHORT, "every event"),
    ([EXPIRED_WALK], FRESH, Rewalk.IF_SHORT, "every event"),
    ([FINISHED_WALK], FRESH, Rewalk.IF_SHORT, "what is new"),
    ([FINISHED_WALK], TOPPED, Rewalk.IF_SHORT, None),
    ([FINISHED_WALK], SHORT, Rewalk.IF_SHORT, "7 events are missing: everything once more"),
    ([FINISHED_WALK], SHORT, Rewalk.NEVER, None),
    ([FINISHED_WALK], TOPPED, Rewalk.ALWAYS, "everything once more"),
    ([FINISHED_WALK], SoFar(walked=True), Rewalk.ALWAYS, "everything once more"),
    ([FINISHED_WALK], SoFar(walked=True, walked_anew=True), Rewalk.ALWAYS, None),
    ([FINISHED_WALK], SoFar(walked=True), Rewalk.IF_SHORT, None),
    ([FINISHED_WALK], SoFar(walked=True, missing=3), Rewalk.IF_SHORT, "what is new"),
    ([FINISHED_WALK], SoFar(walked=True, topped_up=True, missing=3), Rewalk.IF_SHORT, None),
    ([FINISHED_WALK, WALK], FRESH, Rewalk.IF_SHORT, "walk 7d1f from its start"),
    ([FINISHED_WALK, EXPIRED_WALK], FRESH, Rewalk.IF_SHORT, "what is new"),
    ([EMPTY_WALK], FRESH, Rewalk.IF_SHORT, "no event tells where the last walk began"),
    ([EMPTY_WALK], SoFar(walked=True), Rewalk.IF_SHORT, None),
]


@pytest.mark.parametrize(("walks", "so_far", "rewalk", "expected"), NEXT)
def test_the_next_walk(walks: list[Walk], so_far: SoFar, rewalk: Rewalk, expected: str | None) -> None:
    plan = next_plan(walks, no_pages, so_far, rewalk)
    assert (plan is None) == (expected is None)
    if plan is not None and expected is not None:
        assert expected in plan.reason
        assert (plan.walk.until == FINISHED_WALK.head) == ("what is new" in expected)


def test_a_branch_begins_where_its_walk_stood() -> None:
    at = Plan(WALK, 9, "cursor", Position(3, "x"))
    walk = branch(at).walk
    assert (walk.cursor, walk.after, walk.walk != WALK.walk) == ("cursor", Position(3, "x"), True)
    assert onward(walk, []).cursor == "cursor"


@given(st.one_of(st.none(), st.integers(-(2**62), 2**62)), st.text())
def test_a_position_survives_its_text(timestamp_ms: int | None, event_id: str) -> None:
    position = Position(timestamp_ms, event_id)
    assert Position.from_text(position.to_text()) == position


def test_page_ids_are_short_in_sentences() -> None:
    assert str(PageId("0123456789abcdef", 12)) == "01234567/12"


def pages_of(walk: str, first: int, length: int, sequences: Sequence[int], *, after: int | None = None):
    """Pages of one event each, from position `first` downwards, of which these are in the database."""
    found = []
    for sequence in sequences:
        at = first - sequence
        before = None if sequence == 0 and after is None else Position(at + 1, f"e{at + 1}")
        found.append(
            CompletedPage(
                PageId(walk, sequence),
                cursor=None if before is None else f"c{at + 1}",
                next_cursor=None if sequence == length - 1 else f"c{at}",
                ends_walk=sequence == length - 1,
                limit=1,
                received=1,
                after=before,
                first=Position(at, f"e{at}"),
                last=Position(at, f"e{at}"),
                counts=Counts(1, 1),
            )
        )
    return found


def top_up_of(walk: str, first: int, length: int):
    """Pages of a walk that ended above the oldest event."""
    pages = pages_of(walk, first, first, range(length))
    return [*pages[:-1], dataclasses.replace(pages[-1], ends_walk=True)]


def at(place: int) -> Position:
    return Position(place, f"e{place}")


def test_a_rebuilt_walk_goes_on_down_to_what_a_finished_one_has_read() -> None:
    walks = rebuilt([*pages_of("new", 20, 20, range(3)), *pages_of("full", 10, 10, range(10))], [])
    assert walks == [
        Walk("full", None, None, None, at(10), FINISHED),
        Walk("new", at(10), None, None, at(20), ACTIVE),
    ]


def test_a_rebuilt_walk_that_was_given_up_is_not_gone_on_with() -> None:
    walks = rebuilt([*pages_of("expired", 10, 10, range(3)), *pages_of("full", 12, 12, range(12))], [])
    assert [(walk.walk, walk.state) for walk in walks] == [("expired", SUPERSEDED), ("full", FINISHED)]


def test_a_walk_that_another_data_directory_gave_up_is_not_gone_on_with() -> None:
    own = Walk("own", None, None, None, at(12), FINISHED)
    assert [walk.state for walk in rebuilt(pages_of("theirs", 10, 10, range(3)), [own])] == [SUPERSEDED]


def test_a_rebuilt_branch_begins_where_it_did() -> None:
    pages = [*pages_of("diverged", 20, 20, [0, 1, 5]), *pages_of("branch", 18, 18, range(4), after=19)]
    walks = rebuilt(pages, [])
    assert Walk("branch", None, "c19", at(19), at(18), ACTIVE) in walks
    plan = next_plan(walks, lambda walk: [page for page in pages if page.page.walk == walk], SoFar())
    assert plan is not None
    assert (plan.walk.walk, plan.sequence, plan.after) == ("diverged", 2, at(19))


def test_a_rebuilt_walk_without_its_first_page_begins_at_the_newest_event() -> None:
    pages = pages_of("late", 10, 10, [1, 2])
    (walk,) = rebuilt(pages, [])
    assert walk == Walk("late", None, None, None, None, ACTIVE)
    assert onward(walk, pages).cursor is None


def test_of_rebuilt_walks_none_goes_on_below_one_that_has_come_to_its_end_since() -> None:
    walks = rebuilt([*pages_of("newer", 12, 12, range(2)), *pages_of("older", 10, 10, range(3))], [])
    assert [walk.walk for walk in walks] == ["older", "newer"]
    assert superseded(walks) == []
    ended = [walks[0], dataclasses.replace(walks[1], state=FINISHED)]
    assert superseded(ended) == [walks[0]]


def test_what_is_new_is_read_down_to_the_newest_finished_walk() -> None:
    walks = [Walk("own", None, None, None, at(12), FINISHED), Walk("theirs", None, None, None, at(10), FINISHED)]
    plan = next_plan(walks, lambda _: [], SoFar())
    assert plan is not None
    assert plan.walk.until == at(12)


def test_a_walk_that_was_asked_for_says_so_and_not_that_anything_is_missing() -> None:
    walks = [Walk("own", None, None, None, at(12), FINISHED)]
    plan = next_plan(walks, lambda _: [], SoFar(topped_up=True), Rewalk.ALWAYS)
    assert plan is not None
    assert plan.reason == "everything once more, as --rewalk says"


def test_a_rebuilt_walk_with_a_hole_below_a_finished_top_up_is_gone_on_with() -> None:
    holed = pages_of("holed", 10, 10, [0, *range(2, 10)])
    top_up = [
        dataclasses.replace(page, ends_walk=page.page.sequence == 2) for page in pages_of("top", 12, 12, range(3))
    ]
    walks = rebuilt([*holed, *top_up], [])
    assert [(walk.walk, walk.state, walk.until) for walk in walks] == [
        ("holed", ACTIVE, None),
        ("top", TOPPED_UP, None),
    ]
    plan = next_plan(walks, lambda walk: holed if walk == "holed" else top_up, SoFar())
    assert plan is not None
    assert (plan.walk.walk, plan.sequence) == ("holed", 1)
    assert superseded(walks) == []


def test_a_rebuilt_top_up_that_came_down_to_a_finished_walk_is_finished() -> None:
    top_up = [
        dataclasses.replace(page, ends_walk=page.page.sequence == 2) for page in pages_of("top", 12, 12, range(3))
    ]
    walks = rebuilt([*pages_of("full", 10, 10, range(10)), *top_up], [])
    assert [(walk.walk, walk.state) for walk in walks] == [("full", FINISHED), ("top", FINISHED)]
