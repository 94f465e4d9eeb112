"""The load: workers that keep calls in flight over the real protocol, and what was measured."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from iii_skill.server.frames import masked_text_frames

CONNECTIONS = 4
IN_FLIGHT = 32
VALUE = (
    b'{"id":"prod-0123456789abcdef","name":"A chair of oak","price":129.5,"stock":12,"tags":["oak","chair"],'
    + (b'"created_at":"2026-01-02T03:04:05.678Z"}')
)
KEYS = 1000

_HEAD = b'{"type":"invokefunction","invocation_id":"'
_ID_TAIL = b"-0000-4000-8000-000000000000"
_ANSWER = b'{"type":"invocationresult","invocation_id":"'
_ANSWER_ID = len(_ANSWER)


@dataclass(frozen=True)
class Figures:
    """One run: calls answered, seconds, latencies in milliseconds, microseconds of server CPU per call."""

    calls: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_us: float

    @property
    def per_second(self) -> float:
        """Calls answered per second."""
        return self.calls / self.seconds


def call_tail(function_id: str, payload: bytes) -> bytes:
    """What follows the invocation id in the text of a call."""
    return b'","function_id":"' + function_id.encode() + b'","data":' + payload + b"}"


def mixed() -> list[bytes]:
    """1 set : 2 get : 1 update over KEYS keys; updates hold an increment and a set."""
    tails = []
    for number in range(KEYS):
        where = b'{"scope":"bench","key":"k%d"' % number
        tails.append(call_tail("state::set", where + b',"value":' + VALUE + b"}"))
        tails.append(call_tail("state::get", where + b"}"))
        tails.append(call_tail("state::get", b'{"scope":"bench","key":"k%d"}' % (number * 7 % KEYS)))
        tails.append(call_tail("state::update", where + b"," + OPS + b"}"))
    return tails


def traced(tails: Sequence[bytes]) -> list[bytes]:
    """The same calls, each in a trace of its own that its caller has sampled."""
    draw = random.Random(1).getrandbits
    return [
        tail[:-1] + f',"traceparent":"00-{draw(128) | 1:032x}-{draw(64) | 1:016x}-01"}}'.encode()
        for tail in tails
    ]


OPS = b'"ops":[{"type":"increment","path":"stock","by":1},{"type":"set","path":"seen","value":true}]'


def only_set(scope: bytes = b"bench", value: bytes = VALUE) -> list[bytes]:
    """Sets of existing keys."""
    return [
        call_tail("state::set", b'{"scope":"%s","key":"k%d","value":%s}' % (scope, number, value))
        for number in range(KEYS)
    ]


def only_update() -> list[bytes]:
    """One increment on existing keys."""
    ops = b'"ops":[{"type":"increment","path":"stock","by":1}]'
    return [
        call_tail("state::update", b'{"scope":"bench","key":"k%d",%s}' % (number, ops))
        for number in range(KEYS)
    ]


class Caller(WSListener):
    """One connection that keeps `in_flight` calls out until `stop`."""

    def __init__(self, tails: Sequence[bytes], in_flight: int, offset: int) -> None:
        super().__init__()
        self._tails = tails
        self._next = offset
        self._in_flight = in_flight
        self._sent: dict[bytes, float] = {}
        self.latencies: list[float] = []
        self.errors = 0
        self.running = False
        self.idle = asyncio.Event()
        self._out: list[bytes] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def start(self) -> None:
        self.running = True
        self.idle.clear()
        for _ in range(self._in_flight):
            self._call()
        self._flush()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        text = frame.get_payload_as_bytes()
        started = self._sent.pop(text[_ANSWER_ID : _ANSWER_ID + 8], None)
        if started is None:
            return
        self.latencies.append(time.perf_counter() - started)
        if b'"error":{' in text[:220]:
            self.errors += 1
        if self.running:
            self._call()
        elif not self._sent:
            self.idle.set()
        if frame.last_in_buffer:
            self._flush()

    def _flush(self) -> None:
        if self._out:
            self.transport.underlying_transport.write(b"".join(self._out))
            self._out.clear()

    def _call(self) -> None:
        number = self._next
        self._next = number + 1
        name = b"%08x" % number
        self._sent[name] = time.perf_counter()
        text = _HEAD + name + _ID_TAIL + self._tails[number % len(self._tails)]
        # A mask of zeros leaves the text as it is, so the calls of one tick leave in one write.
        self._out.append(b"\x81\xfe" + len(text).to_bytes(2, "big") + b"\0\0\0\0")
        self._out.append(text)


async def run_load(
    url: str,
    tails: Sequence[bytes],
    cpu_seconds: Callable[[], float],
    *,
    seconds: float,
    connections: int = CONNECTIONS,
    in_flight: int = IN_FLIGHT,
) -> Figures:
    """Keep calls in flight for `seconds` after a warm-up of a quarter of it."""
    callers: list[Caller] = []
    for number in range(connections):
        step = len(tails) // connections * number
        _, caller = await ws_connect(
            lambda step=step: Caller(tails, in_flight, step), url, max_frame_size=1 << 26
        )
        assert isinstance(caller, Caller)
        callers.append(caller)
    for caller in callers:
        caller.start()
    await asyncio.sleep(seconds / 4)
    for caller in callers:
        caller.latencies.clear()
    cpu, started = cpu_seconds(), time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed, used = time.perf_counter() - started, cpu_seconds() - cpu
    latencies = sorted(latency for caller in callers for latency in caller.latencies)
    for caller in callers:
        caller.running = False
    await asyncio.wait_for(asyncio.gather(*(caller.idle.wait() for caller in callers)), 30)
    errors = sum(caller.errors for caller in callers)
    for caller in callers:
        caller.transport.disconnect()
    if errors:
        raise RuntimeError(f"{errors} of {len(latencies)} calls were answered with an error")
    return Figures(
        len(latencies),
        elapsed,
        latencies[len(latencies) // 2] * 1000,
        latencies[int(len(latencies) * 0.99)] * 1000,
        used / len(latencies) * 1e6,
    )


async def send_all(url: str, tails: Iterable[bytes], *, in_flight: int = 256) -> int:
    """Make every call once, so many in flight; how many were never answered (an error raises)."""
    left = iter(tails)
    _, sender = await ws_connect(lambda: _Sender(left, in_flight), url, max_frame_size=1 << 26)
    assert isinstance(sender, _Sender)
    sender.start()
    # Ten seconds without an answer: the rest is lost.
    while not sender.done.is_set():
        before = sender.answered
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(sender.done.wait(), 10)
        if sender.answered == before:
            break
    sender.transport.disconnect()
    if sender.errors:
        raise RuntimeError(f"{sender.errors} calls were answered with an error")
    return sender.sent - sender.answered


class _Sender(WSListener):
    """Keeps calls in flight until the iterator is empty."""

    def __init__(self, tails: Iterator[bytes], in_flight: int) -> None:
        super().__init__()
        self._tails = tails
        self._in_flight = in_flight
        self._out: list[bytes] = []
        self._empty = False
        self.sent = 0
        self.answered = 0
        self.errors = 0
        self.done = asyncio.Event()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def start(self) -> None:
        for _ in range(self._in_flight):
            self._call()
        self._flush()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        text = frame.get_payload_as_bytes()
        if text.startswith(_ANSWER):
            self.answered += 1
            self.errors += b'"error":{' in text[:220]
            self._call()
            if self._empty and self.answered == self.sent:
                self.done.set()
        if frame.last_in_buffer:
            self._flush()

    def _call(self) -> None:
        tail = next(self._tails, None)
        if tail is None:
            self._empty = True
            return
        self._out.append(_HEAD + b"%08x" % self.sent + _ID_TAIL + tail)
        self.sent += 1

    def _flush(self) -> None:
        if self._out:
            self.transport.underlying_transport.write(masked_text_frames(self._out))
            self._out.clear()
