"""Faults of every kind against whole runs, and the exact comparison that each must pass."""
