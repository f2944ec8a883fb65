"""The SQLite sidecar: which pages of which walks are completed, so that a restart goes on and never begins again."""

from .entries import Incident, RunEnding, Sample, Walk
from .ledger import Ledger
from .sidecar import FILE_NAME, SCHEMA_VERSION
from .spool import PoisonedPage, Spool
from .submissions import Export, Submission, Submissions

__all__ = [
    "FILE_NAME",
    "SCHEMA_VERSION",
    "Export",
    "Incident",
    "Ledger",
    "PoisonedPage",
    "RunEnding",
    "Sample",
    "Spool",
    "Submission",
    "Submissions",
    "Walk",
]
