import logging
import os
import signal
import threading

from iii import register_worker
from iii_helpers.observability import Logger

logging.basicConfig(level=logging.INFO)
os.environ.setdefault("OTEL_ENABLED", "false")
iii = register_worker()
log = Logger()
SCOPE = "app::notes"


async def state(function, **payload):
    answer = await iii.trigger_async({"function_id": f"state::{function}", "payload": payload})
    if function == "update" and answer.get("errors"):
        raise ValueError(answer["errors"][0]["message"])
    return answer


async def add(data):
    # A text that is appended to nothing makes a text, an object makes a list.
    ops = [{"type": "append", "path": "notes", "value": {"text": data["text"]}}]
    answer = await state("update", scope=SCOPE, key=data["user"], ops=ops)
    count = len(answer["new_value"]["notes"])
    log.info(f"{data['user']} has {count} notes")
    return {"n": count}


def texts(value):
    return [] if value is None else [note["text"] for note in value["notes"]]


async def list_notes(data):
    return {"notes": texts(await state("get", scope=SCOPE, key=data["user"]))}


async def clear(data):
    return {"removed": texts(await state("delete", scope=SCOPE, key=data["user"]))}


iii.register_function("notes::add", add)
iii.register_function("notes::list", list_notes)
iii.register_function("notes::clear", clear)

stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())
stop.wait()
iii.shutdown()
