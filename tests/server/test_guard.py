"""Host and Origin rules: the matrix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii_skill.server.guard import Guard, is_loopback, refusal

NONE: frozenset[str] = frozenset()

HOSTS = [
    # header, allowed hosts, served
    (None, (), True),
    ("localhost", (), True),
    ("localhost:3111", (), True),
    ("LOCALHOST:3111", (), True),
    ("localhost.", (), True),
    ("localhost.:3111", (), True),
    ("app.localhost:3111", (), True),
    ("127.0.0.1", (), True),
    ("127.0.0.1:3111", (), True),
    ("127.8.9.10:80", (), True),
    ("[::1]", (), True),
    ("[::1]:3111", (), True),
    ("[0:0:0:0:0:0:0:1]:3111", (), True),
    ("[::ffff:127.0.0.1]:3111", (), True),
    ("evil.example", (), False),
    ("evil.example:3111", (), False),
    ("localhost.evil.example", (), False),
    ("notlocalhost", (), False),
    ("127.0.0.1.evil.example", (), False),
    ("192.168.1.5", (), False),
    ("10.0.0.1:3111", (), False),
    ("0.0.0.0:3111", (), False),
    ("[::]:3111", (), False),
    ("[2001:db8::1]:3111", (), False),
    ("2130706433", (), False),
    ("127.1", (), False),
    ("0x7f.0.0.1", (), False),
    ("[::1%25eth0]", (), False),
    ("", (), False),
    (" ", (), False),
    (":3111", (), False),
    ("localhost:", (), False),
    ("localhost:abc", (), False),
    ("localhost:99999", (), False),
    ("localhost:80:80", (), False),
    ("localhost, evil.example", (), False),
    ("localhost evil.example", (), False),
    ("user@localhost", (), False),
    ("http://localhost", (), False),
    ("localhost/x", (), False),
    ("[::1", (), False),
    ("::1", (), False),
    ("[localhost]", (), False),
    ("[::1]x", (), False),
    ("löcalhost", (), False),
    ("local\x00host", (), False),
    ("..", (), False),
    ("box.example:3111", ("box.example",), True),
    ("BOX.Example.:3111", ("box.example",), True),
    ("other.example", ("box.example",), False),
    ("sub.box.example", ("box.example",), False),
    ("192.168.1.5:3111", ("192.168.1.5",), True),
    ("[2001:DB8::1]:3111", ("2001:db8::1",), True),
    ("192.168.1.5:3111", ("0.0.0.0",), True),
    ("[2001:db8::1]", ("::",), True),
    ("evil.example", ("0.0.0.0",), False),
    ("evil.example", ("*",), True),
]

ORIGINS = [
    # origin, allowed origins, served
    (None, (), True),
    ("http://localhost", (), True),
    ("http://localhost:5173", (), True),
    ("https://localhost:5173", (), True),
    ("HTTP://LocalHost:5173", (), True),
    ("http://localhost.:5173", (), True),
    ("http://app.localhost:5173", (), True),
    ("http://127.0.0.1:8000", (), True),
    ("http://[::1]:8000", (), True),
    ("null", (), False),
    ("", (), False),
    ("http://evil.example", (), False),
    ("https://evil.example", (), False),
    ("http://localhost.evil.example", (), False),
    ("http://127.0.0.1.evil.example", (), False),
    ("http://192.168.1.5", (), False),
    ("http://8.8.8.8:3111", (), False),
    ("http://[2001:db8::1]", (), False),
    ("http://localhost:99999", (), False),
    ("http://localhost:x", (), False),
    ("http://localhost/", (), False),
    ("http://user@localhost", (), False),
    ("http://evil.example#localhost", (), False),
    ("http://evil.example\\@localhost", (), False),
    ("localhost", (), False),
    ("//localhost", (), False),
    ("file://", (), False),
    ("ftp://localhost", (), False),
    ("chrome-extension://abcdef", (), False),
    ("http://localhost, http://evil.example", (), False),
    ("http://", (), False),
    ("https://app.example", ("https://app.example",), True),
    ("https://app.example:443", ("https://app.example",), True),
    ("HTTPS://App.Example.", ("https://app.example",), True),
    ("http://app.example", ("https://app.example",), False),
    ("https://app.example:8443", ("https://app.example",), False),
    ("https://sub.app.example", ("https://app.example",), False),
    ("https://app.example.evil", ("https://app.example",), False),
    ("chrome-extension://abcdef", ("chrome-extension://abcdef",), True),
    ("null", ("null",), True),
    ("null", ("*",), True),
    ("http://evil.example", ("*",), True),
]


@pytest.mark.parametrize(("header", "allowed", "served"), HOSTS)
def test_host(header: str | None, allowed: tuple[str, ...], served: bool) -> None:
    reason = refusal(header, None, frozenset(allowed), NONE)
    assert (reason is None) is served
    if reason is not None:
        assert reason.startswith("Host ")
        assert "use a loopback address" in reason


@pytest.mark.parametrize(("origin", "allowed", "served"), ORIGINS)
def test_origin(origin: str | None, allowed: tuple[str, ...], served: bool) -> None:
    reason = refusal("localhost", origin, NONE, frozenset(allowed))
    assert (reason is None) is served
    if reason is not None:
        assert reason.startswith("Origin ")
        assert "cors.allowed_origins" in reason


def test_a_foreign_host_is_refused_whatever_the_origin() -> None:
    assert refusal("evil.example", "http://localhost", NONE, frozenset("*")) is not None


def test_a_guard_holds_the_rule_of_a_port() -> None:
    guard = Guard(("box",), ("https://a.example",))
    assert guard.refusal("box:3111", "https://a.example") is None
    assert guard.refusal("box2", None) is not None


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("[::1]", True),
        ("127.9.9.9", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("example.com", False),
        ("", False),
    ],
)
def test_loopback_addresses_are_known(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@given(st.text(), st.text())
def test_nothing_that_a_client_sends_breaks_the_rule(host: str, origin: str) -> None:
    for reason in (refusal(host, None, NONE, NONE), refusal("localhost", origin, NONE, NONE)):
        assert reason is None or len(reason) < 700
