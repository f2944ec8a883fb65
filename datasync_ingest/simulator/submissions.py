"""The submissions of each key: every POST counts, a failed one too, and there are only five."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from .answers import Answer, RefusedError, Request, json_answer, web_page
from .options import Options


class Submissions:
    """What was submitted, by key."""

    def __init__(self) -> None:
        self._tries: dict[str, int] = {}
        self._accepted: dict[str, list[dict[str, Any]]] = {}

    def submit(self, key: str, request: Request, options: Options) -> Answer:
        """Reads the body to its end, unless a fault is due. Raises RefusedError; the try is gone all the same."""
        fault = options.submission_fault
        if fault == "429":
            raise RefusedError(429, "RATE_LIMITED", "too many requests")
        if fault == "413":
            return _too_large()
        began = time.monotonic()
        number = self._try(key, options)
        if fault in _BEFORE:
            return _BEFORE[fault](request)
        ids, repository = _read(replace(request, body=_whole(request)))
        if not repository:
            raise RefusedError(400, "MISSING_GITHUB_REPO", "github_repo is required")
        if not ids:
            raise RefusedError(400, "NO_IDS", "the submission holds no ids")
        accepted = {
            "submissionId": str(uuid.uuid4()),
            "eventCount": ids - (fault == "miscounted"),
            "githubRepoUrl": repository,
            "submittedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "timeToSubmit": _duration(time.monotonic() - began),
            "submissionNumber": number,
            "remainingSubmissions": options.submissions - number,
        }
        self._accepted.setdefault(key, []).append(accepted)
        answer = json_answer({"success": True, "data": accepted, "message": f"Submission {number} was accepted."})
        return _spoiled(answer, options)

    def of(self, key: str, options: Options) -> Answer:
        listed: dict[str, Any] = {"success": True, "data": self._accepted.get(key, [])}
        if options.submissions_tell_left:
            listed["remainingSubmissions"] = max(0, options.submissions - self._tries.get(key, 0))
        return json_answer(listed)

    def _try(self, key: str, options: Options) -> int:
        self._tries[key] = number = self._tries.get(key, 0) + 1
        if number > options.submissions:
            raise RefusedError(429, "SUBMISSION_LIMIT_REACHED", f"{options.submissions} submissions were made already")
        return number


def _too_large() -> Answer:
    answer = web_page(413)
    answer.early = True
    return answer


def _cut(request: Request) -> Answer:
    left = int(request.headers.get("Content-Length") or 0) // 2
    for block in request.body:
        left -= len(block)
        if left <= 0:
            break
    return Answer(0, [], silent=True)


def _too_large_for_the_application(request: Request) -> Answer:
    del request
    raise RefusedError(413, "PAYLOAD_TOO_LARGE", "request entity too large")


def _failed(request: Request) -> Answer:
    del request
    raise RefusedError(500, "INTERNAL_ERROR", "something went wrong")


def _unsuccessful(request: Request) -> Answer:
    del request
    return json_answer({"success": False, "message": "The repository could not be read."})


_BEFORE = {
    "cut": _cut,
    "413-app": _too_large_for_the_application,
    "500": _failed,
    "unsuccessful": _unsuccessful,
}


def _spoiled(answer: Answer, options: Options) -> Answer:
    """What becomes of the answer of a submission that was accepted."""
    match options.submission_fault:
        case "502":
            return web_page(502)
        case "html":
            return web_page(200)
        case "lost":
            answer.silent = True
        case "slow":
            answer.delay_s = options.slow_s
    return answer


def _read(request: Request) -> tuple[int, str]:
    """How many ids, and for which repository: one a line, or the same inside JSON."""
    if not request.headers.get("Content-Type", "").startswith("application/json"):
        return _lines(request.body), request.query.get("github_repo", "")
    try:
        fields = json.loads(b"".join(request.body))
        return _lines(iter([str(fields["ids"]).encode()])), str(fields.get("githubRepoUrl", ""))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise RefusedError(400, "INVALID_BODY", "the JSON body must have ids and githubRepoUrl") from None


def _whole(request: Request) -> Iterator[bytes]:
    """Raises RefusedError at the end of a body that is shorter than it said."""
    missing = int(request.headers.get("Content-Length") or 0)
    for block in request.body:
        missing -= len(block)
        yield block
    if missing > 0:
        raise RefusedError(400, "REQUEST_ABORTED", "the body ended too early")


def _lines(blocks: Iterator[bytes]) -> int:
    """Lines that are not empty, however the blocks are cut."""
    count, rest = 0, b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        count += sum(1 for line in lines if line.strip())
    return count + bool(rest.strip())


def _duration(seconds: float) -> dict[str, Any]:
    return {
        "ms": round(seconds * 1000),
        "seconds": int(seconds),
        "minutes": int(seconds / 60),
        "formatted": f"{seconds:.1f}s",
    }
