"""`iii-skill console`: the console of a host or an engine that runs already."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path

import click

from iii_skill import __version__
from iii_skill.cli.exit_codes import UNREACHABLE
from iii_skill.cli.log import log_format_option, log_to_stderr
from iii_skill.cli.loop import run_loop
from iii_skill.cli.reach import usual_url
from iii_skill.cli.secrets import token_of, token_options
from iii_skill.console import PORT
from iii_skill.console.caller import EngineCaller
from iii_skill.console.port import ConsoleServer
from iii_skill.engine_link import UNREACHED
from iii_skill.errors import IiiSkillError
from iii_skill.protocol.unreached import Refused, no_answer


class _Unreachable(click.ClickException):
    exit_code = UNREACHABLE


@click.command()
@click.option("--url", metavar="URL", help="A host or engine.  [default: III_URL, or what runs here]")
@token_options("console", "What the host or engine wants to be presented.")
@click.option(
    "--console-port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="Where the page is, on loopback; 0 picks a port.",
)
@click.option("--ready-json", is_flag=True, help="Print one line of JSON on stdout when ready.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What goes to stderr.",
)
@log_format_option
def console(
    url: str | None,
    token: str | None,
    token_file: Path | None,
    console_port: int,
    ready_json: bool,
    log_level: str,
    log_format: str,
) -> None:
    """Open the console of a host or an engine: a page in the browser, on loopback.

    It connects as a worker does, waits for a host that is restarted, and says what an engine cannot show.
    """
    presented = token_of(token, token_file)
    log_to_stderr(log_level, log_format)
    caller = EngineCaller(url or usual_url(), name="iii-skill-console", version=__version__, token=presented)
    try:
        run_loop(_console(caller, console_port, ready_json=ready_json))
    except UNREACHED as error:
        fix = "Start `iii-skill serve`, or name another place with --url."
        raise _Unreachable(f"{no_answer(caller.url, error)} {fix}") from None
    except Refused as error:
        raise _Unreachable(error.message) from None
    except IiiSkillError as error:
        raise click.ClickException(error.message) from None


async def _console(caller: EngineCaller, port: int, *, ready_json: bool) -> None:
    await caller.connect()
    server = ConsoleServer(caller)
    await server.start(port)
    keeping = asyncio.ensure_future(caller.keep())
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[None] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: None if stopped.done() else stopped.set_result(None))
    if ready_json:
        ready = {"ready": True, "url": caller.url, "console": server.url, "pid": os.getpid()}
        print(json.dumps(ready, separators=(",", ":")), flush=True)
    else:
        print(f"The console of {caller.url} is at {server.url} Ctrl-C ends it.", flush=True)
    await asyncio.wait((stopped, keeping), return_when=asyncio.FIRST_COMPLETED)
    server.stop()
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping
    caller.leave()
