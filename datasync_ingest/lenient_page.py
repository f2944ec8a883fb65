"""A page, or an event of one, that msgspec refuses as a whole: its members by name and its events, as bytes.

{"data": [{"id": "a", "properties": {"ratio": NaN}}], "hasMore": false}
"""

from __future__ import annotations

from typing import NamedTuple

from .lenient_json import MalformedError, elements, members
from .storable import as_text


class Member(NamedTuple):
    """Where in an object's text a key (with its quotes) and its value stand."""

    key: slice
    value: slice


def members_by_name(text: bytes) -> dict[str, Member]:
    """The last of a repeated name wins, as everywhere. Raises StructureError for what is not one whole object."""
    return {as_text(text[key])[0]: Member(key, value) for key, value in members(text)}


def events_of(page: bytes, found: dict[str, Member]) -> list[bytes]:
    """The bytes of each event, of a page in which these members were found. Raises StructureError."""
    data = found.get("data")
    if data is None or not page.startswith(b"[", data.value.start):
        raise MalformedError("the page has no list `data`")
    return [page[event] for event in elements(page, data.value.start)]
