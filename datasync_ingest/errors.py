"""Every named ending but success: what happened, what to do about it, and the exit code.

The tree is split by what the caller does with an error, not by where it was raised. The message says what was
wrong and where it came from; the hint says what to do. Secrets are masked where the message is printed.
"""

from __future__ import annotations

import signal


class IngestError(Exception):
    """The root: an ending that has a name. Anything else that reaches the user is a bug (exit code 1)."""

    exit_code = 1
    hint = ""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


# --- 2: the person changes a setting, the data directory or the disk, and runs the same command again ---


class ConfigurationError(IngestError):
    """Raised when a setting, a flag or a file that the user gave cannot be used."""

    exit_code = 2


class DataDirectoryError(ConfigurationError):
    """Raised when the data directory cannot be made, read or written."""


class OtherSourceError(ConfigurationError):
    """Raised when the data directory or the database already belongs to another API or another database."""


class LedgerDivergedError(ConfigurationError):
    """Raised when the sidecar says that a page is in the database and the database does not have it."""


class LedgerDamagedError(ConfigurationError):
    """Raised when the sidecar cannot be read: not an SQLite file, cut off, or written by a newer version."""


class DiskFullError(ConfigurationError):
    """Raised when a file of ours cannot grow: the sidecar, the export or the embedded database."""


class WorkerRefusedError(ConfigurationError):
    """Raised when a worker of a cluster is not for this run: another version, another database, or no package."""


# --- 3: the API ---


class ApiError(IngestError):
    """Raised when the API ended the run; what was committed stays, and the same command goes on from there."""

    exit_code = 3


class ApiUnreachableError(ApiError):
    """Raised when the API did not answer, or answered only faults, for as long as we are willing to wait."""


class NotTheApiError(ApiError):
    """Raised when something answers at the URL that is not this API (a wrong path, a web page, a redirect)."""


class KeyRefusedError(ApiError):
    """Raised when the API refuses the key: it is wrong, or it has run out."""


class StreamRefusedError(ApiError):
    """Raised when the feed is not for us: stream access is refused, or a token of it that should be good."""


class CursorExpiredError(ApiError):
    """Raised when the API says that a cursor has expired; the walk decides how to go on."""


class PageContradictionError(ApiError):
    """Raised when the API keeps answering pages that contradict themselves: a loop, or more without a cursor."""


class EventUnreachableError(ApiError):
    """Raised when a page cannot be had even as a single event: it is too large, or the server fails on it alone."""


class SubmissionRefusedError(ApiError):
    """Raised when the API answered a submission, and did not accept it; the try may be gone all the same."""


class SubmissionUnknownError(ApiError):
    """Raised when a submission went out and nobody knows whether it counts: it broke off, or the answer is unclear."""


# --- 4: the database ---


class DatabaseError(IngestError):
    """Raised when PostgreSQL ended the run; what was committed stays, and the same command goes on from there."""

    exit_code = 4


class DatabaseUnreachableError(DatabaseError):
    """Raised when no connection to PostgreSQL could be made for as long as we are willing to wait."""


class DatabaseRefusedError(DatabaseError):
    """Raised when PostgreSQL answers, and refuses: a wrong password, no such database, no right to do this."""


class EmbeddedPostgresError(DatabaseError):
    """Raised when the embedded PostgreSQL cannot be set up, started or stopped."""


# --- 5: ended, and not everything is there ---


class IncompleteError(IngestError):
    """Raised when the run ended, or a command refuses to go on, because events are missing."""

    exit_code = 5


class SubmissionHeldError(IncompleteError):
    """Raised when a submission is held back, before a byte of it went out: something speaks against it."""


class WorkerDiedError(IncompleteError):
    """Raised when a worker process died or hung without having been told to stop."""


class ClusterError(IncompleteError):
    """Raised when the cluster ended the run; what was committed stays, and the same command goes on from there."""


class SchedulerLostError(ClusterError):
    """Raised when the cluster's scheduler is gone in mid-run, or another one is in its place."""


class NoWorkerError(ClusterError):
    """Raised when the cluster had no worker for this program for as long as we are willing to wait."""


class SchedulerAwayError(ClusterError):
    """Raised when no Dask scheduler answered for as long as we are willing to wait."""


class WorkerFailedError(IncompleteError):
    """Raised when a worker met an error that has no name, which is a bug; its traceback is kept."""

    exit_code = 1


# --- 6: somebody else is at it ---


class AlreadyRunningError(IngestError):
    """Raised when another run holds the sidecar or the database."""

    exit_code = 6


# --- 129, 130, 143: a signal ---


class StoppedError(IngestError):
    """Raised when SIGHUP, SIGINT or SIGTERM ended the run in order; the same command goes on from there."""

    hint = "Run the same command again to go on from here."

    def __init__(self, signum: int, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.exit_code = 128 + signum
        self.signal_name = signal.Signals(signum).name
