"""What the server's error replies mean to a caller."""

from __future__ import annotations

import re

from iii_skill.errors import AdapterError, AdapterUnavailable

_PASSING = {
    "LOADING": "it is loading its data; try again",
    "BUSY": "another client's script keeps it busy; try again",
    "READONLY": "it has become a read-only replica; reconnecting",
    "UNBLOCKED": "it has changed its role; reconnecting",
    "MASTERDOWN": "it is a replica that has lost its master; reconnecting",
    "CLUSTERDOWN": "the cluster is down; try again",
    "MOVED": "another node of the cluster holds the scope; try again (it takes layout=cluster)",
    "ASK": "another node of the cluster takes over the scope; try again (it takes layout=cluster)",
    "TRYAGAIN": "the cluster is moving the scope; try again",
    "NOREPLICAS": "it has too few replicas to accept writes (`min-replicas-to-write`)",
    "MISCONF": "it refuses writes because it cannot save to its disk",
}
_LASTING = {
    "OOM": "it is out of memory (`maxmemory`); nothing was changed: delete keys or give it more",
    "WRONGTYPE": "a key of this scope has another type than the adapter's; delete it or set key_prefix",
    "NOPERM": "the user lacks the right to a command or key",
    "UNTOLD": "the user may neither append to the stream of changes (XADD) nor take the write back (HDEL, "
    "HSET); the key was changed and no trigger hears of it: give the user these rights",
    "NOAUTH": "it asks for a password; set one in redis_url",
    "CROSSSLOT": "it is a Redis Cluster; set layout=cluster",
}
_command = re.compile("'(.+?)' command").search
MOVED_ROLE = frozenset({"READONLY", "UNBLOCKED", "MASTERDOWN", "LOADING"})
"""After one of these the connection is of no use."""


class OutOfMemory(AdapterError):
    """The server is over `maxmemory`."""


class ServerFault(Exception):
    """An error reply of the server."""

    @property
    def code(self) -> str:
        """The first word, also of an error inside a script (Redis before 7 wraps it in a sentence)."""
        text = str(self)
        first = text.partition(" ")[0]
        if first != "ERR":
            return first
        if "script" in text:
            if "can't run this command" in text or "no permissions" in text:
                return "NOPERM"
            for code in (*_PASSING, *_LASTING):
                if f" {code} " in text:
                    return code
        return first


def adapter_error(fault: ServerFault) -> AdapterError:
    """The error that a caller gets for an error reply; but for UNTOLD the server has changed nothing."""
    code = fault.code
    if code in _PASSING:
        return AdapterUnavailable(f"Redis refused: {_PASSING[code]} ({code}).")
    if code == "NOPERM" and (found := _command(str(fault))):
        return AdapterError(
            f"Redis refused: the user lacks the right to the command {found.group(1)} (NOPERM)."
        )
    if code in _LASTING:
        kind = OutOfMemory if code == "OOM" else AdapterError
        return kind(f"Redis refused: {_LASTING[code]} ({code}).")
    return AdapterError(f"Redis refused: {fault}")
