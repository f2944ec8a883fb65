"""The SQLite sidecar: which pages of which walks are completed, so that a restart goes on and never begins again."""

from .ledger import Ledger, Walk
from .sidecar import FILE_NAME, SCHEMA_VERSION, set_aside

__all__ = ["FILE_NAME", "SCHEMA_VERSION", "Ledger", "Walk", "set_aside"]
