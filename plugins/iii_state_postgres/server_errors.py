"""What the errors of the server mean to a caller: by SQLSTATE, never by their words."""

from __future__ import annotations

import os
import ssl
from typing import Any
from urllib.parse import parse_qsl, urlsplit

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

_FILES = frozenset({"sslrootcert", "sslcert", "sslkey", "sslcrl"})
_REFUSED = {
    "28P01": "the user or password is wrong",
    "28000": "the user may not connect",
    "3D000": "there is no such database",
    "42501": "the user lacks a right",
    "08P01": "a pooler that stands before it takes no settings of a session; set pooler=true",
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
    "42883": "a function of the schema is missing: a host of a newer version has changed its layout; restart "
    "this one with that version",
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


def of_tls(error: OSError, server: str, url: str) -> StoreRefused | None:
    """The error of a connection that cannot be made before somebody changes the URL, a file or the server.

    None for one that may pass.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return StoreRefused(
            f"The certificate of {server} is not trusted: {error.verify_message.rstrip('.')}."
        )
    if isinstance(error, ssl.SSLError) and error.library in ("X509", "PEM"):
        return StoreRefused(
            "database_url cannot be used: sslrootcert, sslcert or sslkey holds no certificate or key "
            f"({error.reason})."
        )
    for name, path in parse_qsl(urlsplit(url).query):
        # The error names no file.
        if name in _FILES and not os.access(path, os.R_OK):
            return StoreRefused(f"database_url cannot be used: {name}={path} cannot be read.")
    if "rejected SSL upgrade" in str(error):
        return StoreRefused(
            f"{server} does not speak TLS, which sslmode demands: set ssl = on there, or leave sslmode out."
        )
    return None


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
