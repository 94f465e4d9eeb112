import asyncio
import random
import signal
import threading
import time
import weakref

from iii import register_worker

iii = register_worker()
SCOPE = "game::scores"
turns = weakref.WeakValueDictionary()


async def state(function, **payload):
    call = {"function_id": f"state::{function}", "payload": payload, "timeout_ms": 5000}
    return await iii.trigger_async(call)


async def change(game, compute):
    turn = turns.setdefault(game, asyncio.Lock())
    until = time.monotonic() + 10
    async with turn:
        while time.monotonic() < until:
            current = await state("get", scope=SCOPE, key=game)
            value = compute({} if current is None else current["players"])
            if value is None:
                return
            expected = {} if current is None else {"expected": current}
            new = {"game": game, "players": value}
            answer = await state("compare-and-set", scope=SCOPE, key=game, value=new, **expected)
            if answer["swapped"]:
                return
            await asyncio.sleep(random.random() * 0.02)
    raise RuntimeError("changed too often")


async def add(data):
    found = {}

    def compute(players):
        found["points"] = players.get(data["player"], 0) + data["points"]
        return {**players, data["player"]: found["points"]}

    await change(data["game"], compute)
    return {"player": data["player"], "points": found["points"]}


async def top(data):
    value = await state("get", scope=SCOPE, key=data["game"])
    players = {} if value is None else value["players"]
    rows = sorted(players.items(), key=lambda row: (-row[1], row[0]))
    return {"top": [{"player": player, "points": points} for player, points in rows[: data["n"]]]}


async def leave(data):
    found = {}

    def compute(players):
        found["points"] = players.get(data["player"])
        if found["points"] is None:
            return None
        return {player: points for player, points in players.items() if player != data["player"]}

    await change(data["game"], compute)
    return {"left": found["points"] is not None, "points": found["points"] or 0}


iii.register_function("scores::add", add)
iii.register_function("scores::top", top)
iii.register_function("scores::leave", leave)

stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())
stop.wait()
iii.shutdown()
