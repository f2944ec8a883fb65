"""Whether a parameter is honoured or ignored, proved by comparing the answer with the first page's events.

Each question is made so that the two ways of the server lead to different answers, also when new events have appeared
at the head in the meantime.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..api.probing import NotAskedError
from ..api.reading import said
from .notes import Answer, Notes

_FEWEST = 20  # events of a first page that these comparisons need

Asks = Callable[[dict[str, str]], Answer]
Verdict = dict[str, Any]


def time_bounds(notes: Notes, asks: Asks) -> dict[str, Verdict]:
    """`since` and `until` in one request: until event number `a`, since event number `b`, more events than `b`.

    Honoured, the answer begins at `a` and ends at `b`; ignored, it begins before `a`, or goes on behind `b`.
    """
    times = [time for time in notes.sample.times_ms() if time is not None]
    newest_first = sorted(times, reverse=True)
    if len(newest_first) < _FEWEST:
        raise NotAskedError(f"it needs {_FEWEST} events with timestamps, and the first page has {len(newest_first)}")
    half = min(100, len(newest_first) // 2)
    until, since = newest_first[half // 2], newest_first[half]
    if until >= newest_first[0] or since >= until:
        raise NotAskedError("the first events have too few different times")
    answer = asks({"limit": str(2 * half), "since": str(since), "until": str(until)})
    if answer.page is None:
        told = _refused(answer)
        return {"since": told, "until": told}
    found = [time for time in answer.sample.times_ms() if time is not None]
    newer = sum(time > until for time in found)
    older = sum(time < since for time in found)
    return {
        "since": _verdict(not older, f"{older} of {len(found)} events are older than asked for", some=bool(found)),
        "until": _verdict(not newer, f"{newer} of {len(found)} events are newer than asked for", some=bool(found)),
    }


def offset(notes: Notes) -> Verdict:
    """From the middle of the first hundred events: honoured, the answer begins there; ignored, at the head."""
    ids = list(map(str, notes.sample.ids))
    if len(ids) < _FEWEST:
        raise NotAskedError(f"it needs {_FEWEST} events, and the first page has {len(ids)}")
    far = min(50, len(ids) // 2)
    answer = notes.events({"limit": "10", "offset": str(far)})
    if answer.page is None:
        return _refused(answer)
    found = answer.ids
    if not found:
        return {"honoured": None, "proof": "the answer holds no event"}
    place = ids.index(found[0]) if found[0] in ids else -1  # a newer one than any of the first page
    where = f"event {place + 1} of the first page" if place >= 0 else "an event that is new since"
    return _verdict(place > far // 2, f"the answer to offset={far} begins with {where}")


def session(notes: Notes) -> Verdict:
    """Of the last event that has one: honoured, all events are of that session, and fewer are counted."""
    sessions = [one for event in notes.sample.events if isinstance(one := event.get("sessionId"), str)]
    if len(set(sessions)) < 2:
        raise NotAskedError("it needs events of two sessions")
    wanted = sessions[-1]
    answer = notes.events({"limit": "100", "sessionId": wanted})
    if answer.page is None:
        return _refused(answer)
    found = [event.get("sessionId") for event in answer.sample.events]
    others = sum(isinstance(one, str) and one != wanted for one in found)
    return _verdict(not others, f"{others} of {len(found)} events are of another session", some=bool(found))


def _verdict(honoured: bool, proof: str, *, some: bool = True) -> Verdict:
    return {"honoured": honoured, "proof": proof} if some else {"honoured": None, "proof": "the answer holds no event"}


def _refused(answer: Answer) -> Verdict:
    return {"honoured": None, "proof": f"refused: {said(answer.response)}"}
