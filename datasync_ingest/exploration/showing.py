"""The report as text for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..output import table
from ..units import show_bytes, show_seconds

Report = Mapping[str, Any]
Styled = Callable[[str, str], str]
_MOST_FIELDS = 40
_HONOURED = {True: "honoured", False: "ignored", None: "not known"}


def text(report: Report, styled: Styled) -> str:
    """Sections of tables; a topic that was not reached is not there but among the last."""
    sections: list[tuple[str, Sequence[Sequence[str]]]] = [
        ("The API", _api(report)),
        ("Endpoints", _endpoints(report)),
        ("Rate limits", _limits(report)),
        ("Pages of /events", list(_pages(report))),
        ("Parameters of /events", _parameters(report["parameters"])),
        ("Timestamps", _timestamps(report)),
        ("Fields", _fields(report)),
        ("Shortest time", _shortest(report)),
        ("Recommended settings", _recommended(report)),
        ("Not reached", [(one["what"], one["why"]) for one in report["not_reached"]]),
    ]
    lines: list[str] = []
    for title, rows in sections:
        if rows:
            lines += [styled("title", title), *table([tuple(map(_printable, row)) for row in rows])]
    return "\n".join(lines)


def _printable(cell: str) -> str:
    """What a server says may hold anything, and a terminal obeys some of it."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in cell)


def _api(report: Report) -> list[tuple[str, str]]:
    manifest, requests = report.get("manifest") or {}, report["requests"]
    made = f"{requests['made']} of {requests['budget']}, {requests['without_key']} without the key"
    rows = [("address", report["api"])]
    if manifest.get("name"):
        rows.append(("manifest", f"{manifest['name']} {manifest.get('version', '')}".strip()))
    if report["clock_ahead_s"]:
        rows.append(("clock", _clock(*report["clock_ahead_s"])))
    rows += [("total", total)] if (total := _total(report["total"])) else []
    if report.get("without_key"):
        rows.append(("without a key", report["without_key"]))
    if report.get("feed"):
        rows.append(("feed", _feed(report["feed"])))
    return [*rows, ("requests made", f"{made}, {requests['answered_429']} answered 429")]


def _clock(lowest: float, highest: float) -> str:
    middle, about = (lowest + highest) / 2, f"give or take {(highest - lowest) / 2:.1f} s"
    if lowest <= 0 <= highest:
        return f"the same as ours, {about}"
    return f"{abs(middle):.1f} s {'ahead of' if middle > 0 else 'behind'} ours, {about}"


def _total(total: Mapping[str, Any]) -> str:
    pages, stats = total["by_pages"], total["by_stats"]
    shown = [f"{pages:,} by the pages" if pages is not None else "the pages tell none"]
    shown += [f"{stats:,} by /internal/stats"] if stats is not None else []
    agree = {True: " (they agree)", False: " (they do not agree)", None: ""}[total["agree"]]
    return ", ".join(shown) + agree if pages is not None or stats is not None else ""


def _feed(feed: Mapping[str, Any]) -> str:
    if not feed["granted"]:
        return f"not granted to this program: {feed['answer']}"
    page = f", pages of {feed['page']:,} events in {feed['page_s']:.1f} s" if feed.get("page") else ""
    bounds = ", ".join(f"{name} {_HONOURED[one['honoured']]}" for name, one in feed.get("parameters", {}).items())
    return f"granted: {feed['endpoint']}{page}{', ' if bounds else ''}{bounds}"


def _endpoints(report: Report) -> list[tuple[str, ...]]:
    return [
        (one["method"], one["path"], str(one["status"]), "key" if one["key"] else "no key", one["remark"])
        for one in report["endpoints"]
    ]


def _limits(report: Report) -> list[tuple[str, str]]:
    rows = [(one["window"], _limit(one)) for one in report["rate_limits"]]
    query = report.get("key_in_query")
    if query and not query["accepted"]:
        rows.append(("key in the query", f"is not accepted: {query['status']}"))
    elif query and query.get("shares_window") is not None:
        shares = "counts in the window of" if query["shares_window"] else "has a window apart from that of"
        rows.append(("key in the query", f"{shares} the key in the header"))
    if rows:
        rows.append(("windows open", report["windows_open"] or "in a way that these answers do not show"))
    silent = [one["path"] for one in report["endpoints"] if one["status"] < 400 and not one["tells_its_limit"]]
    rows += [("no limit is told by", ", ".join(silent))] if silent else []
    return rows


def _limit(one: Mapping[str, Any]) -> str:
    if one["window_s"] is None:
        return f"{one['limit']} requests; when the window turns is not told"
    length = ("in " if one["exact"] else "in about ") + show_seconds(one["window_s"])
    return f"{one['limit']} requests {length}, reset in {one['style']}"


def _pages(report: Report) -> Iterator[tuple[str, str]]:
    page, cursor, cache = report.get("page", {}), report.get("cursor"), report.get("cache")
    if page.get("received") is not None:
        yield "largest page", _largest(page)
        packed = f", {show_bytes(page['wire_bytes'])} by gzip" if page["gzip"] else ", gzip is not used"
        yield "its size", f"{show_bytes(page['bytes'])}{packed}, in {page['seconds']:.2f} s"
        yield (
            "envelope",
            page["envelope"] + (f", faults made up by the server: {page['chaos']}" if page["chaos"] else ""),
        )
        if page["unreadable_events"]:
            yield "unreadable", f"{page['unreadable_events']:,} events are no JSON objects"
    if cursor and "form" in cursor:
        yield "cursor", f"{cursor['form']}; {_life(cursor)}"
        if not cursor["works_with_another_limit"]:
            yield "", "with another limit it does not go on behind the first page"
    if cursor and "renewable" in cursor:
        can = "can be renewed: one with another end gives" if cursor["renewable"] else "cannot be renewed:"
        yield "an expired one", f"{can} {cursor['renewal']}"
    if cache:
        yield "cache", _cache(cache)


def _largest(page: Mapping[str, Any]) -> str:
    if page["whole_data"]:
        return f"at least {page['received']:,} events: the whole of the data"
    refused = f" ({page['refused_limit']:,} is refused)" if page.get("refused_limit") else ""
    capped = f" (asked for {page['asked']:,})" if page["capped"] else ""
    return f"{'' if page['capped'] or refused else 'at least '}{page['received']:,} events{refused}{capped}"


def _life(cursor: Mapping[str, Any]) -> str:
    told = [f"{cursor['life_s']} s as the server says"] if cursor["life_s"] else []
    by_exp = cursor.get("life_by_exp_s")
    told += [f"{by_exp:.0f} s by its exp"] if by_exp is not None else []
    return "lives for " + (", ".join(told) or "a time that is not told")


def _cache(cache: Mapping[str, Any]) -> str:
    if cache["header"] != "HIT":
        return "none: the same URL is served anew"
    ttl = f" for {cache['ttl_s']} s" if cache["ttl_s"] else ""
    counts = {True: ", and counts", False: ", and does not count", None: ""}[cache.get("counted")]
    return f"the same URL is served from it{ttl}{counts}"


def _parameters(found: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [(name, _HONOURED[one["honoured"]], one["proof"]) for name, one in found.items()]


def _timestamps(report: Report) -> list[tuple[str, str]]:
    return [(f"{count:,}", how) for how, count in report.get("timestamps", {}).items()]


def _fields(report: Report) -> list[tuple[str, ...]]:
    found: Sequence[Mapping[str, Any]] = report.get("fields", [])
    rows: list[tuple[str, ...]] = [("field", "types", "missing", "null")] if found else []
    for one in found[:_MOST_FIELDS]:
        types = ", ".join(f"{name} {count:,}" for name, count in one["types"].items() if name != "null")
        rows.append((one["name"], types or "-", _share(one["missing"]), _share(one["null"])))
    if len(found) > _MOST_FIELDS:
        rows.append((f"and {len(found) - _MOST_FIELDS} more", "in the file", "", ""))
    return rows


def _share(share: float) -> str:
    return "-" if share <= 0 else f"{share:.2%}"


def _shortest(report: Report) -> list[tuple[str, str]]:
    return [(one["way"], one["sentence"]) for one in report["shortest"]]


def _recommended(report: Report) -> list[tuple[str, str]]:
    return [(f"{one['variable']}={one['value']}", one["why"]) for one in report["recommended"]]
