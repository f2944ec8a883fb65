"""Builds docker/Dockerfile without Docker: its steps, in order, in roots of their own."""
