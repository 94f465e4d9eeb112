"""The HTTP yardstick: bare uvicorn that asks one worker over a WebSocket and answers with what it said.

It does less than the host: it has no routes, looks at no Host and Origin, sends no CORS headers, offers no
channels, has no deadline, and looks at neither status nor headers of an answer, nor whether SDKs can read it.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import msgspec
import uvicorn
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

_BODY = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Hub(WSListener):
    """The one worker that connected."""

    current: Hub | None = None

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[str, asyncio.Future[bytes]] = {}
        self.next = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        Hub.current = self

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        message = _BODY.decode(frame.get_payload_as_bytes())
        if bytes(message["type"]) == b'"invocationresult"':
            self.waiting.pop(bytes(message["invocation_id"]).decode()[1:-1]).set_result(
                bytes(message["result"])
            )

    async def ask(self, data: bytes) -> bytes:
        self.next += 1
        name = str(self.next)
        future = self.waiting[name] = asyncio.get_running_loop().create_future()
        self.transport.send(
            WSMsgType.TEXT,
            b'{"type":"invokefunction","invocation_id":"%b","function_id":"bench::echo","data":%b}'
            % (name.encode(), data),
        )
        return await future


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Every request: encode what it is, ask the worker, send the body of its answer."""
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    data = msgspec.json.encode(
        {"method": scope["method"], "path": scope["path"], "headers": headers, "body": None}
    )
    assert Hub.current is not None
    answer = _BODY.decode(await Hub.current.ask(data))
    body = bytes(answer["body"])
    length = str(len(body)).encode()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json"), (b"content-length", length)],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def main() -> None:
    workers = await ws_create_server(lambda _request: Hub(), "127.0.0.1", 0)
    ws_port = workers.sockets[0].getsockname()[1]
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http="httptools", ws="none", lifespan="off", log_level="error", access_log=False
    )
    server = uvicorn.Server(config)
    ready = {
        "ready": True,
        "ws": f"ws://127.0.0.1:{ws_port}",
        "http": f"http://127.0.0.1:{listener.getsockname()[1]}",
    }
    print(json.dumps(ready), flush=True)
    await server.serve(sockets=[listener])


uvloop.run(main())
