import asyncio
import random
import signal
import threading
import time
import weakref

from iii import register_worker

iii = register_worker()
turns = weakref.WeakValueDictionary()


async def state(function, **payload):
    call = {"function_id": f"state::{function}", "payload": payload, "timeout_ms": 5000}
    return await iii.trigger_async(call)


def now():
    return int(time.time() * 1000)


async def change(scope, key, compute):
    """The value that was stored; None when `compute` wants nothing stored."""
    turn = turns.setdefault((scope, key), asyncio.Lock())
    until = time.monotonic() + 10
    async with turn:
        while time.monotonic() < until:
            current = await state("get", scope=scope, key=key)
            value = compute(current)
            if value is None:
                return None
            expected = {} if current is None else {"expected": current}
            answer = await state("compare-and-set", scope=scope, key=key, value=value, **expected)
            if answer["swapped"]:
                return value
            await asyncio.sleep(random.random() * 0.02)
    raise RuntimeError("changed too often")


async def issue(data):
    value = {"email": data["email"], "code": data["code"], "used": False, "ends": now() + data["ttl_ms"]}
    await state("set", scope="auth::codes", key=data["email"], value=value)
    return {"issued": True}


async def redeem(data):
    def compute(current):
        if current is None or current["used"] or current["ends"] <= now():
            return None
        return {**current, "used": True} if current["code"] == data["code"] else None

    return {"ok": await change("auth::codes", data["email"], compute) is not None}


async def add(data):
    def compute(current):
        if current is None or current["ends"] <= now():
            return {"ip": data["ip"], "n": 1, "ends": now() + data["window_ms"]}
        return {**current, "n": current["n"] + 1}

    return {"fails": (await change("auth::fails", data["ip"], compute))["n"]}


async def get(data):
    current = await state("get", scope="auth::fails", key=data["ip"])
    return {"fails": 0 if current is None or current["ends"] <= now() else current["n"]}


iii.register_function("codes::issue", issue)
iii.register_function("codes::redeem", redeem)
iii.register_function("fails::add", add)
iii.register_function("fails::get", get)

stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())
stop.wait()
iii.shutdown()
