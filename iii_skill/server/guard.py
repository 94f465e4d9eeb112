"""Who may talk to a port: the Host and Origin rules that keep web pages of strangers out.

A browser page may open a connection to any local port. It cannot choose its `Origin`, and after DNS rebinding
its `Host` still names the attacker's domain. So a foreign Host is refused, and so is every Origin that is
neither loopback nor allowed by name. Programs that are no browsers send no Origin, and that is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

ANY = "*"
WILDCARDS = frozenset(("0.0.0.0", "::"))
"""Listening addresses that stand for every address of the machine."""

_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*\.?")
_PORTS = {"http": 80, "https": 443}


class Guard:
    """The rule of one port. A wildcard among the hosts admits every IP literal, which no DNS can rebind."""

    def __init__(self, allowed_hosts: Iterable[str] = (), allowed_origins: Iterable[str] = ()) -> None:
        self._hosts = frozenset(allowed_hosts)
        self._origins = frozenset(allowed_origins)

    def refusal(self, host_header: str | None, origin: str | None) -> str | None:
        """Why the request is refused, as one sentence; None: go on."""
        return refusal(host_header, origin, self._hosts, self._origins)


@lru_cache(maxsize=512)
def refusal(
    host_header: str | None,
    origin: str | None,
    allowed_hosts: frozenset[str],
    allowed_origins: frozenset[str],
) -> str | None:
    """Why a request with these headers is refused, as one sentence; None: go on.

    An absent Host (HTTP/1.0) and an absent Origin are accepted: browsers send both.
    """
    if host_header is not None and not _host_allowed(host_header, allowed_hosts):
        return (
            f"Host {_shown(host_header)} is not served here: use a loopback address, "
            "or listen on the address that clients name."
        )
    if origin is not None and not _origin_allowed(origin, allowed_origins):
        return (
            f"Origin {_shown(origin)} may not call this host: "
            "allow it in `cors.allowed_origins` of the HTTP section."
        )
    return None


def is_loopback(host: str) -> bool:
    """True for `localhost`, names below it and loopback IP addresses (IPv6 with or without brackets)."""
    name = _name(host)
    return name is not None and _loopback(name)


def _host_allowed(header: str, allowed: frozenset[str]) -> bool:
    if ANY in allowed:
        return True
    name, port = _split(header)
    if name is None or (port is not None and not _is_port(port)):
        return False
    if _loopback(name) or name in {_name(entry) for entry in allowed}:
        return True
    return _address(name) is not None and not WILDCARDS.isdisjoint(allowed)


def _origin_allowed(origin: str, allowed: frozenset[str]) -> bool:
    if ANY in allowed or origin in allowed:
        return True
    parts = _origin_parts(origin)
    if parts is None:
        return False
    return _loopback(parts[1]) or parts in {_origin_parts(entry) for entry in allowed}


def _origin_parts(origin: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an http(s) origin; None for `null`, other schemes and what is none."""
    scheme, separator, rest = origin.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _PORTS:
        return None
    name, port = _split(rest)
    if name is None:
        return None
    if port is None:
        return scheme, name, _PORTS[scheme]
    return (scheme, name, int(port)) if _is_port(port) else None


def _split(authority: str) -> tuple[str | None, str | None]:
    """Normalised name and port text of `host[:port]`."""
    if authority.startswith("["):
        inside, bracket, after = authority.partition("]")
        if not bracket or (after and not after.startswith(":")):
            return None, None
        return _name(inside + bracket), after[1:] if after else None
    host, colon, port = authority.partition(":")
    return _name(host), port if colon else None


def _name(host: str) -> str | None:
    """Lower case, without brackets and trailing dot, IP addresses in their shortest form; None: no host."""
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        return None if ":" not in host else _canonical(host)
    if ":" in host:
        return _canonical(host)
    lowered = host.lower()
    if not _NAME.fullmatch(lowered):
        return None
    lowered = lowered.removesuffix(".")
    return _canonical(lowered) or lowered


def _canonical(host: str) -> str | None:
    address = _address(host)
    return None if address is None else str(address)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    if "%" in host:
        return None
    try:
        address = ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _loopback(name: str) -> bool:
    address = _address(name)
    if address is not None:
        return address.is_loopback
    return name == "localhost" or name.endswith(".localhost")


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535


def _shown(value: str) -> str:
    return repr(value[:100])
