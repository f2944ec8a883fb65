"""Stream access: the token, the path and the header's name with which the dashboard's feed is read.

    POST <origin>/internal/dashboard/stream-access, with the key and Origin: <origin>
    {"streamAccess": {"endpoint": "/api/v1/events/d4ta/x7k9/feed", "token": "<hex>", "expiresIn": 300,
                      "tokenHeader": "X-Stream-Token"}}

The endpoint is another one for each service, and may move: only the answer tells it. Neither the key nor the token
ever goes to another host than the API's own.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from ..conversions import is_header_word, is_own_path
from ..errors import ApiError, KeyRefusedError, StreamRefusedError
from ..settings import Secret, Settings
from ..units import show_seconds
from .client import ApiClient, Ask, Response
from .outcomes import Fault, NoAccess, Outcome, error_of, outcome_of
from .reading import said

PATH = "/internal/dashboard/stream-access"
STREAM_TOKEN_HEADER = "X-Stream-Token"
EARLY_S = 10.0  # a token is renewed when so little of its life is left, ...
EARLY_SHARE = 1 / 10  # ... or this much of it, where that is more; never before half of it is over
APART_S = 0.4  # s between two questions of which the first one failed, whoever asks; less than any fault is sat out
APART_LIVING_S = 5.0  # s, the same while the old token lives
REFUSALS = 2  # tokens in a row that the feed refuses, and none taken between: then a fresh one is no use
_READ_TIMEOUT_S = 30.0
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Granted:
    """What an answer grants. `life_s` is None where it does not say how long the token lives."""

    path: str
    token: Secret
    header: str
    life_s: float | None


@dataclass(frozen=True, slots=True)
class StreamToken:
    """A token in use; `renew_at` and `ends_at` are monotonic. `number` counts a run's tokens from 1."""

    number: int
    url: str
    header: str
    text: Secret
    renew_at: float
    ends_at: float


class StreamAccess:
    """One token at a time for all threads. Only one of them asks for the next; the others use the old one while it
    lives, and wait when it does not.
    """

    def __init__(
        self, settings: Settings, *, clock: Callable[[], float] = time.monotonic, client: ApiClient | None = None
    ) -> None:
        self.url = settings.origin + PATH
        self._settings = settings
        self._clock = clock
        self._client = client or ApiClient(settings, clock=clock)
        self._asking = threading.Lock()  # held by the one who makes a request
        self._state = threading.Lock()  # of what follows
        self._token: StreamToken | None = None
        self._number = 0
        self._refused = 0  # tokens in a row
        self._failures = 0
        self._trouble: Exception | None = None
        self._not_before = float("-inf")

    def close(self) -> None:
        self._client.close()

    def current(self) -> StreamToken:
        """The token to use now. Makes one request at most, and blocks while another thread makes it.

        Raises NoAccess where there may be one later; StreamRefusedError, KeyRefusedError.
        """
        failures, token = self._failures, self._token
        if token is not None and self._clock() < token.renew_at:
            return token
        if not self._asking.acquire(blocking=not self._lives(token)):
            assert token is not None, "one that lives"
            return token
        try:
            return self._next(failures, token)
        finally:
            self._asking.release()

    def accepted(self, number: int) -> None:
        """The feed has taken this token."""
        if self._refused and self._token is not None and self._token.number == number:
            with self._state:
                self._refused = 0

    def refused(self, number: int, words: str) -> None:
        """The feed has refused this token, which is not used any more. Raises StreamRefusedError where another one
        would fare no better.
        """
        with self._state:
            if self._token is None or self._token.number != number:
                return  # another thread has said so
            self._token = None
            self._refused += 1
            if self._refused < REFUSALS:
                return
        raise StreamRefusedError(
            f"The feed refuses tokens that are fresh, {REFUSALS} in a row: it answered {words}.",
            hint="Run the same command again later, or with --source events; it goes on from here.",
        )

    def _next(self, failures: int, before: StreamToken | None) -> StreamToken:
        """What the one does who may ask: asks, unless another thread has done so while this one waited."""
        token = self._token
        if token is not None and token is not before:
            return token
        if self._trouble is not None and (self._failures != failures or self._clock() < self._not_before):
            return self._despite(self._trouble, token)
        try:
            return self._asked()
        except (Fault, ApiError) as trouble:
            self._failures += 1
            lives = self._lives(token)
            self._trouble, self._not_before = trouble, self._clock() + (APART_LIVING_S if lives else APART_S)
            if lives:
                _log.warning("the stream token that runs out could not be renewed yet: %s", trouble)
            return self._despite(trouble, token)

    def _despite(self, trouble: Exception, token: StreamToken | None) -> StreamToken:
        """The old token while it lives, whatever the trouble is; else raises it, in each thread an exception anew."""
        if token is not None and self._lives(token):
            return token
        if isinstance(trouble, ApiError):
            raise type(trouble)(str(trouble), trouble.hint)
        raise NoAccess(f"stream access: {trouble}")

    def _asked(self) -> StreamToken:
        """Raises Fault, StreamRefusedError, KeyRefusedError."""
        response = self._client.send(question(self._settings))
        granted = granted_by(response, self._settings)
        with self._state:
            self._number += 1
            self._trouble = None
            self._token = _in_use(self._number, self._settings.origin, granted, response.sent_at)
        life = "" if granted.life_s is None else f" for {show_seconds(granted.life_s)}"
        _log.info("stream access%s: the feed is %s", life, granted.path)
        return self._token

    def _lives(self, token: StreamToken | None) -> bool:
        return token is not None and token is self._token and self._clock() < token.ends_at


def question(settings: Settings) -> Ask:
    """The request for stream access, as what we are."""
    headers = {"Origin": settings.origin}
    return Ask(settings.origin + PATH, method="POST", headers=headers, read_timeout_s=_READ_TIMEOUT_S)


def granted_by(response: Response, settings: Settings) -> Granted:
    """What an answer grants. Raises Fault where another one may, StreamRefusedError, KeyRefusedError."""
    outcome, code = outcome_of(response.status, response.body), error_of(response.body).get("code", "")
    if outcome in (Outcome.FAULT, Outcome.LIMITED):
        raise Fault(f"the server answered {said(response, settings)}")
    if response.status == 401 or is_of_the_key(code):
        raise KeyRefusedError(
            f"The API refuses the key: it answered {said(response, settings)}.",
            hint="Check TARGET_API_KEY; a key lives for 3 hours from its first call. With a new one the same command"
            " goes on from here.",
        )
    if response.status not in (200, 201):
        raise _refusal(response, settings)
    return _read(response.body)


def is_of_the_key(code: str) -> bool:
    """Whether the code of a refusal speaks of the API key: INVALID_API_KEY, API_KEY_EXPIRED."""
    return "API_KEY" in code


def _refusal(response: Response, settings: Settings) -> StreamRefusedError:
    words = said(response, settings)
    if response.status in (404, 405):
        return StreamRefusedError(
            f"This API has no stream access: it answered {words} to POST {PATH}.",
            hint="Run the same command with --source events: the events are the same.",
        )
    return StreamRefusedError(
        f"The API gives no stream access to this program: it answered {words} to POST {PATH} with"
        f" Origin: {settings.origin} and User-Agent: {settings.user_agent}.",
        hint="It may want another User-Agent, which is yours to set: TARGET_USER_AGENT. Or take token and path from the"
        " requests of the dashboard in your browser, into TARGET_STREAM_TOKEN and TARGET_STREAM_PATH. Or run the same"
        " command with --source events: the events are the same.",
    )


def _read(body: bytes) -> Granted:
    """Raises Fault where it cannot be read, StreamRefusedError where it leads elsewhere."""
    members = _members(body)
    path, token, header = (members.get(name) for name in ("endpoint", "token", "tokenHeader"))
    header = STREAM_TOKEN_HEADER if header is None else header
    if not isinstance(path, str) or not isinstance(token, str) or not is_header_word(token):
        raise Fault("the answer holds no path and token")
    if not isinstance(header, str) or not _HEADER_NAME.fullmatch(header):
        raise Fault("the answer names no header for the token")
    if not is_own_path(path):
        raise StreamRefusedError(
            "Stream access leads to something else than a path on the API's own host, where no key and no token goes.",
            hint="Run the same command with --source events, and tell those who run the API.",
        )
    life_s = members.get("expiresIn")
    lives = isinstance(life_s, (int, float)) and not isinstance(life_s, bool) and 0 < life_s < 1e9
    return Granted(path, Secret(token), header, float(life_s) if lives and life_s is not None else None)


def _members(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return {}
    access = found.get("streamAccess") if isinstance(found, dict) else None
    return access if isinstance(access, dict) else {}


def _in_use(number: int, origin: str, granted: Granted, asked_at: float) -> StreamToken:
    """Its life is counted from when it was asked for; one of unknown life is used until it is refused."""
    if granted.life_s is None:
        renew_at = ends_at = float("inf")
    else:
        ends_at = asked_at + granted.life_s
        early_s = min(max(EARLY_S, granted.life_s * EARLY_SHARE), granted.life_s / 2)
        renew_at = ends_at - early_s
    return StreamToken(number, origin + granted.path, granted.header, granted.token, renew_at, ends_at)
