"""Checks of rooms with numbered messages, and of halls with seats that are held and sold."""

from __future__ import annotations

import asyncio
import urllib.parse
from typing import Any

from evals.checks import MANY, Subject, check, equal

# POST /rooms/:room/messages {author, text}, GET /rooms/:room/messages?after=N; scope chat::rooms.


async def post(subject: Subject, room: str, text: str) -> Any:
    path = f"/rooms/{urllib.parse.quote(room, safe='')}/messages"
    status, body = await subject.site.request("POST", path, {"author": "ann", "text": text})
    equal(status, 201)
    return body["n"]


async def read(subject: Subject, room: str, query: str = "") -> tuple[int, Any]:
    path = f"/rooms/{urllib.parse.quote(room, safe='')}/messages{query}"
    return await subject.site.request("GET", path)


@check("chat")
async def chat_numbers_and_reads_on(subject: Subject) -> None:
    for room in ("lobby", "a/b ü%", "__proto__"):
        equal([await post(subject, room, text) for text in ("one", "two", "three")], [1, 2, 3])
        message = {"n": 3, "author": "ann", "text": "three"}
        equal(await read(subject, room, "?after=2"), (200, {"last": 3, "messages": [message]}))
        equal(len((await read(subject, room))[1]["messages"]), 3)
        equal(room in await subject.keys("chat::rooms"), True)


@check("chat")
async def chat_numbers_of_messages_at_once_have_no_gap(subject: Subject) -> None:
    numbers = await asyncio.gather(*(post(subject, "busy", f"m{n}") for n in range(MANY)))
    equal(sorted(numbers), list(range(1, MANY + 1)))
    found = (await read(subject, "busy"))[1]["messages"]
    equal([message["n"] for message in found], list(range(1, MANY + 1)))
    said = {number: f"m{n}" for n, number in enumerate(numbers)}
    equal([message["text"] for message in found], [said[n] for n in range(1, MANY + 1)])


@check("chat")
async def chat_keeps_the_newest_and_stores_few(subject: Subject) -> None:
    for start in range(0, 240, 24):
        await asyncio.gather(*(post(subject, "long", f"m{n}") for n in range(start, start + 24)))
    found = (await read(subject, "long"))[1]
    equal(
        (found["last"], [message["n"] for message in found["messages"]][-50:]), (240, list(range(191, 241)))
    )
    stored = str(await subject.call("state::get", scope="chat::rooms", key="long"))
    equal(stored.count("'text'") <= 200, True)


@check("chat")
async def chat_goes_on_after_a_restart(subject: Subject) -> None:
    equal([await post(subject, "moved", text) for text in ("one", "two")], [1, 2])
    await subject.restart()
    equal(await post(subject, "moved", "three"), 3)
    found = (await read(subject, "moved"))[1]
    equal([message["text"] for message in found["messages"]], ["one", "two", "three"])


@check("chat")
async def chat_missing_room_is_empty_and_not_created(subject: Subject) -> None:
    equal(await read(subject, "nobody"), (200, {"last": 0, "messages": []}))
    equal("nobody" in await subject.keys("chat::rooms"), False)


@check("chat")
async def chat_bad_input_is_400(subject: Subject) -> None:
    await post(subject, "strict", "x")
    for query in ("?after=x", "?after=-1", "?after=1.5", "?after="):
        equal((await read(subject, "strict", query))[0], 400)
    for body in ({}, {"author": "a"}, {"author": 1, "text": "x"}, [], None):
        equal((await subject.site.request("POST", "/rooms/strict/messages", body))[0], 400)
    equal((await subject.site.request("GET", "/rooms/%ff/messages"))[0], 400)


# seats::open {event, seats}, ::hold {event, seat, who, hold_ms}, ::confirm, ::free {event}; hall::events.


async def hall(subject: Subject, event: str, *seats: str) -> None:
    equal(await subject.call("seats::open", event=event, seats=list(seats)), {"opened": True})


@check("seats")
async def seats_held_and_sold(subject: Subject) -> None:
    await hall(subject, "e1", "A1", "__proto__", "B.2")
    seat = {"event": "e1", "seat": "__proto__", "who": "__proto__"}
    for _ in range(2):
        equal(await subject.call("seats::hold", **seat, hold_ms=60_000), {"held": True})
    equal(await subject.call("seats::free", event="e1"), {"free": ["A1", "B.2"]})
    for _ in range(2):
        equal(await subject.call("seats::confirm", **seat), {"sold": True})
    equal(await subject.call("seats::hold", **{**seat, "who": "bob"}, hold_ms=1), {"error": "TAKEN"})
    equal(await subject.call("seats::open", event="e1", seats=["Z"]), {"opened": False})
    equal(await subject.call("seats::free", event="e1"), {"free": ["A1", "B.2"]})


@check("seats")
async def seats_wanted_at_once_go_to_one(subject: Subject) -> None:
    await hall(subject, "e2", *(f"s{n}" for n in range(12)))
    wishes = [{"event": "e2", "seat": f"s{n % 12}", "who": f"p{n}", "hold_ms": 60_000} for n in range(MANY)]
    answers = await subject.together("seats::hold", wishes)
    equal(answers.count({"held": True}), 12)
    equal(answers.count({"error": "TAKEN"}), MANY - 12)
    equal(await subject.call("seats::free", event="e2"), {"free": []})


@check("seats")
async def seats_wanted_at_once_in_two_processes_go_to_one(subject: Subject) -> None:
    await hall(subject, "e6", *(f"s{n}" for n in range(12)))
    async with subject.another_process() as other:
        wishes = [
            {"event": "e6", "seat": f"s{n % 12}", "who": f"p{n}", "hold_ms": 60_000} for n in range(MANY)
        ]
        both = await asyncio.gather(
            subject.together("seats::hold", wishes[::2]), other.together("seats::hold", wishes[1::2])
        )
        answers = [answer for some in both for answer in some]
        equal(answers.count({"held": True}), 12)
        equal(await other.call("seats::free", event="e6"), {"free": []})


@check("seats")
async def seats_hold_that_is_over_is_free_and_cannot_be_confirmed(subject: Subject) -> None:
    await hall(subject, "e3", "A1")
    seat = {"event": "e3", "seat": "A1"}
    await subject.call("seats::hold", **seat, who="ann", hold_ms=80)
    await asyncio.sleep(0.15)
    equal(await subject.call("seats::free", event="e3"), {"free": ["A1"]})
    equal(await subject.call("seats::confirm", **seat, who="ann"), {"error": "EXPIRED"})
    equal(await subject.call("seats::hold", **seat, who="bob", hold_ms=60_000), {"held": True})
    equal(await subject.call("seats::confirm", **seat, who="ann"), {"error": "EXPIRED"})
    equal(await subject.call("seats::confirm", **seat, who="bob"), {"sold": True})


@check("seats")
async def seats_sold_stay_sold(subject: Subject) -> None:
    # A hold that is long enough to be confirmed in time, however slow the machine is, and is over then.
    for hold_ms in (300, 1000, 5000, 20_000):
        event = f"e4-{hold_ms}"
        await hall(subject, event, "A1")
        seat = {"event": event, "seat": "A1"}
        await subject.call("seats::hold", **seat, who="ann", hold_ms=hold_ms)
        if (answer := await subject.call("seats::confirm", **seat, who="ann")) != {"error": "EXPIRED"}:
            break
    equal(answer, {"sold": True})
    await asyncio.sleep(hold_ms / 1000 + 0.1)
    equal(await subject.call("seats::hold", **seat, who="bob", hold_ms=1000), {"error": "TAKEN"})
    equal(await subject.call("seats::free", event=event), {"free": []})
    equal(await subject.call("seats::confirm", **seat, who="ann"), {"sold": True})


@check("seats")
async def seats_unknown_is_not_found_and_not_created(subject: Subject) -> None:
    await hall(subject, "e5", "A1")
    missing = {"error": "NOT_FOUND"}
    for event, seat in (("ghost", "A1"), ("e5", "A2"), ("e5", "")):
        equal(await subject.call("seats::hold", event=event, seat=seat, who="a", hold_ms=9), missing)
        equal(await subject.call("seats::confirm", event=event, seat=seat, who="a"), missing)
    equal(await subject.call("seats::confirm", event="e5", seat="A1", who="never"), missing)
    equal(await subject.call("seats::free", event="ghost"), missing)
    equal("ghost" in await subject.keys("hall::events"), False)
