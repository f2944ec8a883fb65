"""What the simulated API is like: one frozen value, from flags or from the control endpoint, checked either way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .faults import SUBMISSION_FAULTS, Rule, parse_rule

ON_OFF = ("on", "off")


class OptionError(ValueError):
    """Raised for an option that does not exist, cannot be changed any more, or has an impossible value."""


def _option(default: Any, help: str, convert: Callable[[str], Any], *, fixed: bool = False) -> Any:
    """`fixed`: only at the start, since the dataset or the socket depends on it."""
    return field(default=default, metadata={"help": help, "convert": convert, "fixed": fixed})


def _whole(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1e9:
        raise ValueError
    return number


def _one_of(*names: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in names:
            raise ValueError(f"is not one of {', '.join(names)}")
        return text

    return convert


def _status(*allowed: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if int(text) not in allowed:
            raise ValueError(f"is not one of {', '.join(map(str, allowed))}")
        return int(text)

    return convert


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(",") if word.strip())


def _switch(text: str) -> bool:
    return _one_of(*ON_OFF)(text) == "on"


@dataclass(frozen=True, slots=True)
class Options:
    """Durations are seconds but where the name says otherwise; a rate limit of 0 is no limit."""

    events: int = _option(100_000, "events that are there at the start", _whole, fixed=True)
    seed: int = _option(1, "the same seed makes the same events and the same faults", int, fixed=True)
    host: str = _option("127.0.0.1", "address to listen on", str, fixed=True)
    port: int = _option(8080, "port to listen on; 0 takes a free one", _whole, fixed=True)
    id_style: str = _option("uuid", "ids: uuid or int", _one_of("uuid", "int"), fixed=True)
    timestamp_field: str = _option("timestamp", "name of the timestamp's field", str, fixed=True)
    omit: frozenset[str] = _option(frozenset(), "fields that no event has: name,name,...", _words, fixed=True)
    grow_at_most: int = _option(20_000, "events kept back for --grow-per-page", _whole, fixed=True)
    grow_per_page: int = _option(0, "events that appear at the head with every page served", _whole)

    api_key: frozenset[str] = _option(frozenset({"demo-key"}), "valid keys: key,key,...", _words)
    key_life: float = _option(10_800.0, "life of a key from its first call", _seconds)
    key_refused_status: int = _option(401, "answer to a wrong or dead key: 401 or 403", _status(401, 403))
    submissions: int = _option(5, "submissions a key may make", _whole)
    submission_fault: str = _option("none", "what becomes of every submission; see below", _one_of(*SUBMISSION_FAULTS))
    submissions_tell_left: bool = _option(
        True, "whether the list of submissions tells how many are left: on or off", _switch
    )

    rate_limit: int = _option(10, "requests to /events in a window; 0: no limit anywhere", _whole)
    rate_window: float = _option(60.0, "length of a window", _seconds)
    window_style: str = _option(
        "first-request", "windows open with their first request, or lie aligned", _one_of("first-request", "aligned")
    )
    reset_style: str = _option(
        "delta", "X-RateLimit-Reset: delta, epoch-s, epoch-ms, or none", _one_of("delta", "epoch-s", "epoch-ms", "none")
    )
    reset_rounding: str = _option("up", "seconds in X-RateLimit-Reset are rounded up or down", _one_of("up", "down"))
    clock_skew: float = _option(0.0, "how far the server's clock is ahead", float)
    cache_life: float = _option(30.0, "the same URL is served from the cache for so long; 0: no cache", _seconds)

    page_cap: int = _option(5000, "most events in a page", _whole)
    over_cap: str = _option("cap", "a larger limit is answered with the cap, or rejected", _one_of("cap", "reject"))
    envelope: str = _option("nested", "shape of a page: nested or flat", _one_of("nested", "flat"))
    total: bool = _option(True, "whether pages tell the total: on or off", _switch)
    overcount: int = _option(0, "events that the total counts and no page serves", _whole)
    gzip: bool = _option(True, "whether bodies are compressed for those who accept it: on or off", _switch)
    latency_ms: float = _option(0.0, "time before every answer, in milliseconds", _seconds)

    cursor_life: float = _option(116.0, "life of a cursor", _seconds)
    cursor_expired_status: int = _option(
        400, "answer to a dead cursor: 400, 410, 502 or 200, these two as web pages", _status(400, 410, 502, 200)
    )
    cursor_invalid_status: int = _option(
        400, "answer to a garbled cursor: 400, or 502 as a web page", _status(400, 502)
    )
    cursor_style: str = _option(
        "plain",
        "cursors: plain, padded (with =), or signed (whatever is changed in them makes them garbled)",
        _one_of("plain", "padded", "signed"),
    )
    renewed_cursors: str = _option(
        "accept",
        "cursors that this server has not issued: accept, refuse, or misplace (answered from another place)",
        _one_of("accept", "refuse", "misplace"),
    )

    feed_rate: int = _option(40, "requests to the feed in a minute before everybody gets 429; 0: no limit", _whole)
    feed_burst: int = _option(
        0, "requests to the feed that may come at once, where feed-rate fills a bucket of so many; 0: no bucket", _whole
    )
    feed_penalty: float = _option(5.0, "how long everybody then gets 429", _seconds)
    feed_limit_for_events: bool = _option(
        False, "whether requests to /events count against the feed's limit as well: on or off", _switch
    )
    feed_latency_ms: float = _option(0.0, "time before every answer of the feed, in milliseconds", _seconds)
    feed_since: str = _option(
        "inclusive", "since: inclusive, exclusive or ignored", _one_of("inclusive", "exclusive", "ignored")
    )
    feed_until: str = _option(
        "exclusive", "until: inclusive, exclusive or ignored", _one_of("inclusive", "exclusive", "ignored")
    )
    out_of_range: str = _option(
        "418", "since or until outside of the data: 418, or an empty page", _one_of("418", "empty")
    )
    token_life: float = _option(300.0, "life of a stream token", _seconds)
    dashboard_needs: frozenset[str] = _option(
        frozenset({"origin", "user-agent"}),
        "what stream-access asks for, of origin, user-agent, x-requested-with, sec-fetch-site, cookie",
        _words,
    )

    slow_s: float = _option(30.0, "how long the fault `slow` takes", _seconds)
    fault: tuple[Rule, ...] = _option((), "NAME=PROBABILITY or NAME@REQUEST; can be repeated; see below", parse_rule)

    @property
    def dataset_size(self) -> int:
        return self.events + self.reserve

    @property
    def reserve(self) -> int:
        """Events that are not there yet at the start."""
        return self.grow_at_most if self.grow_per_page else 0


def option_fields() -> list[dataclasses.Field[Any]]:
    return list(dataclasses.fields(Options))


def changed(options: Options, texts: Mapping[str, str | Sequence[str]], *, running: bool) -> Options:
    """`options` with what `texts` says, by field name. Raises OptionError."""
    fields = {entry.name: entry for entry in option_fields()}
    values: dict[str, Any] = {}
    for name, text in texts.items():
        if name not in fields:
            raise OptionError(f"there is no option {name!r}")
        if running and fields[name].metadata["fixed"]:
            raise OptionError(f"{name} cannot be changed once the simulator runs")
        values[name] = _converted(fields[name], text)
    return dataclasses.replace(options, **values)


def _converted(entry: dataclasses.Field[Any], text: str | Sequence[str]) -> Any:
    convert = entry.metadata["convert"]
    try:
        if entry.name == "fault":
            return tuple(convert(one) for one in ([text] if isinstance(text, str) else text))
        return convert(str(text))
    except ValueError as error:
        said = str(error)
        known = said.startswith("is ")
        raise OptionError(f"{entry.name}: {text!r} {said if known else 'cannot be used'}") from None
