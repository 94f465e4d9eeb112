"""Why a worker has no connection to an engine, in words."""

from __future__ import annotations

import os

from iii_skill.errors import ConfigurationError

WENT_AWAY = ("not_connected", "The engine went away before it answered.")
"""Code and text for a call whose answer cannot come any more."""

NO_GREETING = "it does not greet as an iii engine does"


class Refused(ConfigurationError):
    """The engine, or another owner of `state::*`, stands in the way."""


def not_let_in(url: str, status: int) -> Refused | ConnectionError:
    """Why an HTTP status came instead of a connection; only what waiting cannot mend is a refusal."""
    if 300 <= status < 400:
        return Refused(
            f"The engine at {url} sends this worker elsewhere ({status}): give that address itself."
        )
    if status in (401, 403):
        return Refused(
            f"The engine at {url} does not let this worker in ({status}): give its token with --token."
        )
    return ConnectionError(f"it answers HTTP {status}; a worker port is 49134 unless configured")


def no_answer(url: str, error: Exception) -> str:
    """One sentence about an address behind which no engine was found."""
    text = str(error).rstrip(".")
    if isinstance(error, OSError) and error.errno:
        # A name that is not found has a number of its own, below zero.
        reason = os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
        return f"Nothing answers at {url}: {reason}."
    if not url.startswith(("ws://", "wss://")):
        return f"{url} is no address of a host or an engine: those begin with ws:// or wss://."
    if text.startswith("it "):
        return f"What listens at {url} does not answer as a host or an engine: {text}."
    if isinstance(error, ValueError):
        return f"{url} is no address of a host or an engine: {text}."
    return f"Nothing answers at {url}: {text or 'not in time'}."


def refused_by(code: str, message: str) -> str:
    """What an engine said that refuses a connection it had let in."""
    return f"The engine refuses the connection: {code}: {message}"
