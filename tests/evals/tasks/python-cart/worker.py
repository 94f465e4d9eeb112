import signal
import threading

from iii import register_worker

iii = register_worker()


async def state(function, **payload):
    return await iii.trigger_async({"function_id": f"state::{function}", "payload": payload})


SCOPE = "shop::carts"


async def change(user, op):
    answer = await state("update", scope=SCOPE, key=user, ops=[op])
    return {"user": user, "items": answer["new_value"]}


async def add(data):
    return await change(data["user"], {"type": "increment", "path": data["sku"], "by": data["quantity"]})


async def remove(data):
    return await change(data["user"], {"type": "remove", "path": data["sku"]})


async def get(data):
    items = await state("get", scope=SCOPE, key=data["user"])
    return {"user": data["user"], "items": {} if items is None else items}


async def checkout(data):
    items = await state("delete", scope=SCOPE, key=data["user"])
    if not items:
        return {"error": "EMPTY_CART"}
    return {"user": data["user"], "items": items}


for name, handler in (("add", add), ("remove", remove), ("get", get), ("checkout", checkout)):
    iii.register_function(f"cart::{name}", handler)


stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())
stop.wait()
iii.shutdown()
