"""What the next walk is, and where it begins: pure decisions over what the ledger knows."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import groupby

from .coverage import Gap, gaps
from .ledger import Walk
from .messages import FEED, KnownPage, PageFacts, Position

FINISHED = "finished"
ACTIVE = "active"
TOPPED_UP = "read what was new, above a gap"
SUPERSEDED = "superseded"  # by a finished walk that began at a newer event


@dataclass(frozen=True, slots=True)
class Plan:
    """A walk and the place in it from which to go on.

    `known` are pages at or beyond that place that need not be fetched, by sequence: they are skipped when their
    position fits. `ended`: all of the walk is known. `last` is the
    page before that place, where it is known. `reason` is a sentence for the log.
    """

    walk: Walk
    sequence: int
    cursor: str | None
    after: Position | None
    known: dict[int, KnownPage] = field(default_factory=dict, repr=False)
    seen_cursors: frozenset[str] = field(default_factory=frozenset, repr=False)
    is_new: bool = False
    ended: bool = False
    reason: str = ""
    last: PageFacts | None = field(default=None, repr=False)


def from_the_start(reason: str, *, until: Position | None = None) -> Plan:
    """A new walk from the newest event, to the oldest or to `until`."""
    walk = Walk(str(uuid.uuid4()), until=until, cursor=None, after=None, head=None, state=ACTIVE)
    return Plan(walk, 0, None, None, is_new=True, reason=reason)


def extent_of(sweep: Walk) -> Gap:
    """What a sweep is to read: to where an older walk began, and from where one came to that it goes on with."""
    return Gap(
        since=None if sweep.until is None else sweep.until.timestamp_ms,
        until=None if sweep.after is None else sweep.after.timestamp_ms,
    )


def can_sweep(walk: Walk) -> bool:
    """Whether times tell what a new walk is to read."""
    return walk.until is None or walk.until.timestamp_ms is not None


def onward(walk: Walk, pages: Sequence[KnownPage]) -> Plan:
    """The same walk from the end of its unbroken known prefix. `pages`: its known ones, by sequence."""
    prefix = _unbroken(pages)
    known = {page.page.sequence: page for page in pages[len(prefix) :]}
    seen = frozenset(page.next_cursor for page in prefix if page.next_cursor is not None)
    if not prefix:
        where = ", what its chains have not read" if walk.is_sweep else " from its start"
        return Plan(walk, 0, walk.cursor, walk.after, known, seen, reason=f"walk {walk.walk[:8]}{where}")
    last = prefix[-1]
    reason = f"walk {walk.walk[:8]} after page {last.page.sequence}"
    return Plan(
        walk,
        last.page.sequence + 1,
        last.next_cursor,
        last.last,
        known,
        seen,
        ended=last.ends_walk,
        reason=reason,
        last=last,
    )


def branch(plan: Plan) -> Plan:
    """A new walk from where `plan` stands, for when the known pages beyond do not fit what the API serves there."""
    walk = replace(plan.walk, walk=str(uuid.uuid4()), cursor=plan.cursor, after=plan.after, state=ACTIVE)
    return Plan(walk, 0, plan.cursor, plan.after, is_new=True, reason=f"walk {plan.walk.walk[:8]} branches")


class Rewalk(Enum):
    """When a finished walk from the newest event to the oldest is made once more."""

    IF_SHORT = "when events are missing that a top-up has not brought"
    NEVER = "not at all"
    ALWAYS = "once, whatever the books say"


@dataclass(frozen=True, slots=True)
class SoFar:
    """What this run has finished: a walk to the oldest event, a walk for what is new; how many events are missing."""

    walked: bool = False
    topped_up: bool = False
    missing: int = 0
    walked_anew: bool = False  # a walk to the oldest event that this run began


def next_plan(
    walks: Sequence[Walk],
    pages_of: Callable[[str], Sequence[KnownPage]],
    so_far: SoFar,
    rewalk: Rewalk = Rewalk.IF_SHORT,
) -> Plan | None:
    """The walk that comes next; None when this run has nothing more to walk. `walks`: in the order of their beginning.

    Unfinished walks come first, so that no hole stays behind a finished one; then what is new; and only where that does
    not make the books whole, everything once more, at most once a run.
    """
    active = [walk for walk in walks if walk.state == ACTIVE]
    if active:
        return onward(active[-1], pages_of(active[-1].walk))
    finished = [walk for walk in walks if walk.state == FINISHED]
    if not finished:
        return from_the_start("every event, from the newest to the oldest")
    head = newest(finished)
    if head is not None and not so_far.topped_up and (so_far.missing or not so_far.walked):
        return from_the_start("what is new since the last finished walk", until=head)
    if rewalk is Rewalk.ALWAYS and not so_far.walked_anew:
        return from_the_start("everything once more, as --rewalk says")
    if so_far.walked:
        return None
    if head is None:
        return from_the_start("no event tells where the last walk began: from the newest to the oldest")
    if so_far.missing and rewalk is not Rewalk.NEVER:
        return from_the_start(f"{so_far.missing:,} events are missing: everything once more, from the newest event")
    return None


def newest(walks: Iterable[Walk]) -> Position | None:
    """The newest of the events at which these walks began, of equally old ones the last."""
    heads = [walk.head for walk in walks if walk.head is not None]
    return max(reversed(heads), key=_age, default=None)


def superseded(walks: Sequence[Walk]) -> list[Walk]:
    """Unfinished walks that need not go on: a later one, which began at a newer event or the same, is finished.

    There are none but where pages were adopted whose walks the sidecar did not know.
    """
    found = []
    for number, walk in enumerate(walks):
        finished = newest(later for later in walks[number + 1 :] if later.state == FINISHED)
        if walk.state == ACTIVE and _is_behind(walk, finished):
            found.append(walk)
    return found


def rebuilt(pages: Iterable[KnownPage], known: Sequence[Walk]) -> list[Walk]:
    """Walks that only the database knows, from all of their pages, in an order in which the newest head comes last.

    Those that came to the oldest event are finished, and those for what was new that came down to where one of these
    began. Others need not go beyond the newest event at which a finished walk began, one of `known` or of these: below
    it everything has been read; they are superseded if they began there. Where the first page is not known, neither is
    where the walk began: it begins at the newest event.
    """
    by_walk = groupby(sorted(pages, key=lambda page: (walk_of(page), page.page.sequence)), walk_of)
    found = sorted((_entered(walk, list(its_pages)) for walk, its_pages in by_walk), key=_age_of_head)
    read = newest(walk for walk in [*known, *(walk for walk, _ in found)] if walk.state == FINISHED)
    walks = []
    for walk, lowest in found:
        if walk.state == TOPPED_UP and _age(lowest) <= _age(read) and read is not None:
            walks.append(replace(walk, state=FINISHED))
            read = newest([*known, *walks])
        else:
            walks.append(walk)
    return [_until(walk, read) for walk in walks]


def _entered(walk: str, pages: Sequence[KnownPage]) -> tuple[Walk, Position | None]:
    """A walk as its pages tell it, and how far down it came; of a sweep that is nowhere as long as there are gaps."""
    if pages[0].window is not None:
        heads = [position for page in pages for position in (page.first, page.last) if position is not None]
        state = ACTIVE if gaps(pages, Gap()) else FINISHED
        head = max(heads, key=_age, default=None)
        return Walk(walk, None, None, None, head, state, FEED, is_sweep=True), None
    first, over = pages[0], is_over(pages)
    state = ACTIVE if not over else FINISHED if pages[-1].next_cursor is None else TOPPED_UP
    if first.page.sequence != 0:
        return Walk(walk, None, None, None, None, ACTIVE), None
    positions = (position for page in pages for position in (page.first, page.last))
    head = next((position for position in positions if position is not None), None)
    return Walk(walk, None, first.cursor, first.after, head, state), pages[-1].last


def _age_of_head(found: tuple[Walk, Position | None]) -> float:
    return _age(found[0].head)


def _until(walk: Walk, read: Position | None) -> Walk:
    if walk.state != ACTIVE:
        return walk
    return replace(walk, state=SUPERSEDED) if _is_behind(walk, read) else replace(walk, until=read)


def _is_behind(walk: Walk, read: Position | None) -> bool:
    """Whether a walk began at an event from which on everything has been read."""
    return walk.head is not None and read is not None and (walk.head == read or _age(walk.head) < _age(read))


def walk_of(page: KnownPage) -> str:
    """The walk that a page belongs to: the sweep, for a page of one of its windows."""
    return page.page.walk if page.window is None else page.window.sweep


def _age(position: Position | None) -> float:
    """Larger for newer events; what has no readable timestamp is taken for older than all others."""
    return -math.inf if position is None or position.timestamp_ms is None else position.timestamp_ms


def is_over(pages: Sequence[KnownPage]) -> bool:
    """Whether these pages of a walk are all there are."""
    prefix = _unbroken(pages)
    return bool(prefix) and prefix[-1].ends_walk


def _unbroken(pages: Sequence[KnownPage]) -> Sequence[KnownPage]:
    """Each begins where the one before ends: one that was fetched anew, with another limit, may end elsewhere."""
    length = 0
    for page in pages:
        if page.page.sequence != length or (length and page.after != pages[length - 1].last):
            break
        length += 1
    return pages[:length]
