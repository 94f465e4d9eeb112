import signal
import threading

from iii import register_worker

iii = register_worker()
SCOPE = "game::scores"


async def state(function, **payload):
    return await iii.trigger_async({"function_id": f"state::{function}", "payload": payload})


async def load(game):
    value = await state("get", scope=SCOPE, key=game)
    if not value:
        value = {"game": game, "players": {}}
        await state("set", scope=SCOPE, key=game, value=value)
    return value


async def add(data):
    value = await load(data["game"])
    players = value["players"]
    players[data["player"]] = players.get(data["player"], 0) + data["points"]
    await state("set", scope=SCOPE, key=data["game"], value=value)
    return {"player": data["player"], "points": players[data["player"]]}


async def top(data):
    value = await load(data["game"])
    rows = sorted(value["players"].items(), key=lambda row: (-row[1], row[0]))
    return {"top": [{"player": player, "points": points} for player, points in rows[: data["n"]]]}


async def leave(data):
    value = await load(data["game"])
    points = value["players"].pop(data["player"], None)
    await state("set", scope=SCOPE, key=data["game"], value=value)
    return {"left": points is not None, "points": points or 0}


iii.register_function("scores::add", add)
iii.register_function("scores::top", top)
iii.register_function("scores::leave", leave)

stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())
stop.wait()
iii.shutdown()
