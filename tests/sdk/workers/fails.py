"""A worker whose functions go wrong while a traced request is handled."""

import json
import os
import signal
import threading

import iii

worker = iii.register_worker(os.environ["III_URL"], iii.InitOptions(worker_name=os.environ["SDK_WORKER"]))


async def order(request):
    await worker.trigger_async({"function_id": "engine::log::info", "payload": {"message": "an order came"}})
    try:
        await worker.trigger_async({"function_id": "fails::missing", "payload": {}})
    except Exception as error:
        print(json.dumps({"refused": str(error)}), flush=True)
    payload = {"scope": "fails", "key": "k", "value": request["body"]}
    await worker.trigger_async({"function_id": "state::set", "payload": payload})
    raise ValueError("no such order")


async def changed(_event):
    raise ValueError("no such reaction")


worker.register_function("fails::order", order)
worker.register_function("fails::changed", changed)
http = {"api_path": "order", "http_method": "POST"}
worker.register_trigger({"type": "http", "function_id": "fails::order", "config": http})
worker.register_trigger({"type": "state", "function_id": "fails::changed", "config": {"scope": "fails"}})
print(json.dumps({"registered": True}), flush=True)
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
stop.wait()
worker.shutdown()
