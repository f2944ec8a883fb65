"""Copies every event of a cursor-paginated, rate-limited HTTP API into PostgreSQL."""

__version__ = "0.1.0"
