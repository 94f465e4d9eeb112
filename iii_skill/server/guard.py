"""Who may talk to a port: the Host, Origin and Sec-Fetch rules that keep web pages of strangers out.

A browser page may open a connection to any local port. It cannot choose its `Origin`, and after DNS rebinding
its `Host` still names the attacker's domain. So a foreign Host is refused, and so is every Origin that is
neither loopback nor allowed by name. Images, scripts and frames of a page are asked for without an Origin;
browsers say `Sec-Fetch-Site: cross-site` then. Programs that are no browsers send none of these, and that is
accepted. Whoever presents the token is no stranger, whatever name he calls the host by.
"""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from iii_skill.errors import ConfigurationError
from iii_skill.few_warnings import FewWarnings

logger = logging.getLogger(__name__)

ANY = "*"
WILDCARDS = frozenset(("0.0.0.0", "::"))
"""Listening addresses that stand for every address of the machine."""

LONGEST = 300
"""No host name with its port and no origin is longer; names have at most 253 characters."""

REMEMBERED = 256
"""Pairs of Host and Origin that are known to be fine."""

_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*\.?")
MAX_TOKEN = 8192
_PORTS = {"http": 80, "https": 443}


def check_token(token: str, what: str = "The token") -> None:
    """Accept a token that every worker can present; ConfigurationError says what is wrong with it."""
    if not token:
        raise ConfigurationError(f"{what} is empty: anybody could present it. Give one, or none at all.")
    if token != token.strip():
        raise ConfigurationError(
            f"{what} begins or ends with a blank, which no worker can present: take the blank away."
        )
    if len(token) > MAX_TOKEN:
        raise ConfigurationError(f"{what} is longer than {MAX_TOKEN} characters.")
    if not (token.isascii() and token.isprintable()):
        raise ConfigurationError(
            f"{what} holds characters that not every worker can send: use letters, digits and signs of ASCII."
        )


class Guard:
    """The rule of one port.

    `allowed_hosts` are names and addresses beyond loopback; `.example.com` also stands for every name below
    it, and a wildcard address admits every IP literal, which no DNS can rebind.
    """

    def __init__(
        self,
        allowed_hosts: Iterable[str] = (),
        allowed_origins: Iterable[str] = (),
        *,
        token: str | None = None,
    ) -> None:
        self._hosts = frozenset(allowed_hosts)
        self._origins = frozenset(allowed_origins)
        self._token = token
        self._fine: set[tuple[str | None, str | None]] = set()
        self._warnings = FewWarnings(logger, "requests that are refused for their Host or Origin", limit=20)

    def refusal(
        self, host: str | None, origin: str | None, headers: Mapping[str, str], query_token: str = ""
    ) -> str | None:
        """Why the request is refused, as one sentence; None: go on. The first of a kind is logged."""
        if (host, origin) not in self._fine:
            reason = refusal(host, origin, self._hosts, self._origins)
            if reason is not None and reason.startswith("Host ") and self._presented(headers, query_token):
                reason = refusal(None, origin, self._hosts, self._origins)
            elif reason is None and len(self._fine) < REMEMBERED and _short(host) and _short(origin):
                self._fine.add((host, origin))
            if reason is not None:
                self._warnings.warn(reason, "refused: " + reason.replace("%", "%%"))
                return reason
        if origin is None and headers.get("sec-fetch-site") == "cross-site":
            reason = _foreign_page(headers, self._origins)
            if reason is not None:
                self._warnings.warn(reason, "refused: " + reason.replace("%", "%%"))
                return reason
        return None

    def has_token(self, headers: Mapping[str, str], query_token: str = "") -> bool:
        """True when the port wants no token, or the right one is presented."""
        return self._token is None or self._presented(headers, query_token)

    def _presented(self, headers: Mapping[str, str], query_token: str) -> bool:
        """True when the token is known and stands in `Authorization: Bearer`, or else in the query."""
        if self._token is None:
            return False
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = query_token
        return hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token.encode())


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
            f"Host {_shown(host_header)} is not served here: use a loopback address, name it with "
            "--allowed-host, or present the token (Authorization: Bearer …)."
        )
    if origin is not None and not _origin_allowed(origin, allowed_origins):
        return (
            f"Origin {_shown(origin)} may not call this host: "
            "allow it in `cors.allowed_origins` of the HTTP section."
        )
    return None


def _foreign_page(headers: Mapping[str, str], allowed_origins: frozenset[str]) -> str | None:
    """Why a page of another site may not load this; its Referer says which page it is, if it says so at all.

    A link that is followed is fine: the user sees where it leads, and the page does not see the answer. What
    a browser fetches ahead of that is not: nobody sees it.
    """
    if ANY in allowed_origins:
        return None
    ahead = headers.get("sec-purpose", "") or headers.get("purpose", "")
    page_itself = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    if page_itself and not ahead.startswith("prefetch"):
        return None
    referer = headers.get("referer", "")
    page = "/".join(referer.split("/", 3)[:3])
    if page and _origin_allowed(page, allowed_origins):
        return None
    what = f"the page {_shown(page)}" if page else "a page"
    return (
        f"Sec-Fetch-Site: {what} of another site may not load this: "
        "allow its origin in `cors.allowed_origins` of the HTTP section."
    )


def _short(header: str | None) -> bool:
    return header is None or len(header) <= LONGEST


def is_host_name(text: str) -> bool:
    """True for what `--allowed-host` takes: a name, an address, `.name` for all names below it, or `*`."""
    return text == ANY or _name(text.removeprefix(".")) is not None


def is_loopback(host: str) -> bool:
    """True for `localhost`, names below it and loopback IP addresses (IPv6 with or without brackets)."""
    name = _name(host)
    return name is not None and _loopback(name)


def _host_allowed(header: str, allowed: frozenset[str]) -> bool:
    if ANY in allowed:
        return True
    if not _short(header):
        return False
    name, port = _split(header)
    if name is None or (port is not None and not _is_port(port)):
        return False
    if _loopback(name):
        return True
    if any(_covers(entry, name) for entry in allowed):
        return True
    return _address(name) is not None and not WILDCARDS.isdisjoint(allowed)


def _covers(entry: str, name: str) -> bool:
    if entry.startswith("."):
        parent = _name(entry[1:])
        return parent is not None and (name == parent or name.endswith("." + parent))
    return name == _name(entry)


def _origin_allowed(origin: str, allowed: frozenset[str]) -> bool:
    if ANY in allowed or origin in allowed:
        return True
    if not _short(origin):
        return False
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
