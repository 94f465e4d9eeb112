"""`iii-skill mcp`: the library's own client, a real process, a real host."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from support.host import WAIT_S, HostProcess, running_host
from support.markdown import blocks
from support.tree import ROOT

from iii_skill.cli.mcp.server import INSTRUCTIONS, OFFERS, tool_list

BIG = '{"n":9007199254740993,"f":1.0,"e":1E2}'
BYTES_PER_TOKEN = 3
"""Tokenizers make three to four bytes of such JSON one token: the lower figure, to be on the safe side."""


class Agent:
    """A client and the process that it talks to."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, tool: str, **arguments: Any) -> Any:
        """What a tool gives."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        assert json.loads(result.content[0].text) == result.structured_content
        return result.structured_content

    async def fails(self, tool: str, **arguments: Any) -> str:
        """What a tool says that could not do it: one short text."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, result.structured_content
        (said,) = result.content
        assert len(said.text) < 6000
        assert "Traceback" not in said.text
        return str(said.text)


@asynccontextmanager
async def agent(*options: str, cwd: Path) -> AsyncIterator[Agent]:
    """An agent's connection to `iii-skill mcp` with these options."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("III_")}
    started = StdioServerParameters(
        command=sys.executable, args=["-m", "iii_skill", "mcp", *options], env=clean, cwd=cwd
    )
    with (cwd / "mcp.log").open("a") as log:
        async with Client(stdio_client(started, errlog=log)) as client:
            yield Agent(client)


def store(cwd: Path, *words: str, given: str | None = None) -> None:
    """`iii-skill state set` with these words."""
    command = [sys.executable, "-m", "iii_skill", "state", "set", *words]
    subprocess.run(
        command, cwd=cwd, input=None if given is None else given.encode(), check=True, capture_output=True
    )


def test_the_tool_list_is_at_most_1500_tokens_and_says_what_only_reads() -> None:
    tools = tool_list(allow_write=True)
    listed = [tool.model_dump(by_alias=True, exclude_none=True) for tool in tools]
    text = json.dumps(listed, separators=(",", ":")) + INSTRUCTIONS
    assert len(text.encode()) / BYTES_PER_TOKEN <= 1600
    assert len(json.dumps(listed, separators=(",", ":"))) / BYTES_PER_TOKEN <= 1500
    assert [tool.name for tool in tools] == list(OFFERS)
    for tool in tools:
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint is (tool.name != "state_write")
        assert tool.output_schema is not None
        assert "$ref" not in json.dumps([tool.input_schema, tool.output_schema])


async def test_reads_writes_guards_and_pages(tmp_path: Path) -> None:
    with running_host(tmp_path) as host:
        async with agent("--url", host.ws, "--allow-write", cwd=tmp_path) as me:
            write = {"action": "set", "scope": "s", "key": "k"}
            assert await me.call("state_write", **write, value=BIG, if_absent=True) == {"existed": False}
            assert "is now {" in await me.fails("state_write", **write, value="1", if_absent=True)
            assert "is now {" in await me.fails("state_write", **write, value="1", if_equals="5")
            assert (await me.call("state_get", scope="s", key="k"))["value"] == BIG
            assert await me.call("state_write", **write, value="[1]", if_equals=BIG) == {"existed": True}
            assert await me.call("state_get", scope="s", key="k", pointer="/0") == {
                "found": True, "value": "1", "bytes": 1,
            }  # fmt: skip
            update = {"action": "update", "scope": "s", "key": "n"}
            add = '{"type":"increment","path":"n","by":9007199254740993}'
            ops = f'[{add},{{"type":"increment","path":"","by":1}}]'
            done = await me.call("state_write", **update, ops=ops)
            assert done["value"] == '{"n":9007199254740993}'
            assert done["errors"][0].startswith("op 1: ")
            gone = {"action": "delete", "scope": "s", "key": "n"}
            assert await me.call("state_write", **gone) == {"existed": True}
            assert await me.call("state_write", **gone) == {"existed": False}
            assert await me.call("state_get", scope="s", key="n") == {"found": False}

            for number in range(120):
                await me.call("state_write", action="set", scope="many", key=f"k{number}", value=str(number))
            seen, cursor = [], {}
            while True:
                page = await me.call("state_list", scope="many", **cursor)
                assert len(page["entries"]) <= 50
                seen += page["entries"]
                if "cursor" not in page:
                    break
                cursor = {"cursor": page["cursor"]}
                # A page may be asked for again, and what was deleted since is left out.
                await me.call("state_list", scope="many", **cursor)
                await me.call("state_write", action="delete", scope="many", key="k119")
            assert seen == [{"key": f"k{number}", "value": str(number)} for number in range(119)]
            some = await me.call("state_list", scope="many", prefix="k11", values=False, limit=5)
            assert [row["key"] for row in some["entries"]] == ["k11", "k110", "k111", "k112", "k113"]
            assert "list again" in await me.fails("state_list", scope="s", cursor=some["cursor"])
            assert "list again" in await me.fails("state_list", scope="many", cursor="x")
            assert await me.call("state_scopes", limit=1) == {"scopes": ["many"], "cursor": "many"}
            assert await me.call("state_scopes", cursor="many") == {"scopes": ["s"]}


async def test_watch_tells_what_others_write_and_goes_on_from_its_cursor(tmp_path: Path) -> None:
    with running_host(tmp_path) as host:
        async with (
            agent("--url", host.ws, cwd=tmp_path) as me,
            agent("--url", host.ws, "--allow-write", cwd=tmp_path) as other,
        ):
            begun = await me.call("state_watch", scope="s", seconds=0)
            assert begun["changes"] == []
            waiting = asyncio.create_task(
                me.call("state_watch", scope="s", cursor=begun["cursor"], seconds=30)
            )
            await other.call("state_write", action="set", scope="elsewhere", key="k", value="0")
            await other.call("state_write", action="set", scope="s", key="k", value='"é"')
            found = await waiting
            assert found["changes"] == [{"type": "created", "key": "k", "value": '"é"'}]
            await other.call("state_write", action="delete", scope="s", key="k")
            await other.call("state_write", action="set", scope="s", key="big", value=f'"{"x" * 9000}"')
            found = await me.call("state_watch", scope="s", cursor=found["cursor"], seconds=30)
            if len(found["changes"]) == 1:
                found["changes"] += (await me.call("state_watch", scope="s", cursor=found["cursor"]))[
                    "changes"
                ]
            assert found["changes"][0] == {"type": "deleted", "key": "k"}
            assert (len(found["changes"][1]["value"]), found["changes"][1]["next_offset"]) == (4096, 4096)
            assert "CURSOR" in (await me.fails("state_watch", scope="s", cursor="gone-1")).upper()


async def test_without_allow_write_nothing_can_be_written(tmp_path: Path) -> None:
    async with agent("--data-dir", "data", cwd=tmp_path) as me:
        names = [tool.name for tool in (await me.client.list_tools()).tools]
        assert names == [name for name in OFFERS if name != "state_write"]
        said = await me.fails("state_write", action="set", scope="s", key="k", value="1")
        assert "--allow-write" in said
        assert await me.call("state_get", scope="s", key="k") == {"found": False}
        report = await me.call("doctor")
        assert "directory.lock" not in [fault["id"] for fault in report["faults"]]


async def test_scopes_outside_of_the_list_cannot_be_seen(tmp_path: Path) -> None:
    async with agent("--data-dir", "data", "--allow-write", cwd=tmp_path) as me:
        for scope in ("shop::carts", "shop", "secret", "shops"):
            await me.call("state_write", action="set", scope=scope, key="k", value="1")
    options = ("--data-dir", "data", "--allow-write", "--scope", "shop::*", "--scope", "shop")
    async with agent(*options, cwd=tmp_path) as me:
        assert await me.call("state_scopes") == {"scopes": ["shop", "shop::carts"]}
        assert (await me.call("state_get", scope="shop::carts", key="k"))["found"]
        for scope in ("secret", "shops", "", "Shop", "x" * 100_000, "shop\n", "*"):
            for tool, more in (
                ("state_list", {}),
                ("state_get", {"key": "k"}),
                ("state_watch", {"seconds": 0}),
                ("state_write", {"key": "k", "action": "delete"}),
            ):
                assert "only the scopes shop::*, shop" in await me.fails(tool, scope=scope, **more)


async def test_a_huge_value_is_shown_in_pieces_and_hinders_no_listing(tmp_path: Path) -> None:
    with running_host(tmp_path, "--adapter", "memory") as host:
        text = '"' + "é" * 30_000_000 + '"'  # 60 MB
        store(tmp_path, "s", "huge", "-", "--url", host.ws, given=text)
        async with agent("--url", host.ws, "--allow-write", cwd=tmp_path) as me:
            await me.call("state_write", action="set", scope="s", key="small", value="1")
            first = await me.call("state_get", scope="s", key="huge")
            assert first["bytes"] == 60_000_002
            pieces, rest = first["value"], first["next_offset"]
            piece = await me.call("state_get", scope="s", key="huge", offset=rest)
            pieces, rest = pieces + piece["value"], piece["next_offset"]
            assert text.startswith(pieces)
            assert len(pieces.encode()) == rest > 2 * 4090
            end = await me.call("state_get", scope="s", key="huge", offset=60_000_000)
            assert (end["value"], "next_offset" in end) == ('é"'[-len(end["value"]) :], False)
            assert "nothing at 60000003" in await me.fails(
                "state_get", scope="s", key="huge", offset=60_000_003
            )
            rows = (await me.call("state_list", scope="s"))["entries"]
            assert [row["key"] for row in rows] == ["huge", "small"]
            said = await me.fails(
                "state_write", action="set", scope="s", key="k", value=text[:2_000_000] + '"'
            )
            assert "1048576 is the most" in said


async def test_bad_input_is_one_clear_error_and_the_server_lives_on(tmp_path: Path) -> None:
    async with agent("--data-dir", "data", "--allow-write", cwd=tmp_path) as me:
        write = {"action": "set", "scope": "s", "key": "k"}
        cases: list[tuple[str, dict[str, Any], str]] = [
            ("nope", {}, "There is no tool 'nope'"),
            ("state_get", {"scope": "s"}, "missing required field `key`"),
            ("state_get", {"scope": 1, "key": "k"}, "Expected `str`"),
            ("state_get", {"scope": "s", "key": "k", "zz": 1}, "unknown field `zz`"),
            ("state_list", {"scope": "s", "limit": 51}, "<= 50"),
            ("state_watch", {"scope": "s", "seconds": 31}, "<= 30"),
            ("state_write", write, "needs `value`"),
            ("state_write", {**write, "value": {"a": 1}}, "Expected `str`"),
            ("state_write", {**write, "value": "word"}, "no JSON text"),
            ("state_write", {**write, "value": "[" * 200 + "]" * 200}, "levels"),
            ("state_get", {"scope": "a", "key": "list", "pointer": "/" + "9" * 5000}, "nothing at"),
            ("state_write", {**write, "value": '"\\ud800"'}, "surrogate"),
            ("state_write", {**write, "value": "1", "ops": "[]"}, "takes no `ops`"),
            ("state_write", {**write, "action": "update", "ops": "{}"}, "array of operations"),
            ("state_write", {**write, "action": "update", "ops": '[{"type":"x"}]'}, "unknown variant `x`"),
            ("state_write", {**write, "action": "delete", "if_absent": True}, "belong to the action set"),
            ("state_write", {**write, "value": "1", "if_absent": True, "if_equals": "1"}, "contradict"),
            ("state_write", {**write, "action": "drop"}, "Invalid enum value 'drop'"),
        ]
        await me.call("state_write", action="set", scope="a", key="list", value="[1]")
        for tool, arguments, message in cases:
            assert message in await me.fails(tool, **arguments), (tool, arguments)
        for key in ("", "ü \n\t", "__proto__", "a/b~c::*", "k" * 5000, "\x00"):
            await me.call("state_write", **{**write, "key": key}, value="0")
            assert (await me.call("state_get", scope="s", key=key))["value"] == "0"
        listed = await me.call("state_list", scope="s")
        assert [row["key"][:9] for row in listed["entries"]] == [
            "", "ü \n\t", "__proto__", "a/b~c::*", "kkkkkkkkk", "\x00",
        ]  # fmt: skip


async def test_a_host_that_is_away_is_one_sentence_and_comes_back(tmp_path: Path) -> None:
    host = HostProcess(tmp_path, "--data-dir", str(tmp_path / "data")).start()
    try:
        async with agent("--url", host.ws, "--allow-write", cwd=tmp_path) as me:
            await me.call("state_write", action="set", scope="s", key="k", value="1")
            watching = asyncio.create_task(me.fails("state_watch", scope="s", seconds=30))
            await asyncio.sleep(0)  # it is sent first: when what comes after it is answered, the host has it
            await me.call("state_get", scope="s", key="k")
            host.sigkill()
            assert "The connection broke" in await watching
            said = await me.fails("state_get", scope="s", key="k")
            assert f"Nothing answers at {host.ws}" in said
            faults = (await me.call("doctor"))["faults"]
            assert "engine.reachable" in [fault["id"] for fault in faults]
            host.start()
            assert (await me.call("state_get", scope="s", key="k"))["value"] == "1"
    finally:
        host.kill()


def raw_server(tmp_path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "iii_skill", "mcp", "--data-dir", "data"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe)


def hello(server: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The answer to the first message of a client."""
    assert server.stdin is not None
    assert server.stdout is not None
    params = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    server.stdin.write(json.dumps(message).encode() + b"\n")
    server.stdin.flush()
    while True:
        answer: dict[str, Any] = json.loads(server.stdout.readline())
        if answer.get("id") == 1:
            return answer


@pytest.mark.parametrize("end", ["close", signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_its_client_does_or_a_signal_comes(tmp_path: Path, end: Any) -> None:
    with raw_server(tmp_path) as server:
        assert hello(server)["result"]["serverInfo"]["name"] == "iii-skill"
        if end == "close":
            assert server.stdin is not None
            server.stdin.close()
        else:
            server.send_signal(end)
        assert server.wait(WAIT_S) == (130 if end == signal.SIGINT else 0)


def test_garbage_on_stdin_stops_nobody(tmp_path: Path) -> None:
    with raw_server(tmp_path) as server:
        assert server.stdin is not None
        deep = (
            b'{"jsonrpc":"2.0","id":9,"method":"tools/call","params":' + b'{"a":' * 9999 + b"1" + b"}" * 10000
        )
        for line in (b"no json", b"\xff\xfe", b"[]", b"{}", deep, b"x" * 5_000_000):
            server.stdin.write(line + b"\n")
        assert "result" in hello(server)
        server.stdin.close()
        assert server.wait(WAIT_S) == 0


@pytest.mark.parametrize(
    ("line", "key", "says"),
    [
        ('{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"key":"\\ud800"}}', 5, "surrogate"),
        ('{"jsonrpc":"2.0","id":"a","method":"tools/list","params":{"\\udfff":1}}', "a", "surrogate"),
        ('{"jsonrpc":"2.0","id":6,"method":"tools/list","params":NaN}', 6, "cannot be read"),
        ('{"jsonrpc":"1.0","id":7,"method":"tools/list"}', 7, "cannot be read"),
        ('{"id":8,"method":"tools/list"}', 8, "Field required"),
    ],
)
def test_a_request_that_cannot_be_read_is_refused(tmp_path: Path, line: str, key: Any, says: str) -> None:
    with raw_server(tmp_path) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        hello(server)
        for unasked in ('{"jsonrpc":"2.0","method":"x","params":"\\ud800"}', '{"id":"\\ud800","method":"x"}'):
            server.stdin.write(f"{unasked}\n".encode())
        server.stdin.write(f'{line}\n{{"jsonrpc":"2.0","id":99,"method":"ping"}}\n'.encode())
        server.stdin.flush()
        answers = []
        while not answers or answers[-1]["id"] != 99:
            answers.append(json.loads(server.stdout.readline()))
        server.stdin.close()
        assert server.wait(20) == 0
    assert "result" in answers.pop()
    assert [answer["id"] for answer in answers] == [key]
    assert all(says in answer["error"]["message"] for answer in answers)


def test_without_its_extra_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['mcp'] = None; from iii_skill.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", program, "mcp"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "Error: The MCP server needs its extra: pip install 'iii-skill[mcp]'.\n"


def test_the_page_names_every_tool_and_field_and_its_configuration_is_understood() -> None:
    page = (ROOT / "references" / "mcp.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.MULTILINE))
    for name, offer in OFFERS.items():
        row = rows.get(name) or next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
        for field in offer.takes.__struct_fields__:
            assert field in row, (name, field)
    (block,) = [block for block in blocks(ROOT / "references" / "mcp.md") if block.directive == "mcp"]
    (server,) = json.loads(block.text)["mcpServers"].values()
    assert server["command"] == "iii-skill"
    help_text = subprocess.run(
        [sys.executable, "-m", "iii_skill", "mcp", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for word in server["args"]:
        assert not word.startswith("-") or word in help_text


def test_the_plugin_starts_it_by_the_launcher_with_its_extra(tmp_path: Path) -> None:
    (server,) = json.loads((ROOT / ".mcp.json").read_text())["mcpServers"].values()
    arguments = [word.replace("${CLAUDE_PLUGIN_ROOT}", str(ROOT)) for word in server["args"]]
    how = [server["command"], arguments[0], "--how", *arguments[1:]]
    done = subprocess.run(how, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert "[redis,postgres,mcp]" in done.stdout
