import signal
import threading

from iii import register_worker

iii = register_worker()


async def state(function, **payload):
    return await iii.trigger_async({"function_id": f"state::{function}", "payload": payload})


async def view(data):
    op = {"type": "increment", "path": "views", "by": 1}
    answer = await state("update", scope="blog::views", key=data["id"], ops=[op])
    return {"views": answer["new_value"]["views"]}


async def save(data):
    op = {"type": "merge", "value": data["fields"]}
    await state("update", scope="blog::users", key=data["id"], ops=[op])
    return {"saved": True}


async def get(data):
    user = await state("get", scope="blog::users", key=data["id"])
    return {"error": "NOT_FOUND"} if user is None else user


async def claim(data):
    op = {"type": "append", "path": "workers", "value": [data["worker"]]}
    answer = await state("update", scope="blog::claims", key=data["job"], ops=[op])
    return {"claimed": len(answer["new_value"]["workers"]) == 1}


async def add(data):
    op = {"type": "append", "path": "items", "value": [data["item"]]}
    await state("update", scope="blog::recent", key=data["user"], ops=[op])
    return {"added": True}


async def items(data):
    found = await state("get", scope="blog::recent", key=data["user"])
    return {"items": [] if found is None else [item for (item,) in found["items"]]}


for name, handler in (
    ("articles::view", view),
    ("users::save", save),
    ("users::get", get),
    ("jobs::claim", claim),
    ("recent::add", add),
    ("recent::list", items),
):
    iii.register_function(name, handler)


stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())
stop.wait()
iii.shutdown()
