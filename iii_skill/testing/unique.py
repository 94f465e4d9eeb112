"""A fresh word for a corner of its own on a shared server."""

from __future__ import annotations

from uuid import uuid4


def unique() -> str:
    """A word of 16 lower-case letters and digits that begins with a letter: an identifier in every store."""
    return f"t{uuid4().hex[:15]}"
