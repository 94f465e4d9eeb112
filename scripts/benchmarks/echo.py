"""The echo ceiling: picows, uvloop and msgspec as in the host, answering each call with its payload."""

from __future__ import annotations

import asyncio
import json

import uvloop
from msgspec import UNSET
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

from iii_skill.protocol.codec import decode, encode
from iii_skill.protocol.messages import Answer, InvokeFunction
from iii_skill.server.frames import text_frames


class Echo(WSListener):
    """Answers every call; all answers of one read leave in one write."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: list[bytes] = []

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            message = decode(frame.get_payload_as_bytes())
            if isinstance(message, InvokeFunction) and message.invocation_id and message.data is not UNSET:
                self._texts.append(encode(Answer(message.invocation_id, message.function_id, message.data)))
            if frame.last_in_buffer and self._texts:
                transport.underlying_transport.write(text_frames(self._texts))
                self._texts.clear()


async def main() -> None:
    server = await ws_create_server(lambda _request: Echo(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"ready": True, "ws": f"ws://127.0.0.1:{port}"}), flush=True)
    await asyncio.Event().wait()


uvloop.run(main())
