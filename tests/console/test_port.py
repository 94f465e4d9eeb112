"""The port of a console: who may ask, what it is made of, and that nobody takes more than his share of it."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.console import ConsoleHost
from support.host import running_host

import iii_skill.console
from iii_skill.console.files import POLICY
from iii_skill.console.texts import LARGEST

STATIC = Path(iii_skill.console.__file__).parent / "static"


def code(body: bytes) -> str:
    return str(json.loads(body)["error"]["code"])


def test_the_page_comes_without_a_token_and_nothing_else_does(host: ConsoleHost) -> None:
    status, headers, body = host.request("GET", "/", authorization="none")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert headers["content-security-policy"] == POLICY.decode()
    assert headers["x-content-type-options"] == "nosniff"
    assert b'<script type="module" src="/app.js">' in body
    for given in ("none", "Bearer wrong", f"Basic {host.token}", f"Bearer {host.token}x"):
        for method, path in (("POST", "/api/about"), ("GET", "/api/changes")):
            status, headers, body = host.request(method, path, authorization=given)
            assert (status, code(body)) == (401, "TOKEN"), (given, path)
            assert "content-security-policy" in headers


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example", "authorization": "none"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
    ],
)
def test_pages_of_strangers_are_refused_even_with_the_token(
    host: ConsoleHost, headers: dict[str, str]
) -> None:
    for method, path in (("GET", "/"), ("POST", "/api/about"), ("GET", "/api/changes")):
        status, _, body = host.request(method, path, **headers)
        assert (status, code(body)) == (403, "FORBIDDEN")


def test_what_is_not_there_and_not_meant_is_said(host: ConsoleHost) -> None:
    asked = [
        ("GET", "/nothing", 404),
        ("GET", "/../api.py", 404),
        ("GET", "/vendor/preact.LICENSE", 404),
        ("POST", "/app.js", 405),
        ("GET", "/api/about", 405),
        ("POST", "/api/changes", 405),
        ("POST", "/api/nothing", 404),
    ]
    assert [(m, p, host.request(m, p)[0]) for m, p, _ in asked] == asked
    status, _, body = host.request("POST", "/api/value", b"{")
    assert (status, code(body)) == (200, "BAD_REQUEST")
    status, _, body = host.request("POST", "/api/value", b" " * (33 * 1024 * 1024))
    assert (status, code(body)) == (413, "TOO_LARGE")


def test_the_token_is_another_one_at_each_start(host: ConsoleHost) -> None:
    before = host.token
    host.restart()
    assert host.token != before
    assert host.request("POST", "/api/about", authorization=f"Bearer {before}")[0] == 401
    assert host.request("POST", "/api/about")[0] == 200


def test_a_value_that_is_large_is_told_by_its_size(host: ConsoleHost) -> None:
    host.put("s", "large", '"' + "x" * 5_000_000 + '"')
    answer = host.ask("value", scope="s", key="large")
    assert (answer["exists"], answer["size"], answer["too_large"], answer["base"]) == (
        True,
        5_000_002,
        True,
        None,
    )
    assert len(answer["text"]) == 2000
    host.put("s", "fits", '"' + "x" * (LARGEST - 2) + '"')
    assert host.ask("value", scope="s", key="fits")["base"] is not None
    missed = host.ask("save", scope="s", key="large", text="1", base="2")
    assert missed["now"]["too_large"]
    assert missed["merge"] is None


def test_a_page_that_never_reads_holds_back_its_own_feed_alone(host: ConsoleHost) -> None:
    place = urlsplit(host.address)
    assert place.hostname is not None
    head = f"GET /api/changes HTTP/1.1\r\nhost: {place.netloc}\r\nauthorization: Bearer {host.token}\r\n\r\n"
    silent = []
    for _ in range(5):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect((place.hostname, place.port))
        one.sendall(head.encode())
        silent.append(one)
    console = host.host._console
    assert console is not None
    shared = console.port._shared
    # Each has a place in the log of changes, from which it is told.
    while sum(feed._after is not None for feed in list(console._app._feeds)) < 5:
        time.sleep(0.01)
    assert len(shared.connections) == 5
    for number in range(20):
        host.fill("s", [f"{number}:{key}" for key in range(500)], {"text": "x" * 3000})
    host.ask("about")
    channels = [connection._exchange.response for connection in shared.connections if connection._exchange]
    held = sum(channel.bytes_queued for channel in channels if channel is not None)
    unread = sum(c._transport.get_write_buffer_size() for c in shared.connections if c._transport)
    # 30 MB of values went by; previews of 10,000 changes would be 8 MB for each page.
    assert held + unread < 5 * 6 * 1024 * 1024
    for one in silent:
        one.close()


@contextmanager
def stream(host: ConsoleHost, after: str | None) -> Iterator[Iterator[dict[str, str]]]:
    """The events of a stream, each whole, from a cursor on."""
    connection = http.client.HTTPConnection(urlsplit(host.address).netloc, timeout=60)
    extra = {} if after is None else {"last-event-id": after}
    try:
        connection.request("GET", "/api/changes", headers={"authorization": f"Bearer {host.token}", **extra})
        answer = connection.getresponse()

        def events() -> Iterator[dict[str, str]]:
            fields: dict[str, str] = {}
            while line := answer.readline().decode():
                name, _, value = line.rstrip("\n").partition(": ")
                if name in ("event", "data", "id"):
                    fields[name] = value
                elif not name and "event" in fields:
                    yield fields
                    fields = {}

        yield events()
    finally:
        connection.close()


def test_a_stream_goes_on_after_the_cursor_and_tells_of_a_gap(host: ConsoleHost) -> None:
    def events(after: str | None, wanted: int) -> list[dict[str, str]]:
        with stream(host, after) as told:
            return [next(told) for _ in range(wanted)]

    (ready,) = events(None, 1)
    assert ready["event"] == "ready"
    host.set("s", "a", {"n": 1})
    host.set("s", "a", {"n": 2})
    again, changes = events(ready["id"], 2)
    assert (again["event"], changes["event"]) == ("ready", "changes")
    rows = json.loads(changes["data"])
    assert [(row["type"], row["key"], row["old"], row["value"]) for row in rows] == [
        ("created", "a", "null", '{"n":1}'),
        ("updated", "a", '{"n":1}', '{"n":2}'),
    ]
    for cursor in ("nonsense", "abc-1", "0" * 3000):
        gap, again = events(cursor, 2)
        assert (gap["event"], again["event"], again["id"]) == ("gap", "ready", changes["id"])


def test_of_a_flood_the_newest_are_told_and_how_many_are_not(host: ConsoleHost) -> None:
    rows: list[Any] = []
    seen, sent = 0, 0
    with stream(host, None) as told:
        assert next(told)["event"] == "ready"
        for start in range(0, 20_000, 1000):
            host.fill("s", [f"k{number}" for number in range(start, start + 1000)])
        while not rows or rows[-1]["key"] != "k19999":
            rows += json.loads(next(told)["data"])
    for row in rows:
        if "left" in row:
            seen += row["left"]
        else:
            # What is left out is counted exactly: each row stands where the count says.
            assert row["key"] == f"k{seen}"
            seen, sent = seen + 1, sent + 1
    assert seen == 20_000
    assert 3_000 <= sent < 10_000


def test_all_of_the_page_has_60_kb_on_its_way_and_says_whose_the_parts_are() -> None:
    sizes = {
        str(path.relative_to(STATIC)): len(gzip.compress(path.read_bytes(), 6, mtime=0))
        for path in STATIC.rglob("*")
        if path.suffix in (".html", ".js", ".css", ".svg")
    }
    assert sum(sizes.values()) <= 60_000, sizes
    for name in ("preact", "htm"):
        assert "Copyright" in (STATIC / "vendor" / f"{name}.LICENSE").read_text("utf-8") or name == "htm"
    own = [path for path in STATIC.glob("*") if path.suffix in (".html", ".js", ".css")]
    assert own
    for path in own:
        text = path.read_text("utf-8")
        assert text.count("\n") < 420, path
        for forbidden in ("innerHTML", "eval(", "dangerously", "https://", "new Function"):
            assert forbidden not in text, path


def test_serve_and_console_say_where_it_is(tmp_path: Path) -> None:
    with running_host(tmp_path, "--adapter", "memory", "--console-port", "0") as host:
        assert "#token=" in host.ready["console"]
