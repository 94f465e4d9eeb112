import signal
import threading

from iii import register_worker

iii = register_worker()


async def state(function, **payload):
    return await iii.trigger_async({"function_id": f"state::{function}", "payload": payload})


SCOPE = "app::flags"


async def set_flag(data):
    op = {"type": "set", "path": "on", "value": data["on"]}
    await state("update", scope=SCOPE, key=data["name"], ops=[op])
    return {"name": data["name"], "on": data["on"]}


async def get(data):
    flag = await state("get", scope=SCOPE, key=data["name"])
    if flag is None:
        return {"name": data["name"], "on": data["default"], "found": False}
    op = {"type": "increment", "path": "reads", "by": 1}
    flag = (await state("update", scope=SCOPE, key=data["name"], ops=[op]))["new_value"]
    return {"name": data["name"], "on": flag["on"], "found": True}


async def stats(data):
    flag = await state("get", scope=SCOPE, key=data["name"])
    return {"name": data["name"], "on": flag["on"], "reads": flag.get("reads", 0)}


for name, handler in (("set", set_flag), ("get", get), ("stats", stats)):
    iii.register_function(f"flags::{name}", handler)


stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())
stop.wait()
iii.shutdown()
