"""Events: a listener that takes what triggers and observers send it, and writes that cause them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from benchmarks import load
from benchmarks.servers import Server
from iii_skill.server.frames import masked_text_frames

TARGET = "bench::heard"
FEATURES = ["observe.v1", "observe.v2"]


class _Invoke(msgspec.Struct):
    invocation_id: str


class Listener(WSListener):
    """Answers every call with nothing and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self._decode = msgspec.json.Decoder(_Invoke).decode
        self._texts: list[bytes] = []
        self.heard = 0
        self.active = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def say(self, *messages: object) -> None:
        """Send messages."""
        self.transport.underlying_transport.write(
            masked_text_frames([msgspec.json.encode(m) for m in messages])
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something of this worker."""
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - an event for each frame would be measured too
                await asyncio.sleep(0.002)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        text = frame.get_payload_as_bytes()
        if text.startswith(b'{"type":"invokefunction"'):
            self.heard += 1
            answer = b'{"type":"invocationresult","invocation_id":"%b","function_id":"%b","result":null}'
            self._texts.append(answer % (self._decode(text).invocation_id.encode(), TARGET.encode()))
        elif b'"state":"active"' in text[:200]:
            self.active += 1
        if frame.last_in_buffer and self._texts and not transport.is_disconnected:
            transport.underlying_transport.write(masked_text_frames(self._texts))
            self._texts.clear()


async def listener(url: str) -> Listener:
    """A connected worker with the target function."""
    _, made = await ws_connect(Listener, url, max_frame_size=1 << 26)
    assert isinstance(made, Listener)
    identity = {"runtime": "bench", "name": "listener", "version": "1", "features": FEATURES}
    made.say(
        {"type": "invokefunction", "function_id": "engine::workers::register", "data": identity},
        {"type": "registerfunction", "id": TARGET},
    )
    return made


def trigger(config: Any) -> dict[str, Any]:
    """The text of a state trigger."""
    return {
        "type": "registertrigger",
        "id": "t",
        "trigger_type": "state",
        "function_id": TARGET,
        "config": config,
    }


def observer(name: str, filters: Any, *, source: str = "state::on-changed") -> dict[str, Any]:
    """The text of an observer that gets what a trigger gets."""
    of = {"function_id": source, "filters": filters, "deliver": "input"}
    return {"type": "observe", "id": name, "source": of, "target": {"function_id": TARGET}}


@dataclass(frozen=True)
class Heard:
    """Events each second until the last one was answered, and microseconds of server CPU for each."""

    per_second: float
    cpu_us: float


async def events(server: Server, subscriptions: Sequence[object], keys: int, count: int) -> Heard:
    """Write `count` times over so many keys, of which the subscriptions hear every write once."""
    heard = await listener(server.ws)
    for start in range(0, len(subscriptions), 500):
        heard.say(*subscriptions[start : start + 500])
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    tails = [
        load.call_tail("state::set", b'{"scope":"bench","key":"k%d","value":%s}' % (number, load.VALUE))
        for number in range(keys)
    ]
    heard.heard = 0
    cpu, begin = server.cpu_seconds(), time.perf_counter()
    await load.send_all(server.ws, (tails[number % keys] for number in range(count)), in_flight=64)
    await heard.until(lambda: heard.heard >= count)
    elapsed, used = time.perf_counter() - begin, server.cpu_seconds() - cpu
    heard.transport.disconnect()
    if heard.heard != count:
        raise RuntimeError(f"{heard.heard} events were heard of {count}")
    return Heard(count / elapsed, used / count * 1e6)


async def beside(
    server: Server, count: int, tails: Sequence[bytes], seconds: float
) -> tuple[float, load.Figures]:
    """Bytes for each of so many observers of a function that nobody calls, and a load beside them."""
    before = server.rss_bytes()
    made = await listener(server.ws)
    asked = [
        observer(f"w{number}", {"input.k": {"$eq": number}}, source="engine::workers::info")
        for number in range(count)
    ]
    for start in range(0, count, 500):
        made.say(*asked[start : start + 500])
        await asyncio.sleep(0.02)
    await made.until(lambda: made.active == count)
    size = (server.rss_bytes() - before) / count
    got = await load.run_load(server.ws, tails, server.cpu_seconds, seconds=seconds)
    made.transport.disconnect()
    return size, got
