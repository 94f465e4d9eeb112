import asyncio
import random
import signal
import threading
import time
import weakref

from iii import register_worker

iii = register_worker()
SCOPE = "api::limits"
turns = weakref.WeakValueDictionary()


async def state(function, **payload):
    call = {"function_id": f"state::{function}", "payload": payload, "timeout_ms": 5000}
    return await iii.trigger_async(call)


def recent(value, window_ms, now):
    return [] if value is None else [at for at in value["taken"] if at > now - window_ms]


async def take(data):
    user, limit, window_ms = data["user"], data["limit"], data["window_ms"]
    turn = turns.setdefault(user, asyncio.Lock())
    until = time.monotonic() + 10
    async with turn:
        while time.monotonic() < until:
            current = await state("get", scope=SCOPE, key=user)
            now = int(time.time() * 1000)
            taken = recent(current, window_ms, now)
            if len(taken) >= limit:
                return {"allowed": False, "retry_ms": max(1, taken[-limit] + window_ms - now)}
            value = {"user": user, "taken": [*taken, now]}
            expected = {} if current is None else {"expected": current}
            answer = await state("compare-and-set", scope=SCOPE, key=user, value=value, **expected)
            if answer["swapped"]:
                return {"allowed": True, "left": limit - len(taken) - 1}
            await asyncio.sleep(random.random() * 0.02)
    raise RuntimeError("too many at once")


async def peek(data):
    current = await state("get", scope=SCOPE, key=data["user"])
    return {"used": len(recent(current, data["window_ms"], int(time.time() * 1000)))}


iii.register_function("limits::take", take)
iii.register_function("limits::peek", peek)

stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())
stop.wait()
iii.shutdown()
