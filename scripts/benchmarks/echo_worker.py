"""A worker that answers at once, over the real protocol, and callers that count what comes back."""

from __future__ import annotations

import asyncio

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from benchmarks import load
from iii_skill.server.frames import masked_text_frames

ANSWER = b'{"status_code":200,"body":{"ok":true}}'


class _Invoke(msgspec.Struct):
    type: str
    invocation_id: str = ""
    function_id: str = ""


class EchoWorker(WSListener):
    """Answers every call with ANSWER; all answers of a read leave in one write."""

    def __init__(self) -> None:
        super().__init__()
        self._decode = msgspec.json.Decoder(_Invoke).decode
        self._texts: list[bytes] = []
        self.heard = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def say(self, message: object) -> None:
        """Send a message."""
        self.transport.send(WSMsgType.TEXT, msgspec.json.encode(message))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        message = self._decode(frame.get_payload_as_bytes())
        if message.type == "invokefunction":
            self.heard += 1
            self._texts.append(
                b'{"type":"invocationresult","invocation_id":"%b","function_id":"%b","result":%b}'
                % (message.invocation_id.encode(), message.function_id.encode(), ANSWER)
            )
        if frame.last_in_buffer and self._texts and not transport.is_disconnected:
            transport.underlying_transport.write(masked_text_frames(self._texts))
            self._texts.clear()


async def echo_worker(url: str, *, path: str | None = None) -> EchoWorker:
    """A connected worker with the function bench::echo, at `path` over HTTP when it is given."""
    _, worker = await ws_connect(EchoWorker, url, max_frame_size=1 << 26)
    assert isinstance(worker, EchoWorker)
    identify = {"runtime": "bench", "name": "bench", "version": "1"}
    worker.say({"type": "invokefunction", "function_id": "engine::workers::register", "data": identify})
    worker.say({"type": "registerfunction", "id": "bench::echo"})
    if path is not None:
        config = {"api_path": path, "http_method": "GET"}
        worker.say(
            {
                "type": "registertrigger",
                "id": "t",
                "trigger_type": "http",
                "function_id": "bench::echo",
                "config": config,
            }
        )
    await asyncio.sleep(0.2)
    return worker


async def echo_calls(url: str, calls: int) -> int:
    """Make calls to the worker, 256 in flight; how many answers never came."""
    worker = await echo_worker(url)
    tail = load.call_tail("bench::echo", b'{"n":1}')
    missing = await load.send_all(url, (tail for _ in range(calls)))
    worker.transport.disconnect()
    return missing
