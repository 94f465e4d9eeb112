"""One party of an observation, as ROLE says: host of the source, owner, or worker of the target."""

import json
import os
import signal
import threading

os.environ.setdefault("OTEL_ENABLED", "false")

import iii as sdk

role = os.environ["ROLE"]
worker = sdk.register_worker(os.environ["III_URL"], sdk.InitOptions(worker_name=role))


def show(line):
    print(json.dumps(line), flush=True)


async def source(payload):
    return {"n": payload["n"]}


async def target(envelope):
    show({"heard": envelope["input"]["n"]})


if role == "source":
    worker.register_function("h::f", source)
elif role == "target":
    worker.register_function("t::g", target)
else:
    worker.observe({"function_id": "h::f"}, "t::g", {"max_in_flight": 1})
show({"registered": role})
stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())
stop.wait()
worker.shutdown()
