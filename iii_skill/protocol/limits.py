"""Bounds of the worker protocol that both sides of a connection keep."""

from __future__ import annotations

MESSAGE_LIMIT = 64 * 1024 * 1024
"""The largest message in bytes that any SDK takes, and that the host takes."""
