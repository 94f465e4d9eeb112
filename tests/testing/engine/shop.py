"""A worker that sells, and orders again what is sold out."""

import os
import signal
import threading

import iii as sdk

worker = sdk.register_worker(os.environ["III_URL"], sdk.InitOptions(worker_name="shop"))


def added(scope, key, path, by):
    ops = [{"type": "increment", "path": path, "by": by}]
    return {"function_id": "state::update", "payload": {"scope": scope, "key": key, "ops": ops}}


async def sell(request):
    done = await worker.trigger_async(added("shop", request["body"]["id"], "stock", -1))
    return {"status_code": 201, "body": done["new_value"]}


async def reorder(event):
    if event["new_value"]["stock"] == 0:
        await worker.trigger_async(added("orders", event["key"], "ordered", 1))
    return {}


worker.register_function("shop::sell", sell)
worker.register_function("shop::reorder", reorder)
for kind, function_id, config in (
    ("http", "shop::sell", {"api_path": "/sell", "http_method": "POST"}),
    ("state", "shop::reorder", {"scope": "shop"}),
):
    worker.register_trigger({"type": kind, "function_id": function_id, "config": config})
stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())
stop.wait()
worker.shutdown()
