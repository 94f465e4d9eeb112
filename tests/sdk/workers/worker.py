"""A worker of the SDK matrix: it does what the test asks over HTTP and prints what happens as JSON lines."""

import ast
import json
import os
import signal
import threading

os.environ.setdefault("OTEL_ENABLED", "false")

import iii as sdk

worker = sdk.register_worker(os.environ["III_URL"], sdk.InitOptions(worker_name=os.environ["SDK_WORKER"]))


def show(line):
    print(json.dumps(line), flush=True)


def code_of(error):
    if getattr(error, "code", None):
        return error.code
    try:  # 0.10 raises Exception(str({"code": ..., "message": ...}))
        return ast.literal_eval(str(error))["code"]
    except (ValueError, SyntaxError, TypeError, KeyError):
        return type(error).__name__


async def call(request):
    asked = request["body"]
    frame = {"function_id": asked["function_id"], "payload": asked["payload"]}
    try:
        body = {"result": await worker.trigger_async(frame)}
    except Exception as error:
        body = {"error": code_of(error)}
    return {"status_code": 200, "body": body}


async def fail(_request):
    raise ValueError("broken on purpose")


async def changed(event):
    show({"event": event})
    return {}


worker.register_function("sdk::call", call)
worker.register_function("sdk::fail", fail)
worker.register_function("sdk::changed", changed)
for kind, function_id, config in (
    ("http", "sdk::call", {"api_path": "/call", "http_method": "POST"}),
    ("http", "sdk::fail", {"api_path": "/fail", "http_method": "POST"}),
    ("state", "sdk::changed", {"scope": "watched"}),
):
    worker.register_trigger({"type": kind, "function_id": function_id, "config": config})
show({"registered": True})
stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())
stop.wait()
worker.shutdown()
