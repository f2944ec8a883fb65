"""What `bin/explore-api` finds out: questions within a budget, what their answers prove, and what to set by it."""

from .exploring import DEFAULT_BUDGET, PLANNED, Exploration

__all__ = ["DEFAULT_BUDGET", "PLANNED", "Exploration"]
