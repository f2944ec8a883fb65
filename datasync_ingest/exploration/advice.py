"""What to set by what was found, and the shortest possible time for each way of ingesting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..api.limits import NO_LIMIT, RateLimit
from ..api.probing import EVENTS
from ..estimate import Estimate, by_limit, one_by_one
from ..settings import Settings
from .pages import BY_QUERY

_LARGEST_BATCH = 5000  # of the documented service; a larger page that is served is a larger loss when it fails
_SHARE_OF_LIFE = 2  # of a cursor's life that a page may wait at most, where the present setting leaves too little
_LIVELY = 1.5  # times the present setting must fit into a cursor's life
_ROOM = 4  # times the largest page seen


@dataclass(frozen=True, slots=True)
class Recommended:
    """A setting by its variable: the text for `.env`, and why."""

    variable: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class Way:
    """A way of ingesting, and how long it takes at least."""

    name: str
    estimate: Estimate


def recommended(settings: Settings, found: Mapping[str, Any], *, limited: bool = False) -> list[Recommended]:
    """Nothing where the first page was not reached. `limited`: an answer was a 429."""
    page = found.get("page", {})
    size = page.get("received", 0)
    if not size:
        return []
    batch = settings.batch_size if page["whole_data"] else min(size, _LARGEST_BATCH)
    why = "all events fit into one page" if page["whole_data"] else _why_batch(size, page)
    chosen = [Recommended("BATCH_SIZE", str(batch), why)]
    if limited:
        chosen.append(Recommended("RATE_LIMIT_BUFFER", "1", "an answer was a 429: somebody else uses this key"))
    else:
        chosen.append(Recommended("RATE_LIMIT_BUFFER", "0", "no answer was a 429: windows can be used to their end"))
    life_s = page.get("cursor_life_s")
    if life_s and settings.cursor_refresh_threshold * _LIVELY > life_s:
        short = f"{max(1, life_s // _SHARE_OF_LIFE):.0f}"
        chosen.append(Recommended("CURSOR_REFRESH_THRESHOLD", short, f"cursors live for {life_s} s"))
    if settings.max_page_bytes < _ROOM * page["bytes"]:
        room = str(_ROOM * page["bytes"])
        chosen.append(Recommended("MAX_PAGE_BYTES", room, f"a page has {page['bytes']:,} bytes"))
    return chosen


def ways(found: Mapping[str, Any], limits: Sequence[RateLimit]) -> list[Way]:
    """The public endpoint with either place for the key, and the feed where it was granted; shortest first."""
    page, feed = found.get("page", {}), found.get("feed", {})
    total = page.get("total") or _counted(found)
    size = page.get("received", 0)
    if not total or not size:
        return []
    by_window = {one.window: one for one in limits}
    possible = [("key in the header", EVENTS)]
    if found.get("key_in_query", {}).get("accepted"):
        possible.append(("key in the query", BY_QUERY))
    chosen = [
        Way(f"/events, {name}", by_limit(total, size, by_window.get(one, NO_LIMIT), page_s=page["seconds"]))
        for name, one in possible
    ]
    if feed.get("page"):
        chosen.append(Way("the feed, one chain of pages", one_by_one(total, feed["page"], feed["page_s"])))
    return sorted(chosen, key=lambda way: way.estimate.seconds or 0.0)


def _why_batch(size: int, page: Mapping[str, Any]) -> str:
    if size > _LARGEST_BATCH:
        return f"pages of {size:,} are served; a smaller one is a smaller loss when it fails"
    if page.get("refused_limit"):
        return f"the largest page that is served: {page['refused_limit']:,} is refused"
    return "the largest page that is served" + (f": {page['asked']:,} is cut down to it" if page["capped"] else "")


def _counted(found: Mapping[str, Any]) -> int:
    return int(found.get("stats", {}).get("counts", {}).get("totalEvents", 0))
