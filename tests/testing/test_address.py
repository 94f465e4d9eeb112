"""Where a setting names a server, and the same setting with a proxy in its place."""

from __future__ import annotations

import pytest

from iii_skill.testing.address import address_in, addressed, shown

FOUND = {
    "redis://localhost:6379": ("localhost", 6379, "redis://p:1"),
    "redis://:secret@db.example/3?timeout=1": ("db.example", 6379, "redis://:secret@p:1/3?timeout=1"),
    "rediss://u:p%40w@10.0.0.1:6380/0": ("10.0.0.1", 6380, "rediss://u:p%40w@p:1/0"),
    "postgresql://u@h/db": ("h", 5432, "postgresql://u@p:1/db"),
    "postgresql+asyncpg://u:p@h:5433/db?x=1": ("h", 5433, "postgresql+asyncpg://u:p@p:1/db?x=1"),
    "postgresql://u:a:b@h/db": ("h", 5432, "postgresql://u:a:b@p:1/db"),
    "redis://[::1]:7000/0": ("::1", 7000, "redis://p:1/0"),
    "strange://h:9/": ("h", 9, "strange://p:1/"),
    "host=db port=5433 dbname=x password='a b'": ("db", 5433, "dbname=x password='a b' host=p port=1"),
    "dbname=x host=db": ("db", 5432, "dbname=x host=p port=1"),
    "127.0.0.1:4000": ("127.0.0.1", 4000, "p:1"),
    "[::1]:4000": ("::1", 4000, "p:1"),
}


@pytest.mark.parametrize("text", FOUND)
def test_the_address_is_found_and_replaced(text: str) -> None:
    host, port, replaced = FOUND[text]
    assert address_in(text) == (host, port)
    assert addressed(text, "p:1") == replaced


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a word",
        "unix:///run/redis.sock",
        "strange://h/",
        "postgresql://a:1,b:2/db",
        "host",
        ":80",
        "host=/run port=1",
    ],
)
def test_what_names_no_single_tcp_address_is_none(text: str) -> None:
    assert address_in(text) is None


def test_a_password_is_not_shown() -> None:
    assert shown("redis://u:secret@h:1/0") == "redis://***@h:1/0"
    assert shown("redis://h:1/0") == "redis://h:1/0"
    assert shown("host=h password=secret x=1") == "host=h password=*** x=1"
    assert shown("password='a b' host=h") == "password=*** host=h"
