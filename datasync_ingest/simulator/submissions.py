"""The submissions of each key: every POST counts, a failed one too, and there are only five."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from .answers import RefusedError
from .options import Options


class Submissions:
    """What was submitted, by key."""

    def __init__(self) -> None:
        self._tries: dict[str, int] = {}
        self._accepted: dict[str, list[dict[str, Any]]] = {}

    def submit(
        self, key: str, query: Mapping[str, str], content_type: str, body: Iterator[bytes], options: Options
    ) -> dict[str, Any]:
        """Reads the body to its end. Raises RefusedError; the try is gone all the same."""
        began = time.monotonic()
        self._tries[key] = number = self._tries.get(key, 0) + 1
        if number > options.submissions:
            raise RefusedError(429, "SUBMISSION_LIMIT_REACHED", f"{options.submissions} submissions were made already")
        ids, repository = self._read(query, content_type, body)
        if not repository:
            raise RefusedError(400, "MISSING_GITHUB_REPO", "github_repo is required")
        if not ids:
            raise RefusedError(400, "NO_IDS", "the submission holds no ids")
        seconds = time.monotonic() - began
        accepted = {
            "submissionId": str(uuid.uuid4()),
            "eventCount": ids,
            "githubRepoUrl": repository,
            "submittedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "timeToSubmit": _duration(seconds),
            "submissionNumber": number,
            "remainingSubmissions": options.submissions - number,
        }
        self._accepted.setdefault(key, []).append(accepted)
        return {"success": True, "data": accepted, "message": f"Submission {number} was accepted."}

    def of(self, key: str, options: Options) -> dict[str, Any]:
        return {
            "success": True,
            "data": self._accepted.get(key, []),
            "remainingSubmissions": max(0, options.submissions - self._tries.get(key, 0)),
        }

    def _read(self, query: Mapping[str, str], content_type: str, body: Iterator[bytes]) -> tuple[int, str]:
        """How many ids, and for which repository: one a line, or the same inside JSON."""
        if not content_type.startswith("application/json"):
            return _lines(body), query.get("github_repo", "")
        try:
            fields = json.loads(b"".join(body))
            return _lines(iter([str(fields["ids"]).encode()])), str(fields.get("githubRepoUrl", ""))
        except (ValueError, KeyError, AttributeError, TypeError):
            raise RefusedError(400, "INVALID_BODY", "the JSON body must have ids and githubRepoUrl") from None


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
