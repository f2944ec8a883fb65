"""The endpoints that serve pages of events: where each is asked, with which headers, and what its refusals mean."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..errors import StreamRefusedError
from ..messages import FEED, PageAddress
from ..settings import Settings
from .client import Response
from .outcomes import AccessDied, error_of
from .reading import said
from .stream_access import STREAM_TOKEN_HEADER, StreamAccess, is_of_the_key

_REFUSALS = (401, 403, 404)  # the feed's path is the token's: it may have moved with a new one


@dataclass(frozen=True, slots=True)
class Access:
    """Where a page is asked for, and the headers that it takes beside the key. `number`: which token that is."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    number: int = 0


class Endpoint(Protocol):
    """Shared by the fetchers of a run: every method is safe for any thread."""

    key: str  # one of the settings' names: what is learned of one endpoint says nothing of another
    name: str
    url: str  # for sentences
    hint: str  # where something else answers

    def access(self) -> Access:
        """For a request that goes out now; may block for one request of its own.

        Raises NoAccess where it is not to be had now, an ApiError where it will not be.
        """

    def answered(self, access: Access, response: Response) -> None:
        """Told of every answer. Raises AccessDied where it refuses the access and another may do, else an ApiError."""

    def close(self) -> None:
        """Idempotent."""


class EventsEndpoint:
    """GET /events: the key is all that it takes."""

    key = "events"
    name = "the events endpoint"
    hint = "Check API_BASE_URL: scheme, host, port and path, with or without /api/v1."

    def __init__(self, settings: Settings) -> None:
        self.url = settings.api_base_url + "/events"
        self._access = Access(self.url)

    def access(self) -> Access:
        return self._access

    def answered(self, access: Access, response: Response) -> None:
        """Its refusals are the key's."""

    def close(self) -> None:
        """Nothing is open."""


class FeedEndpoint:
    """The dashboard's feed: the key, and a token that the program asks for itself."""

    key = FEED
    name = "the feed"
    hint = "Run the same command again later, or with --source events: the events are the same."

    def __init__(
        self, settings: Settings, *, stream: StreamAccess | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._stream = stream or StreamAccess(settings, clock=clock)
        self.url = self._stream.url

    def access(self) -> Access:
        token = self._stream.current()
        self.url = token.url
        return Access(token.url, {token.header: token.text.reveal()}, token.number)

    def answered(self, access: Access, response: Response) -> None:
        if not _refuses_the_token(response):
            self._stream.accepted(access.number)
            return
        words = said(response, self._settings)
        for text in access.headers.values():
            words = words.replace(text, "***")
        self._stream.refused(access.number, words)
        raise AccessDied(f"the feed answered {words}")

    def close(self) -> None:
        self._stream.close()


class OwnFeedEndpoint:
    """The dashboard's feed, with a token and a path that the user has taken from the dashboard."""

    key = FEED
    name = "the feed"
    hint = "Check TARGET_STREAM_PATH: it is the path of the dashboard's own requests, without what follows a ?."

    def __init__(self, settings: Settings) -> None:
        assert settings.stream_token is not None, "asked for the user's token, and there is none"
        self.url = f"{settings.origin}{settings.stream_path}"
        self._settings = settings
        self._access = Access(self.url, {STREAM_TOKEN_HEADER: settings.stream_token.reveal()})

    def access(self) -> Access:
        return self._access

    def answered(self, access: Access, response: Response) -> None:
        del access
        if response.status == 404 or not _refuses_the_token(response):
            return
        raise StreamRefusedError(
            f"The feed refuses TARGET_STREAM_TOKEN: it answered {said(response, self._settings)}.",
            hint="It has run out, or goes with another TARGET_STREAM_PATH: take both anew from the dashboard and run"
            " the same command again; it goes on from here. Without both, the program asks for a token itself.",
        )

    def close(self) -> None:
        """Nothing is open."""


def parameters_of(address: PageAddress, limit: int) -> dict[str, str]:
    """The query of a request for a page, the same for every endpoint."""
    bounds = {"since": address.bounds.since, "until": address.bounds.until}
    found = {"limit": str(limit), **{name: str(bound) for name, bound in bounds.items() if bound is not None}}
    return found if address.cursor is None else {**found, "cursor": address.cursor}


def endpoint_of(settings: Settings) -> Endpoint:
    """The one that the settings name."""
    if settings.endpoint != FEED:
        return EventsEndpoint(settings)
    return FeedEndpoint(settings) if settings.stream_token is None else OwnFeedEndpoint(settings)


def _refuses_the_token(response: Response) -> bool:
    """Whether it is the token that is refused, and not the key."""
    return response.status in _REFUSALS and not is_of_the_key(error_of(response.body).get("code", ""))
