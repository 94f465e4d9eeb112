import signal
import threading
import uuid

from iii import register_worker

iii = register_worker()


async def state(function, **payload):
    return await iii.trigger_async({"function_id": f"state::{function}", "payload": payload})


SCOPE = "auth::sessions"
MISSING = {"error": "NOT_FOUND"}


async def open_session(data):
    session = {"id": uuid.uuid4().hex, "user": data["user"], "data": {}}
    await state("set", scope=SCOPE, key=session["id"], value=session)
    return session


async def get(data):
    session = await state("get", scope=SCOPE, key=data["id"])
    return MISSING if session is None else session


async def put(data):
    if await state("get", scope=SCOPE, key=data["id"]) is None:
        return MISSING
    op = {"type": "merge", "path": ["data"], "value": {data["field"]: data["value"]}}
    answer = await state("update", scope=SCOPE, key=data["id"], ops=[op])
    if answer["old_value"] is None:  # closed in between: the update made a ghost
        await state("delete", scope=SCOPE, key=data["id"])
        return MISSING
    return answer["new_value"]


async def close(data):
    gone = await state("delete", scope=SCOPE, key=data["id"])
    return MISSING if gone is None else {"closed": True}


for name, handler in (("open", open_session), ("get", get), ("put", put), ("close", close)):
    iii.register_function(f"sessions::{name}", handler)


stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())
stop.wait()
iii.shutdown()
