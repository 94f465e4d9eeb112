"""Every WebSocket door keeps the rules of RFC 6455, in the order of the Autobahn fuzzing client's cases."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
from collections.abc import AsyncIterator

import pytest
from support.site import Site, open_site

from iii_skill.calls import Call
from iii_skill.protocol.limits import MESSAGE_LIMIT

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
DOORS = ["worker", "telemetry", "writer", "reader"]
KEY = b"\x11\x22\x33\x44"

ALIVE = "alive"
"""The connection stands: a ping is answered."""
EMPTY = "empty"
"""The connection is closed without a code."""


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """A masked frame."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if len(payload) < 126:
        head = bytes((first, 0x80 | len(payload)))
    elif len(payload) < 65536:
        head = bytes((first, 0xFE)) + struct.pack(">H", len(payload))
    else:
        head = bytes((first, 0xFF)) + struct.pack(">Q", len(payload))
    return head + KEY + bytes(byte ^ KEY[place % 4] for place, byte in enumerate(payload))


def code(number: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack(">H", number) + reason)


def fragments(*payloads: bytes, opcode: int = TEXT) -> bytes:
    last = len(payloads) - 1
    return b"".join(
        frame(opcode if place == 0 else CONTINUATION, payload, fin=place == last)
        for place, payload in enumerate(payloads)
    )


CASES: dict[str, tuple[bytes, object]] = {}

for size in (0, 125, 126, 127, 128, 65535, 65536):
    CASES[f"1.1 text of {size}"] = (frame(TEXT, b"*" * size), ALIVE)
    CASES[f"1.2 binary of {size}"] = (frame(BINARY, b"\xfe" * size), ALIVE)

CASES |= {
    "2.1 ping": (frame(PING), ALIVE),
    "2.2 ping with text": (frame(PING, b"Hello"), ALIVE),
    "2.3 ping with bytes": (frame(PING, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), ALIVE),
    "2.4 ping of 125": (frame(PING, b"\xfe" * 125), ALIVE),
    "2.5 ping of 126": (frame(PING, b"\xfe" * 126), 1002),
    "2.7 pong unasked": (frame(PONG), ALIVE),
    "2.8 pong with text": (frame(PONG, b"unsolicited"), ALIVE),
    "2.10 ten pings": (b"".join(frame(PING, b"%d" % n) for n in range(10)), ALIVE),
    "5.1 ping in fragments": (frame(PING, b"a", fin=False) + frame(CONTINUATION, b"b"), 1002),
    "5.2 pong in fragments": (frame(PONG, b"a", fin=False) + frame(CONTINUATION, b"b"), 1002),
    "5.3 text in fragments": (fragments(b"frag", b"ment"), ALIVE),
    "5.5 empty fragments": (fragments(b"", b"", b""), ALIVE),
    "5.6 ping between fragments": (
        frame(TEXT, b"a", fin=False) + frame(PING, b"x") + frame(CONTINUATION, b"b"),
        ALIVE,
    ),
    "5.9 continuation of nothing": (frame(CONTINUATION, b"non-text"), 1002),
    "5.10 continuation behind a text": (frame(TEXT, b"whole") + frame(CONTINUATION, b"more"), 1002),
    "5.12 unfinished continuation of nothing": (frame(CONTINUATION, b"a", fin=False), 1002),
    "5.15 continuation behind fragments": (fragments(b"a", b"b") + frame(CONTINUATION, b"c"), 1002),
    "5.18 a text inside fragments": (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
    "5.19 a binary inside fragments": (frame(TEXT, b"a", fin=False) + frame(BINARY, b"b"), 1002),
    "5.20 binary in fragments": (fragments(b"a", b"b", b"c", opcode=BINARY), ALIVE),
    "7.1.1 close": (frame(CLOSE), EMPTY),
    "7.1.2 twice": (frame(CLOSE) + frame(CLOSE), (EMPTY, 1002)),
    "7.1.3 ping behind a close": (code(1000) + frame(PING), 1000),
    "7.1.4 text behind a close": (code(1000) + frame(TEXT, b"late"), 1000),
    "7.3.2 close of one byte": (frame(CLOSE, b"a"), 1002),
    "7.3.4 close with a reason": (code(1000, b"Hello World!"), 1000),
    "7.3.5 close with the longest reason": (code(1000, b"*" * 123), 1000),
    "7.3.6 close of 126 bytes": (code(1000, b"*" * 124), 1002),
    "7.5.1 close with a reason that is no UTF-8": (code(1000, b"\xce\xba\xed\xa0\x80edited"), 1007),
}

for rsv in range(1, 8):
    CASES[f"3.{rsv} text with reserved bits"] = (frame(TEXT, b"x", rsv=rsv), 1002)
    CASES[f"3.{rsv} ping with reserved bits"] = (frame(PING, b"x", rsv=rsv), 1002)
    CASES[f"3.{rsv} close with reserved bits"] = (frame(CLOSE, rsv=rsv), 1002)
    CASES[f"3.{rsv} binary behind a text"] = (frame(TEXT, b"x") + frame(BINARY, b"x", rsv=rsv), 1002)
    CASES[f"3.{rsv} continuation"] = (
        frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"y", rsv=rsv),
        1002,
    )

for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
    CASES[f"4.1 opcode {opcode}"] = (frame(opcode), 1002)
    CASES[f"4.2 opcode {opcode} behind a text"] = (frame(TEXT, b"x") + frame(opcode, b"y"), 1002)
    CASES[f"4.3 opcode {opcode} inside fragments"] = (frame(TEXT, b"x", fin=False) + frame(opcode), 1002)

for number in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
    CASES[f"7.7 close with {number}"] = (code(number), number)

for number in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
    CASES[f"7.9 close with {number}"] = (code(number), 1002)

VALID = [
    "κόσμε",
    "Hello-µ@ßöäüàá-UTF-8!!",
    *(
        chr(point)
        for point in (0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x10FFFF)
    ),
    *(chr(plane << 16 | end) for plane in range(1, 17) for end in (0xFFFE, 0xFFFF)),
    "\x00",
    "\ufdd0",
    "",
]
INVALID = [
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64\x69\x74\x65\x64",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80\x65\x64",
    *(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce"[:n] for n in (1, 3, 4, 6, 8)),
    *(
        bytes((lead,))
        for lead in (0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xEF, 0xF0, 0xF4, 0xF5, 0xF8, 0xFE)
    ),
    b"\xff",
    *(b"\x80\xbf" * n for n in range(1, 5)),
    *(bytes((lead, 0x20)) for lead in range(0xC0, 0x100)),
    b"\xe0\x80",
    b"\xf0\x80\x80",
    b"\xf7\xbf\xbf",
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xf8\x80\x80\x80\xaf",
    b"\xfc\x80\x80\x80\x80\xaf",
    b"\xc1\xbf",
    b"\xe0\x9f\xbf",
    b"\xf0\x8f\xbf\xbf",
    b"\xc0\x80",
    *(bytes((0xED, second, third)) for second in (0xA0, 0xAF, 0xB0, 0xBF) for third in (0x80, 0xBF)),
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80",
]
for place, text in enumerate(VALID):
    encoded = text.encode()
    CASES[f"6.2 valid {place}"] = (frame(TEXT, encoded), ALIVE)
    CASES[f"6.2 valid {place} byte by byte"] = (fragments(*(bytes((b,)) for b in encoded), b""), ALIVE)
for place, wrong in enumerate(INVALID):
    CASES[f"6.3 invalid {place}"] = (frame(TEXT, wrong), 1007)
    CASES[f"6.3 invalid {place} in fragments"] = (fragments(wrong[:1], wrong[1:], b"x"), 1007)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site() as opened:
        opened.engine.add_function("engine::channels::create", opened.engine.channels.handle_create)
        yield opened


def target(site: Site, door: str) -> str:
    """The request target of a door; a channel is made for it."""
    if door == "worker":
        return "/"
    if door == "telemetry":
        return "/otel"
    outcomes: list[object] = []
    site.engine.invoke(Call("engine::channels::create", b"{}", outcomes.append))
    made = json.loads(outcomes[0].value)[door]  # type: ignore[attr-defined]
    direction = {"writer": "write", "reader": "read"}[door]
    return f"/ws/channels/{made['channel_id']}?key={made['access_key']}&dir={direction}"


async def opened(site: Site, door: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection behind its handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.workers.port)
    head = (
        f"GET {target(site, door)} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        "Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n"
    )
    writer.write(head.encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101"), answer
    return reader, writer


async def next_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size > 125:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
    return first & 15, await reader.readexactly(size)


async def outcome(site: Site, door: str, sent: bytes, expected: object, *, bytewise: bool) -> object:
    """How the connection ends, or ALIVE; whatever comes before is read over."""
    reader, writer = await opened(site, door)
    probe = b"probe"

    async def ending() -> object:
        while True:
            opcode, payload = await next_frame(reader)
            if opcode == PONG and payload == probe:
                return ALIVE
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big") if payload else EMPTY

    ended = asyncio.ensure_future(ending())

    if not bytewise:
        writer.write(sent)
        await asyncio.sleep(0)
        writer.write(frame(PING, probe))
    else:
        if expected == ALIVE:
            sent += frame(PING, probe)
        for byte in sent:
            # Behind the end nobody reads: the answer is a reset, and a transport that hears of it while it
            # writes drops what it has not read yet.
            if not ended.done():
                with contextlib.suppress(ConnectionError):
                    os.write(writer.get_extra_info("socket").fileno(), bytes((byte,)))
                await asyncio.sleep(0)
    try:
        return await asyncio.wait_for(ended, 20)
    finally:
        writer.close()


@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("door", DOORS)
async def test_the_rules_of_websocket_hold(site: Site, door: str, bytewise: bool) -> None:
    wrong = {}
    for name, (sent, expected) in CASES.items():
        if bytewise and (len(sent) > 300 or name.startswith("7.1")):
            continue
        found = await outcome(site, door, sent, expected, bytewise=bytewise)
        if found not in (expected if isinstance(expected, tuple) else (expected,)):
            wrong[name] = (expected, found)
    assert wrong == {}
    assert len(CASES) > 300


@pytest.mark.parametrize("door", DOORS)
async def test_the_answer_to_a_close_ends_the_connection(site: Site, door: str) -> None:
    reader, writer = await opened(site, door)
    writer.write(frame(TEXT, b"\xff"))
    async with asyncio.timeout(20):
        while (await next_frame(reader))[0] != CLOSE:
            pass
        writer.write(code(1007))
        assert await reader.read() == b""
    writer.close()


async def test_fragments_over_the_limit_are_refused_with_a_code(site: Site) -> None:
    reader, writer = await opened(site, "worker")
    part = frame(TEXT, b"x" * 65536, fin=False)
    rest = frame(CONTINUATION, b"x" * 65536, fin=False)
    writer.write(part)
    async with asyncio.timeout(60):
        for _ in range(MESSAGE_LIMIT // 65536):
            writer.write(rest)
            await writer.drain()
        while True:
            opcode, payload = await next_frame(reader)
            if opcode == CLOSE:
                break
    assert int.from_bytes(payload[:2], "big") == 1009
    writer.close()


HANDSHAKE = "GET %s HTTP/1.1\r\nHost: localhost\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n"
RIGHT = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("lines", "status", "header"),
    [
        (RIGHT, 101, b""),
        (RIGHT.replace("Upgrade\r", "keep-alive, Upgrade\r"), 101, b""),
        (RIGHT.replace("Connection: Upgrade", "Connection: keep-alive\r\nconnection:UPGRADE"), 101, b""),
        (RIGHT.replace("websocket", "h2c, WebSocket"), 101, b""),
        (RIGHT.replace("websocket", "h2c\r\nUpgrade: WebSocket"), 101, b""),
        (RIGHT.replace("Upgrade\r", "keep-alive\r"), 400, b""),
        (RIGHT.replace("websocket", "h2c"), 400, b""),
        (RIGHT.replace("13", "8"), 426, b"Sec-WebSocket-Version: 13"),
        (RIGHT.replace("13", "14"), 426, b"Sec-WebSocket-Version: 13"),
        (RIGHT.replace("Sec-WebSocket-Version: 13\r\n", ""), 426, b"Sec-WebSocket-Version: 13"),
        (RIGHT + "Host: localhost\r\n", 400, b""),
        (RIGHT + "Origin: http://localhost\r\nOrigin: http://localhost\r\n", 400, b""),
        (RIGHT + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 400, b""),
        (RIGHT + "Sec-WebSocket-Version: 13\r\n", 400, b""),
        (RIGHT + "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n", 400, b""),
    ],
)
async def test_handshakes_are_read_as_lists_and_never_two_ways(
    site: Site, door: str, lines: str, status: int, header: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.workers.port)
    writer.write((HANDSHAKE % (target(site, door), lines)).encode())
    async with asyncio.timeout(20):
        head = await reader.readuntil(b"\r\n\r\n")
    assert int(head.split(b" ")[1]) == status
    assert header in head
    writer.close()
