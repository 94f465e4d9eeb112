"""`iii-skill state export --at`: what scopes held at a moment, and that what is not kept is told."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from support import postgres
from support.host import HostProcess, running_host

from iii_skill import Host, InvocationError, open_host
from iii_skill.cli.reach import Stopped, connected, encode
from iii_skill.cli.state.export_file import check, rows
from iii_skill.cli.state.past import export_past

PAST = "iii-skill::state::past"
Names = dict[tuple[str, str], bytes]


def settings_of(adapter: str) -> dict[str, str]:
    """An empty store, in the directory where the host runs or on a server."""
    if adapter == "postgres":
        return postgres.settings()
    return {"data_dir": "data"} if adapter == "file" else {}


def config_file(place: Path, adapter: str, history: str | None) -> Path:
    given = [f"{name}: {value}" for name, value in settings_of(adapter).items()]
    settings = ", ".join(given + ([f"history: {history}"] if history else []))
    config = place / "iii-config.yaml"
    config.write_text(
        "workers:\n  - name: iii-state\n    config:\n"
        f"      adapter: {{name: {adapter}, config: {{{settings}}}}}\n"
    )
    return config


def held_in(file: Path) -> Names:
    check(file)
    return {(row.scope, row.key): bytes(row.value) for row in rows(file)}


class Log:
    """What was written, one after the other, and a moment after each."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.held: Names = {}
        self.moments: list[tuple[int, Names]] = []

    async def write(self, host: HostProcess, count: int) -> None:
        async with connected(host.ws, None) as opened:
            for _ in range(count):
                scope = self.chance.choice(["s", "ü", ""])
                key = f"k{self.chance.randrange(15)}"
                payload: dict[str, Any] = {"scope": scope, "key": key}
                if self.chance.random() < 0.35:
                    await opened.call("state::delete", encode(**payload))
                    self.held.pop((scope, key), None)
                else:
                    text = b'{"n":9007199254740993.0,"i":%d}' % self.chance.randrange(10**18)
                    value = json.dumps(text.decode()).encode()
                    await opened.call(
                        "state::set",
                        b'{"scope":%b,"key":%b,"value":%b}'
                        % (json.dumps(scope).encode(), json.dumps(key).encode(), value),
                    )
                    self.held[scope, key] = value
                await asyncio.sleep(0.002)
                self.moments.append((int(time.time() * 1000), dict(self.held)))
                await asyncio.sleep(0.002)


@pytest.mark.parametrize("adapter", ["memory", "file", "postgres"])
async def test_100_moments_are_what_was_written(tmp_path: Path, adapter: str) -> None:
    config = config_file(tmp_path, adapter, "{keep: 1000}")
    log = Log(7)
    output = tmp_path / "export.ndjson"
    with running_host(tmp_path, "--config", str(config)) as host:
        await log.write(host, 150)
        if adapter != "memory":
            host.restart()
        async with connected(host.ws, None) as opened:
            first = json.loads(await opened.call("iii-skill::state::changes", b"{}") or b"")["next"]
        known = len(log.moments)
        await log.write(host, 150)
        async with connected(host.ws, None) as opened:
            for at_ms, held in log.chance.sample(log.moments, 100):
                assert await export_past(opened, [], output, str(at_ms), partial=False) == 0
                assert held_in(output) == held
            at_ms, held = log.moments[-1]
            assert await export_past(opened, ["ü", "none"], output, str(at_ms), partial=False) == 0
            assert held_in(output) == {name: value for name, value in held.items() if name[0] == "ü"}
            assert await export_past(opened, [], output, str(log.moments[0][0] - 60_000), partial=False) == 0
            assert held_in(output) == {}

            if adapter == "postgres":
                # A cursor of the store's own log is no moment.
                with pytest.raises(click.UsageError, match="is no moment"):
                    await export_past(opened, [], output, first, partial=False)
                return

            # By cursor: what the changes up to it made of what was there before.
            answer = await opened.call("iii-skill::state::changes", encode(after=first, limit=1000))
            changes = json.loads(answer or b"")["changes"]
            replayed = dict(log.moments[known - 1][1])
            states: list[tuple[str, Names]] = []
            for change in changes:
                name = (change["scope"], change["key"])
                if change["event_type"] == "state:deleted":
                    replayed.pop(name, None)
                else:
                    replayed[name] = json.dumps(change["new_value"]).encode()
                states.append((change["cursor"], dict(replayed)))
            for cursor, held in log.chance.sample(states, 20) + states[-1:]:
                assert await export_past(opened, [], output, cursor, partial=False) == 0
                assert held_in(output) == held
            assert json.loads(output.read_text().splitlines()[0])["at"] == states[-1][0]
            with pytest.raises(Stopped, match="No change has the cursor"):
                await export_past(opened, [], output, f"{first.split('-')[0]}-0", partial=False)


def state(place: Path, code: int, *words: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "iii_skill", "state", *words],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


async def until_unknown(host: HostProcess, at: str) -> None:
    """Maintenance drops what is beyond `keep`; until then it can be exported."""
    async with connected(host.ws, None) as opened:
        revision = json.loads(await opened.call(PAST, encode(at_ms=int(at))) or b"")["revision"]
        for _ in range(240):
            if json.loads(await opened.call(PAST, encode(revision=revision)) or b"")["unknown"]:
                return
            await asyncio.sleep(0.25)
    raise AssertionError("versions beyond `keep` are never dropped")


def moment() -> str:
    time.sleep(0.02)
    now = str(int(time.time() * 1000))
    time.sleep(0.02)
    return now


def test_what_is_not_kept_is_told(tmp_path: Path) -> None:
    """From a terminal: a host, then its store offline."""
    config = config_file(tmp_path, "file", "{keep: 2}")
    output = tmp_path / "out.ndjson"
    with running_host(tmp_path, "--config", str(config)) as host:
        url = ("--url", host.ws)
        state(tmp_path, 0, "set", "s", "busy", "1", *url)
        state(tmp_path, 0, "set", "s", "calm", "1.0", *url)
        early = moment()
        for number in range(3):
            state(tmp_path, 0, "set", "s", "busy", str(number), *url)
        late = moment()
        state(tmp_path, 0, "delete", "s", "calm", *url)
        asyncio.run(until_unknown(host, early))
        _, said = state(tmp_path, 1, "export", "--at", early, "-o", str(output), *url)
        assert "is not kept of 1 key; the oldest moment that can be exported whole is 20" in said
        assert not output.exists()
        oldest = said.split("exported whole is ")[1].split(". Nothing")[0]
        state(tmp_path, 0, "export", "--at", oldest, "-o", str(output), *url)
        assert held_in(output) == {("s", "busy"): b"1", ("s", "calm"): b"1.0"}
        _, said = state(tmp_path, 7, "export", "--at", early, "--partial", "-o", str(output), *url)
        assert "They are left out." in said
        assert held_in(output) == {("s", "calm"): b"1.0"}
        _, said = state(tmp_path, 1, "export", "--at", "4102444800000", *url)
        assert "not past yet" in said
        state(tmp_path, 2, "export", "--at", "yesterday", *url)
        state(tmp_path, 2, "export", "--partial", *url)
        host.sigterm()
    shown, _ = state(tmp_path, 0, "export", "--at", late, "--data-dir", "data")
    assert '{"scope":"s","key":"busy","value":2}\n{"scope":"s","key":"calm","value":1.0}\n' in shown
    # A write that nobody notes: what was before it cannot be told any more.
    state(tmp_path, 0, "set", "s", "calm", "5", "--data-dir", "data")
    _, said = state(tmp_path, 1, "export", "--at", late, "--data-dir", "data")
    assert "keeps no versions now" in said
    with running_host(tmp_path, "--config", str(config)) as host:
        _, said = state(tmp_path, 1, "export", "--at", late, "--url", host.ws)
        assert "of keys that are forgotten since" in said
        shown, said = state(tmp_path, 7, "export", "--at", late, "--partial", "--url", host.ws)
        assert '{"scope":"s","key":"busy","value":2}\n' in shown
        assert "calm" not in shown
        time.sleep(0.02)
        shown, _ = state(tmp_path, 0, "export", "--at", moment(), "--url", host.ws)
        assert '{"scope":"s","key":"calm","value":5}\n' in shown


async def test_switched_on_later_and_off_between(tmp_path: Path) -> None:
    place = {"data_dir": str(tmp_path / "data")}

    async def at(host: Host, revision: int) -> tuple[dict[str, Any], list[str], bool]:
        page = await host.trigger(PAST, {"revision": revision})
        assert page["next"] is None
        known = {row["key"]: row["value"] for row in page["entries"]}
        return known, [row["key"] for row in page["unknown"]], page["whole"]

    async def revision(host: Host) -> int:
        at_ms = int(host.clock.now() * 1000)
        host.clock.advance(1)
        return int((await host.trigger(PAST, {"at_ms": at_ms}))["revision"])

    async def put(host: Host, key: str, value: int | None) -> None:
        name = {"scope": "s", "key": key}
        if value is None:
            await host.trigger("state::delete", name)
        else:
            await host.trigger("state::set", {**name, "value": value})

    async with open_host(adapter="file", adapter_config=place) as host:
        await put(host, "old", 1)
        await put(host, "other", 1)
        with pytest.raises(InvocationError, match="keeps no versions now"):
            await at(host, 0)
    on = {**place, "history": {}}
    async with open_host(adapter="file", adapter_config=on) as host:
        begin = await revision(host)
        assert await at(host, begin) == ({"old": 1, "other": 1}, [], True)
        assert await at(host, 0) == ({}, ["old", "other"], False)
        await put(host, "old", 2)
        await put(host, "new", 1)
        changed = await revision(host)
        await put(host, "new", None)
        assert await at(host, begin) == ({"other": 1}, ["old"], True)
        assert await at(host, changed) == ({"new": 1, "old": 2, "other": 1}, [], True)
    # Opened without the setting, but nothing written: nothing is lost.
    async with open_host(adapter="file", adapter_config=place) as host:
        assert await at(host, changed) == ({"new": 1, "old": 2, "other": 1}, [], True)
    async with open_host(adapter="file", adapter_config=on) as host:
        assert await at(host, changed) == ({"new": 1, "old": 2, "other": 1}, [], True)
        await put(host, "new", 2)
    async with open_host(adapter="file", adapter_config=place) as host:
        await put(host, "new", None)
        with pytest.raises(InvocationError, match="keeps no versions now"):
            await at(host, changed)
    async with open_host(adapter="file", adapter_config=on) as host:
        await put(host, "new", 3)
        known, unknown, whole = await at(host, changed)
        assert (known, unknown, whole) == ({"old": 2, "other": 1}, ["new"], False)
        assert await at(host, await revision(host)) == ({"new": 3, "old": 2, "other": 1}, [], True)


async def test_a_write_after_a_kill_without_the_setting_is_noticed(tmp_path: Path) -> None:
    """Kept, killed, changed by one that keeps nothing and killed too: the gap is seen."""
    for history, value in (("{}", "1"), (None, "2")):
        config = config_file(tmp_path, "file", history)
        with running_host(tmp_path, "--config", str(config)) as host:
            async with connected(host.ws, None) as opened:
                await opened.call("state::set", b'{"scope":"s","key":"k","value":%b}' % value.encode())
            host.sigkill()
    on = {"data_dir": str(tmp_path / "data"), "history": {}}
    async with open_host(adapter="file", adapter_config=on) as host:
        page = await host.trigger(PAST, {"revision": 1})
        assert page["whole"] is False
        assert (page["entries"], [row["key"] for row in page["unknown"]]) == ([], ["k"])


@pytest.mark.parametrize("adapter", ["memory", "file", "postgres"])
async def test_pages_are_bounded_and_bad_input_is_refused(tmp_path: Path, adapter: str) -> None:
    settings: dict[str, Any] = {"history": {}, **settings_of(adapter)}
    if adapter == "file":
        settings["data_dir"] = str(tmp_path / "data")
    async with open_host(adapter=adapter, adapter_config=settings) as host:
        for number in range(5):
            await host.trigger("state::set", {"scope": "s", "key": f"k{number}", "value": "x" * 3_000_000})
        page = await host.trigger(PAST, {"revision": "5"})
        assert page["revision"] == "5"
        assert len(page["entries"]) == 2
        assert page["next"]
        for given, code in (
            ({}, "INVALID_MOMENT"),
            ({"revision": 1, "at_ms": 1}, "INVALID_MOMENT"),
            ({"at_ms": 99_999_999_999_999}, "INVALID_MOMENT"),
            ({"revision": 1, "limit": 0}, "INVALID_PAGE_LIMITS"),
            ({"revision": 1, "limit": 1001}, "INVALID_PAGE_LIMITS"),
            ({"revision": -1}, "deserialization_error"),
            ({"revision": "-1"}, "deserialization_error"),
            ({"revision": "x"}, "deserialization_error"),
            ({"revision": 1.5}, "deserialization_error"),
            ({"revision": 1, "after": "x"}, "INVALID_CURSOR"),
            ({"revision": 1, "after": "[" * 1000}, "INVALID_CURSOR"),
        ):
            with pytest.raises(InvocationError) as caught:
                await host.trigger(PAST, given)
            assert caught.value.code == code
        page = await host.trigger(PAST, {"revision": 2**63 - 1, "limit": 1})
        assert len(page["entries"]) == 1
    async with open_host() as host:
        with pytest.raises(InvocationError, match=r"give its setting `history`") as caught:
            await host.trigger(PAST, {"revision": 1})
        assert caught.value.code == "HISTORY_ERROR"


async def test_damage_of_a_version_is_an_error(tmp_path: Path) -> None:
    settings = {"data_dir": str(tmp_path / "data"), "history": {}}
    async with open_host(adapter="file", adapter_config=settings) as host:
        for number in range(3):
            await host.trigger("state::set", {"scope": "s", "key": "k", "value": number})
    with sqlite3.connect(tmp_path / "data" / "state.db") as other:
        (heads,) = other.execute("SELECT heads FROM packs WHERE last = 2").fetchone()
        # As if it had made the key: then there would have been none before.
        heads = heads[:8] + (0).to_bytes(8, "little") + (2).to_bytes(8, "little") + heads[24:]
        other.execute("UPDATE packs SET heads = ? WHERE last = 2", (heads,))
    other.close()
    async with open_host(adapter="file", adapter_config=settings) as host:
        assert (await host.trigger(PAST, {"revision": 2**40}))["entries"][0]["value"] == 2
        with pytest.raises(InvocationError, match="damaged"):
            await host.trigger(PAST, {"revision": 1})
