"""Absent: what an engine that runs elsewhere cannot do; a test that asks for it is skipped."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest


def not_here(what: str) -> NoReturn:
    """Skip the test: it cannot run against an engine that runs elsewhere."""
    __tracebackhide__ = True
    pytest.skip(f"{what} needs an engine of the test's own: leave out --iii-real-engine")


class AbsentPart:
    """Stands for a part of an engine; whatever is asked of it skips the test."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __getattr__(self, name: str) -> Any:
        __tracebackhide__ = True
        if name.startswith("__"):
            raise AttributeError(name)
        not_here(f"`{self._what}.{name}`")
