"""The questions in the order of what their answers are worth, and what each answer proves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..api import stream_access
from ..api.client import Ask
from ..api.limits import APART_S
from ..api.outcomes import Fault, error_of
from ..api.probing import EVENTS, NotAskedError, Question
from ..api.reading import said
from ..conversions import API_PATH
from ..errors import ApiError
from . import comparing
from .notes import Answer, Notes, content_of
from .pages import LIMITS, first_page, query_key, renewal, second_page


@dataclass(frozen=True, slots=True)
class Probe:
    """What is found out, and by which function; it costs one request, `requests` where it is more, faults aside.

    `needed`: without it there is nothing more to look for.
    """

    name: str
    run: Callable[[Notes], None]
    requests: int = 1
    needed: bool = False


def manifest(notes: Notes) -> None:
    response = notes.keyless(notes.settings.api_base_url, API_PATH)
    content = content_of(response)
    about = {name: content[name] for name in ("name", "version", "endpoints", "authentication") if name in content}
    notes.found["manifest"] = about or None
    notes.answered("GET", API_PATH, response, f"{content.get('name', 'no manifest')}", key=False)


def stats(notes: Notes) -> None:
    response = notes.keyless(f"{notes.settings.origin}/internal/stats", "/internal/stats")
    content = content_of(response)
    notes.answered("GET", "/internal/stats", response, key=False)
    if response.status == 200:
        counts = {name: value for name, value in content.items() if isinstance(value, int)}
        notes.found["stats"] = {"counts": counts, **{n: v for n, v in content.items() if isinstance(v, dict)}}


def time_bounds(notes: Notes) -> None:
    notes.parameters.update(comparing.time_bounds(notes, notes.events))


def offset(notes: Notes) -> None:
    notes.parameters["offset"] = comparing.offset(notes)


def session(notes: Notes) -> None:
    notes.parameters["sessionId"] = comparing.session(notes)


def sessions(notes: Notes) -> None:
    response = notes.keyed("/sessions", {"limit": "1"}, "/sessions")
    total = content_of(response).get("meta", {})
    told = f"{total['total']:,} sessions" if isinstance(total, dict) and isinstance(total.get("total"), int) else ""
    notes.answered("GET", f"{API_PATH}/sessions", response, told)


def health(notes: Notes) -> None:
    for path in ("/health", "/internal/health"):
        response = notes.keyless(notes.settings.origin + path, path)
        plain = "" if response.body.lstrip().startswith(b"<") else response.body[:40].decode("utf-8", "replace").strip()
        status = content_of(response).get("status", plain)
        notes.answered("GET", path, response, str(status), key=False)


def single_event(notes: Notes) -> None:
    response = notes.keyed(f"/events/{_some_id(notes)}", {}, EVENTS)
    notes.answered("GET", f"{API_PATH}/events/:id", response)


def bulk(notes: Notes) -> None:
    url = f"{notes.settings.api_base_url}/events/bulk"
    ask = Ask(url, method="POST", json={"ids": [_some_id(notes)]})
    response = notes.prober.ask(Question(f"POST {API_PATH}/events/bulk, one id", ask, ("/events/bulk",), retries=0))
    notes.answered("POST", f"{API_PATH}/events/bulk", response, "asked for one event")


def submissions(notes: Notes) -> None:
    response = notes.keyed("/submissions", {})
    content = content_of(response)
    found = content.get("data")
    made = f"{len(found)} made" if isinstance(found, list) else ""
    left = content.get("remainingSubmissions")
    told = ", ".join(part for part in (made, f"{left} left" if isinstance(left, int) else "") if part)
    notes.answered("GET", f"{API_PATH}/submissions", response, told)


def feed(notes: Notes) -> None:
    """Asked for as a run would ask for it. Where it is given, one page of it between two times."""
    response = notes.prober.ask(
        Question(f"POST {stream_access.PATH}", stream_access.question(notes.settings), retries=0)
    )
    notes.answered("POST", stream_access.PATH, response, error_of(response.body).get("code", ""))
    notes.found["feed"] = {"granted": False, "answer": said(response)}
    try:
        access = stream_access.granted_by(response, notes.settings)
    except (Fault, ApiError):
        return
    notes.found["feed"].update(granted=True, endpoint=access.path, token_life_s=access.life_s)
    header = {access.header: access.token.reveal()}

    def asks(parameters: Mapping[str, str]) -> Answer:
        own = Ask(notes.settings.origin + access.path, parameters, headers=header)
        shown = "&".join(f"{name}={text}" for name, text in parameters.items())
        return notes.whole(lambda: notes.prober.ask(Question(f"GET the feed, {shown}", own)))

    answer = asks({"limit": str(LIMITS[0])})
    if answer.page is not None:
        page_s = answer.response.read_at - answer.response.sent_at
        notes.found["feed"].update(page=answer.page.received, page_s=page_s, total=answer.page.total)
    notes.found["feed"]["parameters"] = comparing.time_bounds(notes, asks)


def no_key(notes: Notes) -> None:
    response = notes.keyless(f"{notes.settings.api_base_url}/events", f"{API_PATH}/events")
    notes.found["without_key"] = said(response)


def metrics(notes: Notes) -> None:
    """The last, and some seconds after the first: what its fresh window says then shows how windows open."""
    told = notes.prober.windows.told
    first = next((one for answers in told.values() for one in answers if one.is_fresh), None)
    if first is not None:
        wait_s = first.at + APART_S + 0.1 - notes.prober.now
        notes.prober.pause(wait_s, "a window that begins later shows how windows open")
    response = notes.keyed("/metrics", {}, "/metrics")
    content = content_of(response).get("data")
    notes.answered("GET", f"{API_PATH}/metrics", response, "empty" if content == [] else "")


PROBES = (
    Probe("manifest", manifest, needed=True),
    Probe("first page", first_page, needed=True),
    Probe("key in the query", query_key),
    Probe("stats", stats),
    Probe("cursor and cache", second_page, requests=2),
    Probe("since and until", time_bounds),
    Probe("offset", offset),
    Probe("sessionId", session),
    Probe("sessions", sessions),
    Probe("cursor renewal", renewal),
    Probe("health", health, requests=2),
    Probe("feed", feed),
    Probe("single event", single_event),
    Probe("bulk", bulk),
    Probe("submissions", submissions),
    Probe("no key", no_key),
    Probe("metrics", metrics),
)


def _some_id(notes: Notes) -> str:
    found = next((one for one in notes.sample.ids if isinstance(one, (str, int))), None)
    if found is None:
        raise NotAskedError("it needs the id of an event, and there is none")
    return str(found)
