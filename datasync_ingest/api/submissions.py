"""The API's submissions: the list of them, one POST, and what its answer means.

    GET /submissions   {"success": true, "data": [{...}, ...], "remainingSubmissions": 4}
    POST /submissions  {"success": true, "data": {"submissionId", "eventCount", "githubRepoUrl", "submittedAt",
                        "timeToSubmit": {"ms", "seconds", "minutes", "formatted"}, "submissionNumber",
                        "remainingSubmissions"}, "message"}

Every POST that reaches the server is one of the key's five tries, whatever becomes of it. So it is made once; only
where not a byte of it went out, it is made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from ..errors import (
    ApiError,
    ApiUnreachableError,
    KeyRefusedError,
    NotTheApiError,
    SubmissionRefusedError,
    SubmissionUnknownError,
)
from ..settings import Settings
from ..units import show_seconds
from .client import ApiClient, Response, Upload
from .outcomes import Answered, Fault, NotConnected, Outcome, outcome_of
from .reading import said

TRIES = 5  # a key has so many, as the API documents it
PATIENCE_S = 30.0
_FIRST_WAIT_S = 0.5
CHECK = "bin/submit --list shows what the server has and the tries left; look there before you try again."

_GOOD = (200, 201, 202)

T = TypeVar("T")
JsonObject = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """The key's submissions as the server lists them. `left`: tries left; where not `told`, at most so many."""

    entries: tuple[JsonObject, ...]
    left: int
    told: bool

    @property
    def left_text(self) -> str:
        return f"{self.left}" if self.told else f"at most {self.left} (the server does not tell)"


class SubmissionApi:
    """The endpoint, with the key; a context manager."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = f"{settings.api_base_url}/submissions"
        self._client = ApiClient(settings)
        self._clock = clock
        self._sleep = sleep

    def __enter__(self) -> SubmissionApi:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def listing(self) -> Listing:
        """Asks until there is a list. Raises KeyRefusedError, NotTheApiError, ApiUnreachableError after PATIENCE_S."""
        try:
            return self._patiently(self._listed, Fault)
        except Fault as fault:
            raise ApiUnreachableError(
                f"No list of submissions from {self.url} for {show_seconds(PATIENCE_S)}: {fault}.",
                hint="Check API_BASE_URL and the network, then run the same command again. Nothing was submitted.",
            ) from fault

    def submit(self, repository: str, upload: Upload) -> Response:
        """Sends the file once and gives the answer, whatever it says.

        Raises ApiUnreachableError where not a byte went out; SubmissionUnknownError where it broke off after that.
        """
        parameters = {"github_repo": repository}
        try:
            return self._patiently(lambda: self._client.post(self.url, parameters, upload), NotConnected)
        except NotConnected as fault:
            raise ApiUnreachableError(
                f"No connection to {self.url} for {show_seconds(PATIENCE_S)}: {fault}. Not a byte went out, and no try"
                " is gone.",
                hint="Check API_BASE_URL and the network, then run the same command again.",
            ) from fault
        except Fault as fault:
            raise SubmissionUnknownError(
                f"The submission broke off after {upload.sent:,} of {len(upload):,} bytes: {fault}. It is not sent"
                " again, since the server may have counted it.",
                hint=CHECK,
            ) from fault

    def _patiently(self, attempt: Callable[[], T], worth_another: type[Fault]) -> T:
        end, wait_s = self._clock() + PATIENCE_S, _FIRST_WAIT_S
        while True:
            try:
                return attempt()
            except worth_another:
                if self._clock() + wait_s >= end:
                    raise
            self._sleep(wait_s)
            wait_s *= 2

    def _listed(self) -> Listing:
        response = self._client.get(self.url, {})
        match outcome_of(response.status, response.body):
            case Outcome.PAGE:
                return listing_of(response.body)
            case Outcome.FAULT | Outcome.LIMITED:
                raise Answered(f"it answered {said(response)}")
            case Outcome.KEY_REFUSED:
                raise _key_refused(response, "Nothing was submitted.")
        raise NotTheApiError(
            f"{self.url} is not the list of submissions of this API: it answered {said(response)}.",
            hint="Check API_BASE_URL: scheme, host, port and path, with or without /api/v1. Nothing was submitted.",
        )


def listing_of(body: bytes) -> Listing:
    """Reads the list, bare or in `data` or in `data.submissions`. Raises Answered for anything else."""
    found = _decoded(body)
    envelope = found if isinstance(found, dict) else {}
    data = envelope.get("data", found)
    inner = data if isinstance(data, dict) else {}
    entries = inner.get("submissions", data)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Answered("the answer is not a list of submissions")
    for place in (envelope, inner):
        if type(left := place.get("remainingSubmissions")) is int:
            return Listing(tuple(entries), max(0, left), told=True)
    return Listing(tuple(entries), _deduced(entries), told=False)


def accepted(response: Response, size: int) -> JsonObject:
    """The `data` of an answer that says that the submission, of `size` bytes, was accepted.

    Raises SubmissionRefusedError, KeyRefusedError; SubmissionUnknownError where the answer does not tell.
    """
    if response.status not in _GOOD:
        raise _refusal(response, size)
    if not is_accepted(response.status, response.body):
        raise _unaccepted(response)
    return data_of(response.body)


def is_accepted(status: int, body: bytes) -> bool:
    """Whether an answer says so in words that can be read."""
    reply = _decoded(body)
    return status in _GOOD and isinstance(reply, dict) and reply.get("success", bool(data_of(body))) is True


def data_of(body: bytes) -> JsonObject:
    """The `data` of an answer; empty where there is none."""
    reply = _decoded(body)
    data = reply.get("data") if isinstance(reply, dict) else None
    return data if isinstance(data, dict) else {}


def _unaccepted(response: Response) -> ApiError:
    reply = _decoded(response.body)
    if isinstance(reply, dict) and "success" in reply:
        return SubmissionRefusedError(
            f"The API did not accept the submission: it answered {said(response)}. A try is gone.", hint=CHECK
        )
    return SubmissionUnknownError(
        f"The answer to the submission cannot be read: status {response.status}, and not the JSON of this API. The"
        " server may have counted it.",
        hint=CHECK,
    )


def _refusal(response: Response, size: int) -> ApiError:
    words = said(response)
    match response.status:
        case 401 | 403:
            return _key_refused(response, "The refused submission may have counted as a try.")
        case 413:
            return SubmissionRefusedError(
                f"The server, or a proxy before it, takes no body of {size:,} bytes: it answered {words}. That may"
                " have counted as a try.",
                hint="The same file will be refused again. If you go through a proxy (HTTP_PROXY), try without it; else"
                f" tell those who run the API. {CHECK}",
            )
        case 429:
            return SubmissionRefusedError(
                f"The API answered {words}: too many requests, or no tries left. That may have counted as a try.",
                hint=CHECK,
            )
        case status if status >= 500 or status in (408, 425):
            return SubmissionUnknownError(
                f"The server failed at the submission: it answered {words}. It may have counted it, and may even have"
                " accepted it.",
                hint=CHECK,
            )
    return SubmissionRefusedError(
        f"The API did not accept the submission: it answered {words}. A try is gone, unless the list says otherwise.",
        hint=CHECK,
    )


def _key_refused(response: Response, consequence: str) -> KeyRefusedError:
    return KeyRefusedError(
        f"The API refuses the key: it answered {said(response)}. {consequence}",
        hint="Check TARGET_API_KEY; a key lives for 3 hours from its first call. With a new one the tries begin anew.",
    )


def _deduced(entries: Sequence[JsonObject]) -> int:
    """At most so many tries are left: what an entry says of it, or those of a key less the entries."""
    told = [left for entry in entries if type(left := entry.get("remainingSubmissions")) is int]
    return max(0, min([TRIES - len(entries), *told]))


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
