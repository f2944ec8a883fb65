"""Makes the dataset from a seed: the same events for the same numbers, on every machine and Python.

The shape is the one that was observed: sessions of 35 to 70 events interleaved with their neighbours, users that come
back, 30 days, and runs of equal timestamps, so long that they cross page borders whatever the page size.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import accumulate
from random import Random

from .dataset import Dataset, Session
from .rendering import Renderer, Shape, uuids

OLDEST_MS = 1_766_880_000_000  # 2025-12-28T00:00:00Z
NEWEST_MS = 1_769_541_612_369  # 2026-01-27T19:20:12.369Z

EVENTS_PER_SESSION = 50
EVENTS_PER_USER = 1_000
_SESSION_JITTER = 7  # either border of a session moves by at most so many events: 50 becomes 36 to 64
_SESSIONS_IN_A_GROUP = 64  # so many sessions are interleaved with each other
_DEVICES = ("mobile", "tablet", "desktop")
_BROWSERS = ("Chrome", "Firefox", "Safari", "Edge")

LONGEST_RUN = 6_000  # more than the largest page, so that some page border is inside, whatever the page size
_LONGEST_RUN_AROUND = 5_000  # the usual first page border, for data too small for a run of that length
_RUN_OF_HUNDREDS_EVERY = 5_000
# Length of a run by a random byte: most events share their timestamp with nobody, many with a few.
_RUN_LENGTHS = (1,) * 150 + (2,) * 80 + (5,) * 20 + (12,) * 6

_CHUNK = 4_096  # events rendered at once: few enough to stay in the processor's caches


def generate(events: int, seed: int, shape: Shape | None = None) -> Dataset:
    """Takes about 3 us and 375 bytes an event."""
    random = Random(f"events {seed}")
    sessions = _sessions(events, random)
    stamps = array("q", _stamps(events, random))
    numbers = array("I", _session_numbers(sessions, random))
    renderer = Renderer(shape or Shape(), sessions, stamps, numbers, random)
    buffer = bytearray()
    offsets = array("Q", [0])
    kinds = bytearray()
    for chunk in _chunks(stamps):
        texts, chunk_kinds = renderer.render(chunk)
        ends = accumulate(map(len, texts), initial=len(buffer))
        next(ends)
        offsets.extend(ends)
        buffer += b"".join(texts)
        kinds += chunk_kinds
    return Dataset(buffer, offsets, stamps, bytes(kinds), numbers, sessions)


def _sessions(events: int, random: Random) -> list[Session]:
    """The sessions in groups: each group has a stretch of events, in which each session has its number of them."""
    count = max(1, events // EVENTS_PER_SESSION)
    users = [user.decode() for user in uuids(max(1, events // EVENTS_PER_USER), random)]
    borders = [0, *(_border(number, count, events, random) for number in range(1, count)), events]
    return [
        Session(
            identifier.decode(),
            users[random.getrandbits(32) % len(users)],
            _DEVICES[random.getrandbits(32) % len(_DEVICES)],
            _BROWSERS[random.getrandbits(32) % len(_BROWSERS)],
            borders[number + 1] - borders[number],
            _group_span(number, borders),
        )
        for number, identifier in enumerate(uuids(count, random))
    ]


def _border(number: int, count: int, events: int, random: Random) -> int:
    return number * events // count + random.getrandbits(32) % (2 * _SESSION_JITTER + 1) - _SESSION_JITTER


def _group_span(number: int, borders: list[int]) -> range:
    first = number - number % _SESSIONS_IN_A_GROUP
    return range(borders[first], borders[min(first + _SESSIONS_IN_A_GROUP, len(borders) - 1)])


def _session_numbers(sessions: list[Session], random: Random) -> Iterator[int]:
    """For each event the number of its session."""
    for first in range(0, len(sessions), _SESSIONS_IN_A_GROUP):
        group = sessions[first : first + _SESSIONS_IN_A_GROUP]
        numbers = [first + place for place, session in enumerate(group) for _ in range(session.events)]
        random.shuffle(numbers)
        yield from numbers


def _stamps(events: int, random: Random) -> list[int]:
    """Epoch milliseconds, newest first, in runs of equal ones, evenly spread over the whole time."""
    stamps: list[int] = []
    per_event_ms = (NEWEST_MS - OLDEST_MS) / max(1, events)
    for length in _run_lengths(events, random):
        moment = NEWEST_MS - int((len(stamps) + random.random()) * per_event_ms)
        stamps += [moment] * length
    return stamps[:events]


def _run_lengths(events: int, random: Random) -> Iterator[int]:
    longest = min(LONGEST_RUN, events // 10)
    long_run_at = max(0, min(_LONGEST_RUN_AROUND, events // 2) - longest // 2)
    made = 0
    next_hundreds = _RUN_OF_HUNDREDS_EVERY // 2
    while made < events:
        length = _RUN_LENGTHS[random.getrandbits(8)]
        if longest and made >= long_run_at:
            length, longest = longest, 0
        elif made >= next_hundreds:
            length = min(100 + random.getrandbits(8), events // 10)
            next_hundreds += _RUN_OF_HUNDREDS_EVERY
        yield length
        made += length


def _chunks(stamps: array[int]) -> Iterator[range]:
    """Cuts the events where no run of equal timestamps is cut, so that ids can be put in order chunk by chunk."""
    first = 0
    while first < len(stamps):
        last = min(first + _CHUNK, len(stamps))
        while last < len(stamps) and stamps[last] == stamps[last - 1]:
            last += 1
        yield range(first, last)
        first = last
