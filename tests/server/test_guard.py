"""Host and Origin rules: the matrix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii_skill.server.guard import (
    REMEMBERED,
    Guard,
    is_host_name,
    is_loopback,
    refusal,
)

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
        assert "--allowed-host" in reason


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
    for _ in range(2):
        assert guard.refusal("box:3111", "https://a.example", {}) is None
        assert guard.refusal("box2", None, {}) is not None


@pytest.mark.parametrize(
    ("name", "served"),
    [("iii", True), ("iii.default.svc", True), ("svc", True), ("asvc", False), ("svc.evil.example", False)],
)
def test_a_dot_before_a_name_stands_for_all_names_below_it(name: str, served: bool) -> None:
    guard = Guard(("iii", ".svc"))
    assert (guard.refusal(f"{name}:3111", None, {}) is None) is served


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("iii", True), ("host.docker.internal", True), (".svc.cluster.local", True), ("10.0.0.7", True),
        ("::1", True), ("*", True), ("", False), ("iii:3111", False), ("http://iii", False), ("a b", False),
        ("*.example", False), (".", False),
    ],
)  # fmt: skip
def test_what_may_be_allowed_is_a_name_or_an_address(text: str, valid: bool) -> None:
    assert is_host_name(text) is valid


LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
BEARER = {"authorization": "Bearer s3cret"}


def test_whoever_presents_the_token_may_call_the_host_by_any_name() -> None:
    guard = Guard(token="s3cret")
    assert guard.refusal("iii.default.svc:3111", None, {}) is not None
    assert guard.refusal("iii.default.svc:3111", None, BEARER) is None
    assert guard.refusal("iii.default.svc:3111", None, {}, "s3cret") is None
    assert guard.refusal("iii.default.svc:3111", None, {"authorization": "Bearer wrong"}) is not None
    assert guard.refusal("iii.default.svc:3111", "https://evil.example", BEARER) is not None
    assert Guard().refusal("iii", None, BEARER) is not None


@pytest.mark.parametrize(
    "given", ["Bearer \xe9", "Bearer \ud800", "\xff", "Bearer", "Bearer  ", "Basic s3cret"]
)
def test_a_token_of_any_characters_is_just_a_wrong_one(given: str) -> None:
    guard = Guard(token="s3cret")
    assert not guard.has_token({"authorization": given})
    assert guard.has_token({"authorization": "bearer s3cret "})
    assert guard.has_token({}, "s3cret")
    assert Guard().has_token({"authorization": given})


@pytest.mark.parametrize(
    ("headers", "served"),
    [
        ({}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, False),
        (LINK, True),
        (LINK | {"sec-purpose": "prefetch"}, False),
        (LINK | {"sec-purpose": "prefetch;prerender"}, False),
        (LINK | {"purpose": "prefetch"}, False),
        ({"sec-fetch-site": "cross-site", "referer": "https://evil.example/a/b"}, False),
        ({"sec-fetch-site": "cross-site", "referer": "https://app.example/a/b"}, True),
        ({"sec-fetch-site": "cross-site", "referer": "http://localhost:5173/"}, True),
        ({"sec-fetch-site": "cross-site", "referer": "http://localhost:5173@evil.example/"}, False),
        ({"sec-fetch-site": "cross-site", "referer": "nonsense"}, False),
    ],
)
def test_what_a_page_of_another_site_loads_without_an_origin(headers: dict[str, str], served: bool) -> None:
    guard = Guard((), ("https://app.example",))
    assert (guard.refusal("localhost:3111", None, headers) is None) is served
    assert Guard((), ("*",)).refusal("localhost:3111", None, headers) is None


def test_each_refused_name_is_logged_once_with_its_remedy(caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard()
    for _ in range(3):
        for number in range(100):
            assert guard.refusal(f"box{number}", None, {}) is not None
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 21
    assert "'box0'" in lines[0]
    assert "--allowed-host" in lines[0]
    assert "not logged any more" in lines[-1]


def test_long_names_are_refused_and_not_kept() -> None:
    guard = Guard(("box",), ("*",))
    before = len(guard._fine)
    for number in range(1000):
        assert guard.refusal("a" * 250_000, f"https://{number}", {}) is not None
        assert guard.refusal("localhost", "b" * 10_000 + str(number), {}) is None
        assert guard.refusal(f"{number}.localhost", None, {}) is None
    assert len(guard._fine) - before <= REMEMBERED
    assert sum(len(host or "") + len(origin or "") for host, origin in guard._fine) < 100_000


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
