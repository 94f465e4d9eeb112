"""Checks of given code that is mended or moved, of events that come twice, and of answers that are texts."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from evals.checks import MANY, Subject, check, equal
from support.served import served_host

ODD = ("__proto__", "a.b", "", "ü 😀\n", "x" * 300)

# scores::add {game, player, points}, ::top {game, n}, ::leave {game, player}; scope game::scores.


@check("leaderboard")
async def leaderboard_works_as_before(subject: Subject) -> None:
    for player, points in (("ann", 5), ("bob", 9), ("ann", 4), ("cid", 1)):
        await subject.call("scores::add", game="g1", player=player, points=points)
    equal(
        await subject.call("scores::top", game="g1", n=2),
        {"top": [{"player": "ann", "points": 9}, {"player": "bob", "points": 9}]},
    )
    left = {"left": True, "points": 9}
    equal(await subject.call("scores::leave", game="g1", player="bob"), left)
    equal(await subject.call("scores::leave", game="g1", player="bob"), {"left": False, "points": 0})
    equal(
        await subject.call("state::get", scope="game::scores", key="g1"),
        {"game": "g1", "players": {"ann": 9, "cid": 1}},
    )


@check("leaderboard")
async def leaderboard_loses_no_point_added_at_once(subject: Subject) -> None:
    adds = [{"game": "g2", "player": f"p{n % 4}", "points": 1} for n in range(MANY)]
    answers = await subject.together("scores::add", adds)
    equal(sorted(answer["points"] for answer in answers), sorted([*range(1, MANY // 4 + 1)] * 4))
    found = await subject.call("state::get", scope="game::scores", key="g2")
    equal(found["players"], {f"p{n}": MANY // 4 for n in range(4)})


@check("leaderboard")
async def leaderboard_loses_no_point_added_by_two_processes(subject: Subject) -> None:
    adds = [{"game": "g4", "player": "ann", "points": 1}] * (MANY // 2)
    async with subject.another_process() as other:
        both = await asyncio.gather(
            subject.together("scores::add", adds), other.together("scores::add", adds)
        )
    points = sorted(answer["points"] for answers in both for answer in answers)
    equal(points, list(range(1, MANY // 2 * 2 + 1)))


@check("leaderboard")
async def leaderboard_gives_what_was_left_to_one(subject: Subject) -> None:
    await subject.call("scores::add", game="g3", player="ann", points=7)
    answers = await subject.together("scores::leave", [{"game": "g3", "player": "ann"}] * 12)
    equal(answers.count({"left": True, "points": 7}), 1)


@check("leaderboard")
async def leaderboard_missing_game_is_empty_and_not_created(subject: Subject) -> None:
    equal(await subject.call("scores::top", game="nope", n=3), {"top": []})
    equal(await subject.call("scores::leave", game="nope", player="a"), {"left": False, "points": 0})
    equal("nope" in await subject.keys("game::scores"), False)


@check("leaderboard")
async def leaderboard_takes_every_name(subject: Subject) -> None:
    for player in ODD:
        await subject.call("scores::add", game="odd", player=player, points=1)
        equal((await subject.call("scores::add", game="odd", player=player, points=2))["points"], 3)
    found = (await subject.call("scores::top", game="odd", n=9))["top"]
    equal(sorted(row["player"] for row in found), sorted(ODD))


# payments::on-event {event_id, account, cents}, ::balance {account}; scope bank::events.


@check("events")
async def events_are_summed_up(subject: Subject) -> None:
    for event, cents in (("e1", 500), ("e2", -200), ("__proto__", 7)):
        payload = {"event_id": event, "account": "ann", "cents": cents}
        equal(await subject.call("payments::on-event", **payload), {"duplicate": False})
    equal(
        await subject.call("payments::balance", account="ann"),
        {"account": "ann", "balance": 307, "events": 3},
    )
    equal("e1" in await subject.keys("bank::events"), True)


@check("events")
async def events_that_come_at_once_and_again_count_once(subject: Subject) -> None:
    event = {"event_id": "same", "account": "bob", "cents": 100}
    answers = await subject.together("payments::on-event", [event] * 12)
    equal(answers.count({"duplicate": False}), 1)
    equal(await subject.call("payments::on-event", **event), {"duplicate": True})
    equal((await subject.call("payments::balance", account="bob"))["balance"], 100)


@check("events")
async def events_from_before_a_restart_are_known(subject: Subject) -> None:
    event = {"event_id": "early", "account": "eve", "cents": 3}
    equal(await subject.call("payments::on-event", **event), {"duplicate": False})
    await subject.restart()
    equal(await subject.call("payments::on-event", **event), {"duplicate": True})
    equal((await subject.call("payments::balance", account="eve"))["balance"], 3)


@check("events")
async def events_of_one_account_at_once_all_count(subject: Subject) -> None:
    many = [{"event_id": f"m{n}", "account": "cid", "cents": 1} for n in range(MANY)]
    await subject.together("payments::on-event", [*many, *many])
    equal(
        await subject.call("payments::balance", account="cid"),
        {"account": "cid", "balance": MANY, "events": MANY},
    )


@check("events")
async def events_unknown_account_is_empty_and_not_created(subject: Subject) -> None:
    scopes = (await subject.call("state::list_groups"))["groups"]
    equal(
        await subject.call("payments::balance", account="ghost"),
        {"account": "ghost", "balance": 0, "events": 0},
    )
    equal((await subject.call("state::list_groups"))["groups"], scopes)
    for scope in scopes:
        equal("ghost" in await subject.keys(scope), False)


@check("events")
async def events_of_a_killed_process_are_made_whole_by_their_repetition(subject: Subject) -> None:
    """What the process has written when it dies between two writes: only what tells events apart."""
    event = {"event_id": "half", "account": "dan", "cents": 40}
    await subject.call("payments::on-event", **event)
    for scope in (await subject.call("state::list_groups"))["groups"]:
        if scope == "bank::events":
            continue
        for key, value in (await subject.call("state::list_entries", scope=scope))["entries"]:
            if "half" in (key, *(value.values() if isinstance(value, dict) else ())):
                await subject.call("state::delete", scope=scope, key=key)
    await subject.call("payments::on-event", **event)
    equal(
        await subject.call("payments::balance", account="dan"), {"account": "dan", "balance": 40, "events": 1}
    )


# codes::issue {email, code, ttl_ms}, ::redeem {email, code}; fails::add {ip, window_ms}, ::get {ip}.


@check("codes")
async def codes_are_redeemed_once(subject: Subject) -> None:
    code = {"email": "ann@x.org", "code": "123"}
    equal(await subject.call("codes::issue", **code, ttl_ms=60_000), {"issued": True})
    answers = await subject.together("codes::redeem", [code] * 12)
    equal([answer["ok"] for answer in answers].count(True), 1)
    equal(await subject.call("codes::redeem", **code), {"ok": False})
    equal("ann@x.org" in await subject.keys("auth::codes"), True)


@check("codes")
async def codes_are_redeemed_once_by_two_processes(subject: Subject) -> None:
    codes = [{"email": f"two{n}", "code": "123"} for n in range(10)]
    async with subject.another_process() as other:
        for code in codes:
            await other.call("codes::issue", **code, ttl_ms=60_000)
        both = await asyncio.gather(
            subject.together("codes::redeem", codes), other.together("codes::redeem", codes)
        )
        fails = [{"ip": "two", "window_ms": 60_000}] * (MANY // 2)
        counted = await asyncio.gather(
            subject.together("fails::add", fails), other.together("fails::add", fails)
        )
    equal([[answer["ok"] for answer in pair].count(True) for pair in zip(*both, strict=True)], [1] * 10)
    equal(max(answer["fails"] for answers in counted for answer in answers), MANY // 2 * 2)


@check("codes")
async def codes_wrong_ones_use_nothing_up(subject: Subject) -> None:
    await subject.call("codes::issue", email="bob", code="1", ttl_ms=60_000)
    for wrong in ("2", "", None):
        equal(await subject.call("codes::redeem", email="bob", code=wrong), {"ok": False})
    equal(await subject.call("codes::redeem", email="bob", code="1"), {"ok": True})
    equal(await subject.call("codes::redeem", email="bob", code=None), {"ok": False})
    for new in ("3", "4"):
        await subject.call("codes::issue", email="bob", code=new, ttl_ms=60_000)
    equal(await subject.call("codes::redeem", email="bob", code="3"), {"ok": False})
    equal(await subject.call("codes::redeem", email="bob", code="4"), {"ok": True})


@check("codes")
async def codes_expire(subject: Subject) -> None:
    await subject.call("codes::issue", email="cid", code="1", ttl_ms=60)
    await subject.call("fails::add", ip="old", window_ms=60)
    await asyncio.sleep(0.12)
    equal(await subject.call("codes::redeem", email="cid", code="1"), {"ok": False})
    equal(await subject.call("fails::get", ip="old"), {"fails": 0})
    equal(await subject.call("fails::add", ip="old", window_ms=60_000), {"fails": 1})


@check("codes")
async def codes_window_of_fails_begins_with_the_first(subject: Subject) -> None:
    seen: list[int] = []
    while len(seen) < 40 and (len(seen) < 2 or seen[-1] > 1):
        seen.append((await subject.call("fails::add", ip="slow", window_ms=2000))["fails"])
        await asyncio.sleep(0.1)
    equal(seen, [*range(1, len(seen)), 1])


@check("codes")
async def codes_fails_at_once_are_exact(subject: Subject) -> None:
    answers = await subject.together("fails::add", [{"ip": "busy", "window_ms": 60_000}] * MANY)
    equal(sorted(answer["fails"] for answer in answers), list(range(1, MANY + 1)))
    equal(await subject.call("fails::get", ip="busy"), {"fails": MANY})


@check("codes")
async def codes_missing_is_refused_and_not_created(subject: Subject) -> None:
    equal(await subject.call("codes::redeem", email="ghost", code="1"), {"ok": False})
    equal(await subject.call("codes::redeem", email="ghost", code=None), {"ok": False})
    equal(await subject.call("fails::get", ip="ghost"), {"fails": 0})
    equal("ghost" in await subject.keys("auth::codes") + await subject.keys("auth::fails"), False)


# notes::add {user, text}, ::list {user}, ::clear {user}; scope app::notes.


@check("imports")
async def imports_work_and_notes_keep_their_order(subject: Subject) -> None:
    for number, text in enumerate(("one", "two", ""), 1):
        equal(await subject.call("notes::add", user="ann", text=text), {"n": number})
    equal(await subject.call("notes::list", user="ann"), {"notes": ["one", "two", ""]})
    equal("ann" in await subject.keys("app::notes"), True)


@check("imports")
async def imports_notes_added_at_once_are_all_kept(subject: Subject) -> None:
    answers = await subject.together("notes::add", [{"user": "bob", "text": f"t{n}"} for n in range(MANY)])
    equal(sorted(answer["n"] for answer in answers), list(range(1, MANY + 1)))
    equal(len((await subject.call("notes::list", user="bob"))["notes"]), MANY)


@check("imports")
async def imports_clear_gives_the_notes_to_one(subject: Subject) -> None:
    await subject.call("notes::add", user="cid", text="x")
    answers = await subject.together("notes::clear", [{"user": "cid"}] * 12)
    equal(answers.count({"removed": ["x"]}), 1)
    equal(answers.count({"removed": []}), 11)


@check("imports")
async def imports_missing_user_has_no_notes_and_is_not_created(subject: Subject) -> None:
    equal(await subject.call("notes::list", user="nobody"), {"notes": []})
    equal(await subject.call("notes::clear", user="nobody"), {"removed": []})
    equal("nobody" in await subject.keys("app::notes"), False)


# iii-config.yaml, mended; its first line names the check of the doctor.


def settings(text: str) -> Any:
    """The file, without what had to be mended."""
    found = yaml.safe_load(text)
    for worker in found["workers"]:
        if worker["name"] == "iii-state":
            del worker["config"]["adapter"]["config"]["store_method"]
    return found


@check("doctor")
async def doctor_is_asked_for_the_cause(subject: Subject) -> None:
    given = Path(__file__).parent / "tasks" / "text-doctor" / "given" / "iii-config.yaml"
    cause = (await asyncio.to_thread(examined, given))["likeliest_cause"]
    equal(subject.text.splitlines()[0], f"# cause: {cause}")


def examined(file: Path) -> Any:
    """What the doctor says of a configuration, wherever else something is wrong on this machine."""
    groups = [word for name in ("config", "plugins") for word in ("--only", name)]
    command = [sys.executable, "-m", "iii_skill", "doctor", "--json", "--config", str(file), *groups]
    return json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout)


@check("doctor")
async def doctor_finds_nothing_any_more(subject: Subject) -> None:
    equal((await asyncio.to_thread(examined, subject.file))["likeliest_cause"], None)


@check("doctor")
async def doctor_host_keeps_what_was_stored(subject: Subject) -> None:
    """Stored at once, and there after a restart."""

    def round_trip() -> Any:
        folder = subject.file.parent
        with served_host("--config", str(subject.file), cwd=folder) as host:
            host.call("state::set", {"scope": "s", "key": "k", "value": 1})
        with served_host("--config", str(subject.file), cwd=folder) as host:
            return host.call("state::get", {"scope": "s", "key": "k"})

    equal(await asyncio.to_thread(round_trip), {"result": 1})


@check("doctor")
async def doctor_other_settings_are_not_touched_nor_missing(subject: Subject) -> None:
    given = Path(__file__).parent / "tasks" / "text-doctor" / "given" / "iii-config.yaml"
    equal(settings(subject.text), settings(given.read_text()))


# answer.json: what can be promised.


def promised(subject: Subject, names: str) -> dict[str, bool]:
    answers = json.loads(subject.text)
    return {name: answers[name]["possible"] for name in names}


@check("promises")
async def promises_of_what_is_atomic(subject: Subject) -> None:
    equal(promised(subject, "abcd"), {"a": False, "b": True, "c": False, "d": True})


@check("promises")
async def promises_of_paths_and_numbers(subject: Subject) -> None:
    equal(promised(subject, "efg"), {"e": False, "f": False, "g": True})


@check("promises")
async def promises_of_scopes_and_missing_keys(subject: Subject) -> None:
    equal(promised(subject, "hijk"), {"h": True, "i": False, "j": True, "k": False})


@check("promises")
async def promises_name_the_function(subject: Subject) -> None:
    answers = json.loads(subject.text)
    named = {name: answers[name].get("function") for name in "bdghj"}
    update = "state::update"
    wanted = {"b": update, "d": "state::delete", "g": update, "h": "state::list_entries"}
    equal(named, {**wanted, "j": "state::compare-and-set"})
