"""The commands, one module each: what argv may hold, and the call of the room that does the work."""

from __future__ import annotations

from importlib import import_module

from ..stopping import signals_held
from .command import Command

# Name -> module, which has a `COMMAND`. Each has a script in bin/ and an entry point in setup.cfg.
MODULES = {
    "ingest": "ingest",
    "export-ids": "export_ids",
    "psql": "psql",
    "quick-test": "quick_test",
    "explore-api": "explore_api",
    "report": "report",
    "status": "status",
    "submit": "submit",
    "worker": "worker",
}


def command(name: str) -> Command:
    """Imports that one alone. Raises KeyError for an unknown name."""
    with signals_held():
        found: Command = import_module(f".{MODULES[name]}", __package__).COMMAND
    return found


__all__ = ["MODULES", "Command", "command"]
