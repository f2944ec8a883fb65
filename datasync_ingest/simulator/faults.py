"""The faults that were seen in the wild, by name, and how it is said when each of them is due."""

from __future__ import annotations

from dataclasses import dataclass

from .damage import DAMAGES

# Name -> what it does to one answer. Those of a load balancer do not count against the rate limit and carry no headers.
ANSWER_FAULTS = {
    "500": "the application fails",
    "502": "the load balancer fails: bad gateway",
    "503": "the load balancer fails: unavailable",
    "504": "the load balancer fails: time-out",
    "429": "too many requests, with Retry-After in seconds",
    "429-http-date": "too many requests, with Retry-After as a date",
    "429-no-retry-after": "too many requests, without Retry-After",
    "reset": "the connection is reset in the middle of the body",
    "cut": "the body ends in the middle, and Content-Length agrees",
    "slow": "the answer takes --slow-s",
    "html": "a web page with status 200",
    "no-cursor": "more is promised, and no cursor given",
    "empty": "an empty page that promises more",
    "repeat-cursor": "the next cursor is the one that was asked with",
    "no-has-more": "the page does not say whether there is more",
    "repeat-event": "the page begins with the last event of the page before",
    "bomb": "a body of 200 MB of white space, compressed to almost nothing",
    "huge": "a body of 200 MB",
}
# Those of a submission. "Accepted" ones are in the list, and the client is not told so.
SUBMISSION_FAULTS = {
    "none": "no fault",
    "cut": "the connection is reset when half of the body has been read; the try is gone",
    "413": "the load balancer answers before it has read the body; the try is not gone",
    "413-app": "the application answers when it has read the body; the try is gone",
    "429": "too many requests; the try is not gone",
    "500": "the application fails; the try is gone",
    "502": "accepted, and the load balancer answers in the application's place",
    "lost": "accepted, and the connection is reset before the answer",
    "html": "accepted, and a web page with status 200",
    "unsuccessful": "status 200 and success: false; the try is gone",
    "miscounted": "accepted, with one id less than there are",
    "slow": "accepted; the answer takes --slow-s",
}
BALANCER = frozenset({"502", "503", "504", "html"})
LIMITED = frozenset({"429", "429-http-date", "429-no-retry-after"})
UNREADABLE = frozenset({"500", "reset", "cut", "no-cursor", "empty", "no-has-more", "bomb"}) | BALANCER | LIMITED
NEEDS_CURSOR = frozenset({"repeat-cursor", "repeat-event"})


@dataclass(frozen=True, slots=True)
class Rule:
    """A fault with its probability (for events: of each event), or due once at a request, counted from 1."""

    fault: str
    probability: float = 0.0
    request: int | None = None


def parse_rule(text: str) -> Rule:
    """`502=0.1` or `502@3`. Raises ValueError."""
    name, at, number = text.partition("@")
    if not at:
        name, _, number = text.partition("=")
    if name not in ANSWER_FAULTS and name not in DAMAGES:
        raise ValueError(f"is not a known fault; known: {', '.join([*ANSWER_FAULTS, *DAMAGES])}")
    if at:
        return Rule(name, request=int(number))
    probability = float(number)
    if not 0 <= probability <= 1:
        raise ValueError("is not a probability from 0 to 1")
    return Rule(name, probability)
