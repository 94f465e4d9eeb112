"""The second worker of a traced chain: a function that stores what it gets."""

import json
import os
import signal
import threading

import iii

worker = iii.register_worker(os.environ["III_URL"], iii.InitOptions(worker_name=os.environ["SDK_WORKER"]))


async def store(order):
    payload = {"scope": "watched", "key": order["id"], "value": order}
    await worker.trigger_async({"function_id": "state::set", "payload": payload})
    return {"stored": order["id"]}


worker.register_function("chain::store", store)
print(json.dumps({"registered": True}), flush=True)
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
stop.wait()
worker.shutdown()
