"""The echo ceiling: picows, uvloop and msgspec as in the host, answering each call with its payload.

Each answer leaves as picows sends it; with `joined`, all answers of one read leave in one write.
"""

from __future__ import annotations

import asyncio
import json
import sys

import uvloop
from msgspec import UNSET
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

from iii_skill.protocol.codec import decode, encode
from iii_skill.protocol.messages import InvokeFunction
from iii_skill.protocol.outgoing import InvocationReply
from iii_skill.server.frames import text_frames


class Echo(WSListener):
    """Answers every call with a frame of its own."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            text = answer(frame.get_payload_as_bytes())
            if text is not None:
                transport.send(WSMsgType.TEXT, text)


class JoinedEcho(WSListener):
    """Answers every call; all answers of one read leave in one write, as those of the host do."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: list[bytes] = []

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            text = answer(frame.get_payload_as_bytes())
            if text is not None:
                self._texts.append(text)
            if frame.last_in_buffer and self._texts:
                transport.underlying_transport.write(text_frames(self._texts))
                self._texts.clear()


def answer(text: bytes) -> bytes | None:
    """The text that answers a call; None for anything else."""
    message = decode(text)
    if isinstance(message, InvokeFunction) and message.invocation_id and message.data is not UNSET:
        return encode(InvocationReply(message.invocation_id, message.function_id, message.data))
    return None


async def main() -> None:
    kind = JoinedEcho if sys.argv[1:] == ["joined"] else Echo
    server = await ws_create_server(lambda _request: kind(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"ready": True, "ws": f"ws://127.0.0.1:{port}"}), flush=True)
    await asyncio.Event().wait()


uvloop.run(main())
