"""`iii-skill::state::history`: pages, bounds, refusals, and what it costs nothing to leave off."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from iii_state_file import FileAdapter, FileConfig
from support import postgres, redis
from support.client import raw_client
from support.file_store import answer
from support.host import running_host

from iii_skill import Host, InvocationError, open_host
from iii_skill.adapter import VERSIONS_BYTES, HistorySettings
from iii_skill.errors import ConfigurationError

HISTORY = "iii-skill::state::history"
KEY = {"scope": "s", "key": "k"}


def settings(kind: str, place: Path, **bounds: Any) -> dict[str, Any]:
    more = {"data_dir": str(place / "data")} if kind == "file" else {}
    if kind in ("postgres", "redis"):
        more = (postgres if kind == "postgres" else redis).settings()
    return {**more, "history": bounds}


@pytest.fixture(params=["memory", "file", "postgres", "redis"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    async with open_host(adapter=request.param, adapter_config=settings(request.param, tmp_path)) as host:
        yield host


async def test_pages_cover_every_version_with_exact_values(host: Host) -> None:
    for number in range(25):
        await host.trigger("state::set", {**KEY, "value": {"n": number, "big": 9007199254740993}})
    await host.trigger("state::delete", KEY)
    found: list[Any] = []
    before = None
    while True:
        page = await host.trigger(HISTORY, {**KEY, "before": before, "limit": 10})
        found += page["versions"]
        before = page["next"]
        if before is None:
            break
    assert [row["deleted"] for row in found] == [True] + [False] * 25
    assert [row["value"] for row in found[1:]] == [
        {"n": number, "big": 9007199254740993} for number in range(24, -1, -1)
    ]
    assert all(abs(row["at_ms"] - host.clock.now() * 1000) < 60_000 for row in found)


async def test_revisions_are_texts_and_the_last_page_says_so(host: Host) -> None:
    for number in range(4):
        await host.trigger("state::set", {**KEY, "value": number})
    whole = await host.trigger(HISTORY, KEY)
    assert whole["next"] is None
    texts = [row["revision"] for row in whole["versions"]]
    assert all(type(text) is str and text.isdigit() for text in texts)
    for limit, pages in ((1, 4), (2, 2), (3, 2), (4, 1), (1000, 1)):
        seen: list[str] = []
        before: str | None = None
        for number in range(pages):
            page = await host.trigger(HISTORY, {**KEY, "before": before, "limit": limit})
            seen += [row["revision"] for row in page["versions"]]
            before = page["next"]
            assert (before is None) is (number == pages - 1)
        assert seen == texts
    for given in (texts[1], int(texts[1])):
        page = await host.trigger(HISTORY, {**KEY, "before": given})
        assert [row["revision"] for row in page["versions"]] == texts[2:]
    assert await host.trigger(HISTORY, {**KEY, "key": "none"}) == {"versions": [], "next": None}


async def test_a_last_page_of_large_values_says_so(host: Host) -> None:
    large = "x" * (VERSIONS_BYTES - 2)
    for value in (1, large, large):
        await host.trigger("state::set", {**KEY, "value": value})
    following: Any = None
    for number in range(3):
        page = await host.trigger(HISTORY, {**KEY, "before": following})
        assert len(page["versions"]) == 1
        following = page["next"]
        assert (following is None) is (number == 2)
    await host.trigger("state::set", {**KEY, "key": "k2", "value": large})
    assert (await host.trigger(HISTORY, {**KEY, "key": "k2"}))["next"] is None


async def test_what_is_no_revision_is_told_in_one_sentence(host: Host) -> None:
    with pytest.raises(InvocationError, match=r'`?invalid value: string "1x", expected digits'):
        await host.trigger(HISTORY, {**KEY, "before": "1x"})


async def test_a_page_is_bounded_in_bytes(host: Host) -> None:
    for number in range(5):
        await host.trigger("state::set", {**KEY, "value": f"{number}" * 3_000_000})
    page = await host.trigger(HISTORY, KEY)
    assert len(page["versions"]) == 2
    page = await host.trigger(HISTORY, {**KEY, "before": page["next"]})
    assert [row["value"][0] for row in page["versions"]] == ["2", "1"]


async def test_versions_follow_the_host_clock(host: Host) -> None:
    await host.trigger("state::set", {**KEY, "value": 1})
    host.clock.advance(3600)
    await host.trigger("iii-skill::state::expire", {**KEY, "ttl_ms": 1000})
    host.clock.advance(3600)
    assert await host.trigger("state::get", KEY) is None
    await host.trigger("state::set", {**KEY, "value": 2})
    new, ended, old = (await host.trigger(HISTORY, KEY))["versions"]
    assert (new["value"], ended["deleted"], old["value"]) == (2, True, 1)
    assert ended["at_ms"] - old["at_ms"] >= 7_200_000


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"limit": 0}, "INVALID_PAGE_LIMITS"),
        ({"limit": 1001}, "INVALID_PAGE_LIMITS"),
        ({"before": -1}, "deserialization_error"),
        ({"before": "x"}, "deserialization_error"),
        ({"before": ""}, "deserialization_error"),
        ({"before": "1.0"}, "deserialization_error"),
        ({"before": "-1"}, "deserialization_error"),
        ({"before": "٣"}, "deserialization_error"),
        ({"before": str(2**64)}, "deserialization_error"),
        ({"before": "1" * 1000}, "deserialization_error"),
        ({"before": True}, "deserialization_error"),
        ({"before": ["1"]}, "deserialization_error"),
        ({"scope": "__iii_skill/x"}, "RESERVED_SCOPE"),
    ],
)
async def test_what_is_wrong_is_said(host: Host, given: dict[str, Any], code: str) -> None:
    with pytest.raises(InvocationError) as caught:
        await host.trigger(HISTORY, {**KEY, **given})
    assert caught.value.code == code


async def test_without_the_setting_the_refusal_names_it() -> None:
    async with open_host() as host:
        with pytest.raises(InvocationError, match=r"give its setting `history`, as \{keep: 100") as caught:
            await host.trigger(HISTORY, KEY)
        assert caught.value.code == "HISTORY_ERROR"


@pytest.mark.parametrize("bounds", [{"keep": 0}, {"keep": 10_001}, {"days": 0}, {"years": 1}])
async def test_settings_out_of_bounds_are_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="history"):
        async with open_host(adapter_config={"history": bounds}):
            pass


async def test_off_writes_nothing_and_on_again_begins_anew(tmp_path: Path) -> None:
    place = {"data_dir": str(tmp_path / "data")}

    async def write(config: dict[str, Any], value: int) -> None:
        async with open_host(adapter="file", adapter_config=config) as host:
            await host.trigger("state::set", {**KEY, "value": value})

    async def values(config: dict[str, Any]) -> list[int]:
        async with open_host(adapter="file", adapter_config=config) as host:
            return [row["value"] for row in (await host.trigger(HISTORY, KEY))["versions"]]

    on = {**place, "history": {}}
    await write(place, 1)
    assert await values(on) == []
    await write(on, 2)
    await write(on, 3)
    assert await values(on) == [3, 2]
    await write(place, 4)
    assert await values(on) == []  # Its value of now is no version, so nobody can say what followed what.
    await write(on, 5)
    assert await values(on) == [5]


async def test_private_scopes_have_no_versions(tmp_path: Path) -> None:
    adapter = FileAdapter()
    config = FileConfig(data_dir=str(tmp_path / "data"), history=HistorySettings())
    await adapter.open(config)
    await answer(adapter.set("__iii_skill/queue/jobs", "k", b"1"))
    assert await answer(adapter.history("__iii_skill/queue/jobs", "k", None, 10)) == []
    await adapter.close()


@pytest.mark.parametrize("by_variable", [False, True])
async def test_the_command_line_alone_switches_it_on(tmp_path: Path, by_variable: bool) -> None:
    """Both ways give two settings, on a store whose only data directory they name too."""
    settings = ["data_dir=kept", "history.keep=2", "history.days=3.5"]
    options = [] if by_variable else [f"--adapter-config={setting}" for setting in settings]
    env = {"III_SKILL_SERVE_ADAPTER_CONFIG": " ".join(settings)} if by_variable else {}
    with running_host(tmp_path, "--adapter", "file", *options, env=env) as host:
        async with raw_client(host.ws) as client:
            for value in range(3):
                await client.result("state::set", {**KEY, "value": value})
            found = await client.result(HISTORY, KEY)
    assert [row["value"] for row in found["versions"]] == [2, 1]
    assert (tmp_path / "kept" / "state.db").exists()


def test_a_killed_host_keeps_the_versions_it_acknowledged(tmp_path: Path) -> None:
    """Over the command line: history, diff, revert, before and after SIGKILL."""
    config = tmp_path / "iii-config.yaml"
    config.write_text(
        "workers:\n  - name: iii-state\n    config:\n"
        "      adapter: {name: file, config: {data_dir: data, history: {keep: 5}}}\n"
    )

    def state(code: int, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "iii_skill", "state", *words, "--url", host.ws],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    with running_host(tmp_path, "--config", str(config)) as host:
        state(0, "set", "s", "k", '{"a": 1, "n": 9007199254740993}')
        state(0, "set", "s", "k", '{"a": 2, "n": 9007199254740993}')
        state(0, "delete", "s", "k")
        host.restart()
        rows = [json.loads(row) for row in state(0, "history", "s", "k", "--json").splitlines()]
        assert [row["deleted"] for row in rows] == [True, False, False]
        gone, second, first = (str(row["revision"]) for row in rows)
        said = state(0, "history", "s", "k", "--limit", "1")
        assert said.startswith(f"{gone}\t")
        assert said.endswith("\tdeleted\n")
        assert '-  "a": 1,\n+  "a": 2,\n' in state(0, "diff", "s", "k", first, second)
        assert '"a": 2,' in state(0, "diff", "s", "k", second)
        assert state(0, "revert", "s", "k", first, "--dry-run").startswith("would store")
        assert "no key" in state(3, "get", "s", "k")
        state(0, "revert", "s", "k", first)
        assert state(0, "get", "s", "k") == '{"a": 1, "n": 9007199254740993}\n'
        assert len(state(0, "history", "s", "k").splitlines()) == 4
        state(0, "revert", "s", "k", gone)
        assert "no key" in state(3, "get", "s", "k")
        assert len(state(0, "history", "s", "k").splitlines()) == 5
        state(0, "set", "s", "k", "6")
        assert len(state(0, "history", "s", "k").splitlines()) == 5
        assert "no version 1 " in state(3, "revert", "s", "k", "1").replace(".", " ")
        assert "nor was there one" in state(3, "history", "s", "other")
