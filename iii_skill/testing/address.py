"""The address of a server inside a setting: found, replaced, and shown without its password."""

from __future__ import annotations

import re

PORTS = {
    "amqp": 5672,
    "http": 80,
    "https": 443,
    "mongodb": 27017,
    "mysql": 3306,
    "nats": 4222,
    "postgres": 5432,
    "postgresql": 5432,
    "redis": 6379,
    "rediss": 6379,
    "valkey": 6379,
}
"""What a URL without a port means, by its scheme (`postgresql+asyncpg` counts as `postgresql`)."""

_SERVER = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<user>[^/?#]*@)?(?P<host>\[[^\]]*\]|[^/?#:,]+)(:(?P<port>\d+))?(?=[/?#]|$)"
    r"|(?P<plain_host>[A-Za-z0-9.-]+|\[[^\]]*\]):(?P<plain_port>\d+)$"
)


def address_in(text: str) -> tuple[str, int] | None:
    """Host and port that a URL, `host:port` or `host=... port=...` names; None for none, or several."""
    words = _words(text)
    if "host" in words:
        host = words["host"]
        return None if host.startswith("/") or "," in host else (host, int(words.get("port", 5432)))
    found = _SERVER.match(text)
    if found is None:
        return None
    if found["plain_host"]:
        return found["plain_host"].strip("[]"), int(found["plain_port"])
    port = found["port"] or PORTS.get(found["scheme"].partition("+")[0].lower())
    return None if port is None else (found["host"].strip("[]"), int(port))


def addressed(text: str, address: str) -> str:
    """The same text with another `host:port` in it."""
    if "host" in _words(text):
        host, _, port = address.rpartition(":")
        kept = {key: value for key, value in _words(text).items() if key not in ("host", "hostaddr", "port")}
        return " ".join(f"{key}={value}" for key, value in {**kept, "host": host, "port": port}.items())
    found = _SERVER.match(text)
    assert found is not None
    if found["plain_host"]:
        return address
    return f"{found['scheme']}://{found['user'] or ''}{address}{text[found.end() :]}"


def shown(text: str) -> str:
    """The text without the secrets that stand before an @ or behind `password=`."""
    return re.sub(r"(?<=://)[^/?#]*@", "***@", re.sub(r"(?<=password=)('[^']*'|\S+)", "***", text))


def _words(text: str) -> dict[str, str]:
    """`host=... port=...`, as libpq reads it; empty for anything else."""
    found = re.findall(r"(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|\S+)", text)
    return dict(found) if "://" not in text else {}
