"""What the errors of the server mean to a caller: by SQLSTATE, never by their words."""

from __future__ import annotations

from typing import Any

from iii_skill.adapters.shared import ConnectionUnfit
from iii_skill.errors import AdapterError, AdapterUnavailable, StoreRefused


class TryAgain(AdapterUnavailable):
    """Serialization failure or deadlock: nothing was done, and the same may succeed now."""


class UnknownWriter(AdapterError):
    """The row of this host is gone, or its fence was raised: nothing was done."""


_AGAIN = frozenset({"40001", "40P01"})
_UNKNOWN_WRITER = "III01"
_ENDED = frozenset({"57P01", "57P02"})
"""The connection was ended from outside, at any moment: also after a commit."""

_REFUSED = {
    "28P01": "the user or password is wrong",
    "28000": "the user may not connect",
    "3D000": "there is no such database",
    "42501": "the user lacks a right",
}
_UNFIT = {
    "25006": "it is read-only",
    "57P03": "it is starting or stopping",
    "53300": "it has no connection to spare (`max_connections`)",
}
_PASSING = {
    "57014": "it did not finish in time",
    "55P03": "it did not get a lock in time",
    "53200": "it is out of memory",
    "53400": "it has reached a limit of its configuration",
}
_LASTING = {
    "53100": "its disk is full; nothing was changed: delete data or give it more space",
    "42501": "the user lacks a right",
    "42P01": "a table of the schema is missing; restore it, or set another `schema`",
    "3F000": "the schema is missing; restore it, or set another `schema`",
}


def while_connecting(error: Any, server: str) -> AdapterError:
    """The error of a connection that was not made."""
    code, words = error.sqlstate or "", str(error).rstrip(".")
    if code in _REFUSED:
        return StoreRefused(f"{server} refuses the connection: {_REFUSED[code]} ({words}).")
    if code in _ENDED:
        return AdapterUnavailable(f"{server} cannot be used now: it is being shut down.")
    if code in _UNFIT:
        return AdapterUnavailable(f"{server} cannot be used now: {_UNFIT[code]}.")
    return AdapterUnavailable(f"{server} cannot be used now: {words}.")


def of_call(error: Any, server: str) -> Exception:
    """The error of a call. All but an OSError say that the server has changed nothing."""
    code, words = error.sqlstate or "", str(error).rstrip(".")
    if code in _ENDED:
        return ConnectionResetError(words)
    if code == _UNKNOWN_WRITER:
        return UnknownWriter(f"{server} does not know this host any more.")
    if code in _UNFIT:
        return ConnectionUnfit(f"{server} refused: {_UNFIT[code]}; nothing was changed, try again.")
    if code in _PASSING:
        return AdapterUnavailable(f"{server} refused: {_PASSING[code]}; nothing was changed, try again.")
    if code in _AGAIN:
        return TryAgain(f"{server} refused: too much is changed at once; try again.")
    if code in _LASTING:
        return AdapterError(f"{server} refused: {_LASTING[code]} ({words}).")
    return AdapterError(f"{server} refused: {words} ({code}).")
