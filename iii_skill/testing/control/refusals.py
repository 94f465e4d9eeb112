"""Refused: why a control request is not answered with a result, with its HTTP status and code."""

from __future__ import annotations


class VerbRefused(Exception):
    """`code` is for programs, `message` for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def bad_request(message: str) -> VerbRefused:
    """The request has not the shape that its verb takes."""
    return VerbRefused(400, "BAD_REQUEST", message)


def no_such(what: str, message: str) -> VerbRefused:
    """There is no such verb, engine or fault."""
    return VerbRefused(404, f"NO_SUCH_{what}", message)


def not_so(code: str, message: str) -> VerbRefused:
    """What was waited for did not come, or what was called failed."""
    return VerbRefused(409, code, message)
