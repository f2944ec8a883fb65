"""What the next walk is, and where it begins: pure decisions over what the ledger knows."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from .ledger import Walk
from .messages import KnownPage, PageFacts, Position

FINISHED = "finished"
ACTIVE = "active"


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


def onward(walk: Walk, pages: Sequence[KnownPage]) -> Plan:
    """The same walk from the end of its unbroken known prefix. `pages`: its known ones, by sequence."""
    prefix = _unbroken(pages)
    known = {page.page.sequence: page for page in pages[len(prefix) :]}
    seen = frozenset(page.next_cursor for page in prefix if page.next_cursor is not None)
    if not prefix:
        return Plan(walk, 0, walk.cursor, walk.after, known, seen, reason=f"walk {walk.walk[:8]} from its start")
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
    walk = Walk(str(uuid.uuid4()), plan.walk.until, plan.cursor, plan.after, plan.walk.head, ACTIVE)
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
    heads = [walk.head for walk in finished if walk.head is not None]
    if heads and not so_far.topped_up and (so_far.missing or not so_far.walked):
        return from_the_start("what is new since the last finished walk", until=heads[-1])
    if so_far.walked:
        return None
    if not heads:
        return from_the_start("there was no event at the last run: from the newest to the oldest")
    if rewalk is Rewalk.ALWAYS or (so_far.missing and rewalk is Rewalk.IF_SHORT):
        return from_the_start(f"{so_far.missing:,} events are missing: everything once more, from the newest event")
    return None


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
