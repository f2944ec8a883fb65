"""The kinds of answers to a request, told by its status and its outcome, see RequestEnded."""

from __future__ import annotations

from ..ledger.run_history import PastRequest

PAGE = "page"
CACHED = "page from the cache"
PROBE = "probe"
GOOD = frozenset({PAGE, CACHED, PROBE})
LIMITED = "too many requests (429)"
NO_ANSWER = "no whole answer"
_BY_OUTCOME = {
    "probe": PROBE,
    "limited": LIMITED,
    "web page": "web page",
    "not whole": "no whole page",
    "too large": "page too large",
    "contradiction": "contradiction",
}


def kind_of(request: PastRequest) -> str:
    """A few words."""
    if request.outcome == "page":
        return CACHED if request.cached else PAGE
    if known := _BY_OUTCOME.get(request.outcome):
        return known
    if request.status is None:
        return NO_ANSWER
    return f"{'refused' if request.outcome == 'refused' else 'server error'} ({request.status})"
