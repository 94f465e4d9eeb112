"""A worker that reads a raw HTTP body as a stream and answers with a stream, by the SDK's own helper."""

import os
import signal
import threading

os.environ.setdefault("OTEL_ENABLED", "false")

import iii as sdk

try:
    from iii_helpers.http import http
except ImportError:
    from iii import http

worker = sdk.register_worker(os.environ["III_URL"], sdk.InitOptions(worker_name="stream"))


async def shout(request, response):
    await response.status(207)
    await response.headers({"content-type": "text/plain", "x-from": "stream"})
    async for piece in request.request_body:
        await response.writer.write(piece.upper())
    await response.writer.close_async()


worker.register_function("sdk::shout", http(shout))
worker.register_trigger(
    {"type": "http", "function_id": "sdk::shout", "config": {"api_path": "/shout", "http_method": "POST"}}
)
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
stop.wait()
worker.shutdown()
