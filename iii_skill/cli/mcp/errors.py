"""ToolError: what an agent is told when a tool could not do it."""

from __future__ import annotations


class ToolError(Exception):
    """One sentence on what is wrong, and what to do where that helps."""
