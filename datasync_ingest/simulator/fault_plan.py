"""Which faults fall on which request, and what they do to the events of its page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple

from .damage import DAMAGES, damaged
from .faults import ANSWER_FAULTS, NEEDS_CURSOR, Rule
from .paging import Page


class DamagedEvent(NamedTuple):
    """An event that was served damaged: its number, and the damages in their order."""

    event: int
    damages: tuple[str, ...]


def damaged_by(text: bytes, names: Sequence[str], seed: int, index: int | None) -> bytes:
    """The event's text with these damages: the same for the same event, wherever on a page it stands.

    In the order of `DAMAGES`: those that need JSON which can be read come before those that make it unreadable.
    """
    for name in sorted(names, key=list(DAMAGES).index):
        text = damaged(text, name, Random(f"{seed} {name} {index}"))
    return text


class FaultPlan:
    """Draws the faults of each request; the same seed and the same order of requests give the same faults."""

    def __init__(self, rules: Sequence[Rule], seed: int, served: set[DamagedEvent] | None = None) -> None:
        """`served` takes note of every damaged event."""
        self._served = set() if served is None else served
        self._rules = rules
        self._seed = seed
        self._random = Random(f"faults {seed}")
        self._requests = 0
        self._due = [rule for rule in rules if rule.request is not None]

    def draw(self, *, has_cursor: bool) -> list[str]:
        """The names due for the request that has come now: at most one for the answer, any number for events.

        One that is due at a request that it cannot spoil (no cursor to repeat) waits for the next.
        """
        self._requests += 1
        possible = [rule for rule in self._due if has_cursor or rule.fault not in NEEDS_CURSOR]
        ready = [rule for rule in possible if (rule.request or 0) <= self._requests]
        names = self._chosen(ready, has_cursor=has_cursor)
        return list(names)

    def damage(self, page: Page, due: Sequence[str]) -> tuple[Page, list[str]]:
        """The page with its damaged events, and the damages' names; `due` ones fall on the event in the middle.

        What has a probability damages the same events whenever they are served.
        """
        rules = [rule for rule in self._rules if rule.fault in DAMAGES and rule.probability]
        if not page.places or not (rules or due):
            return page, []
        middle = page.places[len(page.places) // 2]
        texts, names = [], []
        for place in page.places:
            text = bytes(page.listing.text(range(place, place + 1)))
            index = page.listing.event_index(place)
            wanted = [rule.fault for rule in rules if self._falls_on(rule, index)]
            wanted += due if place == middle else []
            names += wanted
            texts.append(damaged_by(text, wanted, self._seed, index))
            if wanted and index is not None:
                self._served.add(DamagedEvent(index, tuple(wanted)))
        return replace(page, text=b",".join(texts)), names

    def _falls_on(self, rule: Rule, index: int | None) -> bool:
        return Random(f"{self._seed} {rule.fault} {index}").random() < rule.probability

    def _chosen(self, ready: Sequence[Rule], *, has_cursor: bool) -> Iterator[str]:
        answer = False
        for rule in ready:
            if rule.fault in DAMAGES or not answer:
                answer = answer or rule.fault in ANSWER_FAULTS
                self._due.remove(rule)
                yield rule.fault
        for rule in self._rules:
            if answer or rule.fault not in ANSWER_FAULTS or not rule.probability:
                continue
            if self._random.random() < rule.probability and (has_cursor or rule.fault not in NEEDS_CURSOR):
                answer = True
                yield rule.fault
