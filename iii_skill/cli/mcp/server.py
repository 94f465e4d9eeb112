"""The server: tools offered over stdin and stdout by the `mcp` library."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from iii_skill import __version__
from iii_skill.cli.exit_codes import INTERRUPTED
from iii_skill.cli.loop import leave, run_loop
from iii_skill.cli.mcp import shapes
from iii_skill.cli.mcp.allowed import Allowed
from iii_skill.cli.mcp.backend import BackendCalls
from iii_skill.cli.mcp.errors import ToolError
from iii_skill.cli.mcp.tools import Tools
from iii_skill.cli.mcp.unreadable import ReadableMessages
from iii_skill.cli.reach import Reach
from iii_skill.doctor.setup import GivenOptions

INSTRUCTIONS = (
    "State of iii workers: JSON values under scope and key. Values are JSON texts, exact to the digit, "
    "cut at 4 kB: where there is a next_offset, state_get with that offset gives the rest, or use pointer. "
    "Concurrent changes: state_write update."
)


class ToolOffer(NamedTuple):
    """One tool."""

    description: str
    takes: type[msgspec.Struct]
    gives: type[msgspec.Struct]
    does: Callable[[Tools, Any], Awaitable[msgspec.Struct]]
    writes: bool = False


OFFERS = {
    "state_scopes": ToolOffer("List scopes.", shapes.ScopesInput, shapes.Scopes, Tools.scopes),
    "state_list": ToolOffer("List keys and values of a scope.", shapes.ListInput, shapes.Rows, Tools.list),
    "state_get": ToolOffer("Read a value.", shapes.GetInput, shapes.Value, Tools.get),
    "state_write": ToolOffer(
        "Set, update or delete one key.", shapes.WriteInput, shapes.Written, Tools.write, writes=True
    ),
    "state_watch": ToolOffer(
        "Wait for changes in a scope; later calls with the cursor miss none.",
        shapes.WatchInput,
        shapes.Changes,
        Tools.watch,
    ),
    "doctor": ToolOffer(
        "Say what is wrong with the host or its set-up, and how to mend it.",
        shapes.DoctorInput,
        shapes.Report,
        Tools.doctor,
    ),
}


def tool_list(*, allow_write: bool) -> list[types.Tool]:
    """What an agent is offered."""
    return [
        types.Tool(
            name=name,
            description=offer.description,
            input_schema=shapes.schema(offer.takes),
            output_schema=shapes.schema(offer.gives),
            annotations=types.ToolAnnotations(
                read_only_hint=not offer.writes,
                destructive_hint=offer.writes,
                idempotent_hint=not offer.writes,
                open_world_hint=False,
            ),
        )
        for name, offer in OFFERS.items()
        if allow_write or not offer.writes
    ]


def make_server(tools: Tools, *, allow_write: bool) -> Server[dict[str, Any]]:
    """The server around these tools."""

    async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tool_list(allow_write=allow_write))

    async def call_tool(_context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            found = await _call(tools, params.name, params.arguments or {}, allow_write=allow_write)
        except ToolError as error:
            return types.CallToolResult(content=[types.TextContent(text=str(error))], is_error=True)
        text = msgspec.json.encode(found).decode()
        return types.CallToolResult(
            content=[types.TextContent(text=text)], structured_content=json.loads(text)
        )

    return Server(
        "iii-skill",
        version=__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def _call(tools: Tools, name: str, arguments: dict[str, Any], *, allow_write: bool) -> msgspec.Struct:
    offer = OFFERS.get(name)
    if offer is None:
        raise ToolError(f"There is no tool {name[:80]!r}: there are {', '.join(OFFERS)}.")
    if offer.writes and not allow_write:
        raise ToolError("This server only reads: start it with --allow-write to let it change state.")
    try:
        wanted = msgspec.convert(arguments, offer.takes)
    except msgspec.ValidationError as error:
        raise ToolError(f"{error}. {name} takes {', '.join(offer.takes.__struct_fields__)}.") from None
    return await offer.does(tools, wanted)


def serve(reach: Reach, allowed: Allowed, asked: GivenOptions, *, allow_write: bool) -> None:
    """Serve until stdin ends or a signal comes; does not return."""
    leave(run_loop(_serve(reach, allowed, asked, allow_write=allow_write)))


async def _serve(reach: Reach, allowed: Allowed, asked: GivenOptions, *, allow_write: bool) -> int:
    calls = BackendCalls(reach)
    server = make_server(Tools(calls, allowed, asked), allow_write=allow_write)
    code = 0
    ended = asyncio.Event()

    def stop(number: signal.Signals) -> None:
        nonlocal code
        code = INTERRUPTED if number is signal.SIGINT else 0
        ended.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    serving = asyncio.create_task(_over_stdio(server))
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    # The thread that reads stdin cannot be woken, so the task is left to the end of the process.
    await calls.close()
    return code


async def _over_stdio(server: Server[dict[str, Any]]) -> None:
    async with stdio_server() as (reading, writing):
        await server.run(ReadableMessages(reading, writing), writing, server.create_initialization_options())
