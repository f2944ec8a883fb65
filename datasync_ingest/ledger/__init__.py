"""The SQLite sidecar: which pages of which walks are completed, so that a restart goes on and never begins again."""

from .ledger import Incident, Ledger, RunEnding, Sample, Walk
from .sidecar import FILE_NAME, SCHEMA_VERSION, set_aside
from .spool import PoisonedPage, Spool

__all__ = [
    "FILE_NAME",
    "SCHEMA_VERSION",
    "Incident",
    "Ledger",
    "PoisonedPage",
    "RunEnding",
    "Sample",
    "Spool",
    "Walk",
    "set_aside",
]
