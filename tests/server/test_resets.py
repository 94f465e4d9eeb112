"""A peer that is killed resets its connection: the host learns of it, also where its event loop is silent."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
import uvloop

from iii_skill import open_host
from iii_skill.host import Host
from iii_skill.server.resets import Resets, resets

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
REGISTER = {
    "type": "invokefunction",
    "invocation_id": "11111111-1111-4111-8111-111111111111",
    "function_id": "engine::workers::register",
    "data": {"runtime": "raw", "name": "killed"},
}
FUNCTION = {"type": "registerfunction", "id": "killed::work"}
NO_ANSWER = {"type": "unregisterfunction", "id": "killed::nothing"}


def frame(message: object) -> bytes:
    payload = json.dumps(message).encode()
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return b"\x81" + size + bytes(4) + payload


async def offered(host: Host, wanted: bool) -> None:
    """Wait until the worker offers its function, or does so no more."""
    async with asyncio.timeout(30):
        while True:
            rows = (await host.trigger("engine::functions::list", {}))["functions"]
            if any(row["function_id"] == FUNCTION["id"] for row in rows) is wanted:
                return
            await asyncio.sleep(0.02)


async def is_killed() -> None:
    async with open_host(adapter="memory") as host:
        servers = await host.serve(port=0, http_port=0)
        peer = socket.create_connection(("127.0.0.1", int(servers.ws_url.rsplit(":", 1)[1])))
        peer.sendall(HANDSHAKE + frame(REGISTER) + frame(FUNCTION))
        await offered(host, True)
        # In one turn of the loop: what the host wrote is unread, so the end is a reset, with bytes before it.
        peer.sendall(frame(NO_ANSWER))
        peer.close()
        await offered(host, False)
        assert resets()._transports == {}


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_worker_that_is_killed_with_answers_unread_is_gone(loop: str) -> None:
    (uvloop.run if loop == "uvloop" else asyncio.run)(is_killed())


class Transport:
    """Counts how often it is read again."""

    def __init__(self, reading: bool) -> None:
        self.reading = reading
        self.again = 0

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self.again += 1


async def test_only_what_has_ended_is_read_again_and_nothing_that_is_held_back() -> None:
    watched = Resets()
    pairs = [socket.socketpair() for _ in range(3)]
    healthy, ended, held = transports = [Transport(True), Transport(True), Transport(False)]
    for (near, _), transport in zip(pairs, transports, strict=True):
        watched.watch(near.fileno(), transport)
    for _, far in pairs[1:]:
        far.close()
    watched._look()
    assert [one.again for one in transports] == [0, 1, 0]
    assert held.reading is False
    for (near, _), transport in zip(pairs, transports, strict=True):
        # One that had the number before and is told to be gone only now.
        watched.forget(near.fileno(), Transport(True))
        assert watched._timer is not None
        watched.forget(near.fileno(), transport)
        watched.forget(near.fileno(), transport)
    assert watched._timer is None
    assert (healthy.reading, ended.reading) == (True, True)
    for pair in pairs:
        for one in pair:
            one.close()
