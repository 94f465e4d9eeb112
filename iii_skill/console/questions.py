"""What the questions of a page have in common: how one is read, and how it is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)

Questions: TypeAlias = dict[str, Callable[[bytes], Awaitable[bytes]]]
"""By name what takes and gives encoded JSON."""

COMPARE_AND_SET = "state::compare-and-set"


class QuestionRefused(Exception):
    """The answer is an error; more members may say more."""

    def __init__(self, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.fields = {"code": code, "message": message, **more}


class KeyQuestion(msgspec.Struct, frozen=True):
    """One key."""

    scope: str
    key: str


def read(body: bytes, kind: type[S]) -> S:
    """A question; raises msgspec.DecodeError."""
    return msgspec.json.decode(body or b"{}", type=kind)
