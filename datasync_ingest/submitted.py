"""What is said of submissions: the answer to one, and the list of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .api.submissions import CHECK, Listing
from .errors import SubmissionRefusedError
from .ledger import Submission
from .output import table
from .submission import IdFile, clock_text, ending_of

JsonObject = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What was sent, and the `data` of the server's answer, every member of which may be missing."""

    repository: str
    file: IdFile
    answer: JsonObject

    def text(self) -> str:
        rows = [
            ("submission", _shown(self.answer, "submissionId")),
            ("number", _shown(self.answer, "submissionNumber")),
            ("tries left", _shown(self.answer, "remainingSubmissions")),
            ("IDs sent", f"{self.file.ids:,}"),
            ("IDs counted", _shown(self.answer, "eventCount")),
            ("repository", _shown(self.answer, "githubRepoUrl")),
            ("submitted at", _shown(self.answer, "submittedAt")),
            ("time to submit", _time_to_submit(self.answer)),
        ]
        return "\n".join(["Accepted.", *table(rows)])

    def as_json(self) -> dict[str, Any]:
        sent = {"path": self.file.path, "ids": self.file.ids, "bytes": self.file.size, "sha256": self.file.sha256}
        return {"accepted": True, "github_repo": self.repository, "sent": sent, "answer": self.answer}

    def require_all_counted(self) -> None:
        """Raises SubmissionRefusedError where the server counted another number of IDs than the file has."""
        counted = self.answer.get("eventCount")
        if type(counted) is int and counted != self.file.ids:
            raise SubmissionRefusedError(
                f"The submission was accepted, and the server counted {counted:,} IDs where {self.file.ids:,} were"
                " sent.",
                hint=CHECK,
            )


@dataclass(frozen=True, slots=True)
class Tries:
    """The server's list, and the sidecar's own tries at this server."""

    listing: Listing
    own: tuple[Submission, ...]

    def text(self) -> str:
        lines = [f"Submissions on the server: {len(self.listing.entries)}. Tries left: {self.listing.left_text}."]
        if self.listing.entries:
            lines += table([_SERVER_HEADING, *map(_server_row, self.listing.entries)])
        lines.append(f"Tries from this data directory: {len(self.own)}.")
        if self.own:
            lines += table([_OWN_HEADING, *map(_own_row, self.own)])
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        return {
            "tries_left": self.listing.left,
            "tries_left_told": self.listing.told,
            "submissions": list(self.listing.entries),
            "own": [{**_shown_facts(one), "ending": ending_of(one)} for one in self.own],
        }


def _shown_facts(one: Submission) -> dict[str, Any]:
    return {name: value for name, value in asdict(one).items() if name != "key"}


_SERVER_HEADING = ("number", "submitted at", "IDs counted", "time to submit", "repository")
_OWN_HEADING = ("submitted at", "IDs", "file", "repository", "ending")


def _server_row(entry: JsonObject) -> tuple[str, ...]:
    names = ("submissionNumber", "submittedAt", "eventCount")
    shown = [_shown(entry, name) for name in names]
    return (*shown, _time_to_submit(entry), _shown(entry, "githubRepoUrl"))


def _own_row(one: Submission) -> tuple[str, ...]:
    return (clock_text(one.intended_at), f"{one.ids:,}", one.path, one.github_repo, ending_of(one))


def _shown(entry: JsonObject, name: str) -> str:
    value = entry.get(name)
    if value is None:
        return "not told"
    text = f"{value:,}" if type(value) is int else str(value)
    return "".join(one if one.isprintable() else "?" for one in text[:200])


def _time_to_submit(entry: JsonObject) -> str:
    value = entry.get("timeToSubmit")
    if isinstance(value, dict):
        return _shown(value, "formatted") if "formatted" in value else _shown(value, "seconds")
    return _shown(entry, "timeToSubmit")
