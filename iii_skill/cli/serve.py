"""`iii-skill serve`: the host over WebSocket and HTTP until a signal."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click
import msgspec

from iii_skill.cli import collector
from iii_skill.cli.adapter_options import adapter_options, with_adapter
from iii_skill.cli.controlled import refuse_for_control, serve_controlled
from iii_skill.cli.host_note import HostNote
from iii_skill.cli.log import log_format_option, log_to_stderr
from iii_skill.cli.loop import leave, raise_file_limit, run_loop, told_to_stop
from iii_skill.cli.secrets import token_of, token_options
from iii_skill.config import Config, StateConfig, load_config
from iii_skill.console import PORT
from iii_skill.errors import IiiSkillError
from iii_skill.host import Host
from iii_skill.server.ports import Servers
from iii_skill.server.telemetry import collector_of

logger = logging.getLogger("iii_skill")

GRACE_S = 2.0
"""Seconds that calls in flight get at the end."""


@click.command()
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="An iii-config.yaml.")
@adapter_options
@click.option("--port", type=click.IntRange(0, 65535), help="Worker port, 0 picks one.  [default: 49134]")
@click.option("--http-port", type=click.IntRange(0, 65535), help="HTTP port, 0 picks one.  [default: 3111]")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Serve /metrics, /healthz and /readyz on loopback; 0 picks a port.  [default: off]",
)
@click.option("--console", is_flag=True, help="Serve the console, a page in the browser, on loopback.")
@click.option(
    "--console-port",
    type=click.IntRange(0, 65535),
    help="The same on this port, 0 picks one.  [default: 3113]",
)
@click.option("--host", "address", metavar="ADDRESS", help="Where to listen.  [default: 127.0.0.1]")
@click.option(
    "--allowed-host",
    "allowed_hosts",
    metavar="NAME",
    multiple=True,
    help="A name by which clients may call this host; .NAME: and all below it; may be repeated.",
)
@token_options("serve", "What workers must present; needed beyond loopback.")
@click.option("--dangerously-no-auth", is_flag=True, help="Listen beyond loopback without a token.")
@click.option(
    "--expose-env",
    metavar="NAME",
    multiple=True,
    help="A variable (or APP_*) that ${...} in configuration entries of workers may read; may be repeated.",
)
@click.option(
    "--without",
    metavar="NAME",
    multiple=True,
    help="Leave out a worker that runs in the host, as cron or pubsub; may be repeated.",
)
@click.option(
    "--engine-functions-only",
    is_flag=True,
    help="Hide compare-and-set, list_keys and list_entries, as on an engine.",
)
@click.option("--no-state", is_flag=True, help="Serve no state::*; `iii-skill attach` may bring it.")
@click.option("--ready-json", is_flag=True, help="Print one line of JSON on stdout when ready.")
@click.option("--until-eof", is_flag=True, help="End when stdin ends, as it does with what started this.")
@click.option(
    "--control",
    is_flag=True,
    help="For tests alone: engines that record and misbehave on demand, and a port that says how.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What goes to stderr.",
)
@log_format_option
def serve(
    config_file: Path | None,
    adapter: str | None,
    adapter_config: tuple[tuple[str, str], ...],
    data_dir: str | None,
    redis_url: str | None,
    database_url: str | None,
    port: int | None,
    http_port: int | None,
    metrics_port: int | None,
    console: bool,
    console_port: int | None,
    address: str | None,
    allowed_hosts: tuple[str, ...],
    token: str | None,
    token_file: Path | None,
    dangerously_no_auth: bool,
    expose_env: tuple[str, ...],
    without: tuple[str, ...],
    engine_functions_only: bool,
    no_state: bool,
    ready_json: bool,
    until_eof: bool,
    control: bool,
    log_level: str,
    log_format: str,
) -> None:
    """Run the host: workers connect over WebSocket, clients over HTTP.

    The store is durable by default (adapter `file`, directory `.iii/state`). Ctrl-C and SIGTERM finish what
    is in flight and exit 0; a store that fails ends the host with 1.
    """
    of_state = {
        "--adapter": adapter,
        "--adapter-config": adapter_config,
        "--data-dir": data_dir,
        "--redis-url": redis_url,
        "--database-url": database_url,
    }
    if console and console_port is None:
        console_port = PORT
    asked = [option for option, value in of_state.items() if value]
    if no_state and asked:
        raise click.UsageError(
            f"--no-state serves no state, so {asked[0]} says nothing: leave one of them out."
        )
    presented = token_of(token, token_file)
    if control:
        refuse_for_control(click.get_current_context())
    log_to_stderr(log_level, log_format)
    raise_file_limit()
    try:
        with collector.paused():
            config = load_config(config_file, os.environ)
            state = None
            if not no_state:
                # Without a file, or with options that ask for state, it is served whatever the file lists.
                base = config.state
                if base is None and asked:
                    base = StateConfig()
                if base is not None:
                    state = with_adapter(
                        base,
                        adapter=adapter,
                        adapter_config=adapter_config,
                        data_dir=data_dir,
                        redis_url=redis_url,
                        database_url=database_url,
                    )
            config = msgspec.structs.replace(
                config,
                state=state,
                exposed_env=expose_env,
                without=without,
                engine_functions_only=engine_functions_only,
            )
            for note in config.notes:
                logger.warning("%s", note)
            serving: Coroutine[Any, Any, int]
            if control:
                serving = serve_controlled(
                    config, port=port, http_port=http_port, ready_json=ready_json, until_eof=until_eof
                )
            else:
                serving = _serve(
                    config,
                    port=port,
                    http_port=http_port,
                    metrics_port=metrics_port,
                    console_port=console_port,
                    address=address,
                    allowed_hosts=allowed_hosts,
                    token=presented,
                    no_auth=dangerously_no_auth,
                    ready_json=ready_json,
                    until_eof=until_eof,
                )
            code = run_loop(serving)
    except IiiSkillError as error:
        raise click.ClickException(error.message) from None
    sys.exit(code)


async def _serve(
    config: Config,
    *,
    ready_json: bool,
    until_eof: bool,
    metrics_port: int | None,
    console_port: int | None,
    **options: Any,
) -> int:
    host = Host(config, watched=metrics_port is not None)
    await host.open()
    if host.unserved:
        logger.warning("not served by this host, ignored: %s", ", ".join(host.unserved))
    try:
        servers = await host.serve(metrics_port=metrics_port, collector=collector_of(os.environ), **options)
        console = None if console_port is None else await host.serve_console(console_port)
    except BaseException:
        await host.close()
        raise

    note = HostNote(servers.ws_url, None if host.adapter is None else host.adapter.data_dir)

    def ready() -> None:
        note.write()
        _announce(host, servers, console, ready_json)
        collector.settle()

    try:
        code = await _run(host, ready, until_eof=until_eof)
    finally:
        note.remove()
    if host.left:
        leave(1)
    return code


async def _run(host: Host, ready: Callable[[], None], *, until_eof: bool) -> int:
    """Serve until SIGTERM, SIGINT or a failed store; the exit code. `ready` is called once."""
    stopped = told_to_stop(until_eof=until_eof)
    ready()
    await asyncio.wait((stopped, host.failed), return_when=asyncio.FIRST_COMPLETED)
    if host.failed.done():
        logger.error("the store failed, stopping: %s", host.failed.result().message)
        await host.close(grace_s=0.0)
        return 1
    await host.close(grace_s=GRACE_S)
    return 0


def _announce(host: Host, servers: Servers, console: str | None, ready_json: bool) -> None:
    adapter = host.adapter
    name = None if adapter is None else adapter.name
    data_dir = None if adapter is None or adapter.data_dir is None else str(adapter.data_dir)
    if ready_json:
        ready = {
            "ready": True,
            "ws": servers.ws_url,
            "http": servers.http_url,
            "adapter": name,
            "data_dir": data_dir,
            "pid": os.getpid(),
            "companions": host.companions.ready(),
            "config_files": {name: str(path) for name, path in _counting(host).items()},
        }
        if servers.metrics_url is not None:
            ready["metrics"] = servers.metrics_url
        if console is not None:
            ready["console"] = console
        print(json.dumps(ready, separators=(",", ":")), flush=True)
        return
    state = "no state" if name is None else f"state in {name}" + (f" ({data_dir})" if data_dir else "")
    http = "" if servers.http_url is None else f", HTTP on {servers.http_url}"
    if servers.metrics_url is not None:
        http += f", metrics on {servers.metrics_url}"
    beside = "".join(f", {name}" for name in host.companions.running)
    stored = "".join(f", {name} as stored in {path}" for name, path in _counting(host).items())
    print(
        f"iii-skill is ready: workers on {servers.ws_url}{http}, {state}{beside}{stored}. Ctrl-C stops it.",
        flush=True,
    )
    if console is not None:
        print(f"The console is at {console}", flush=True)


def _counting(host: Host) -> dict[str, Path]:
    """The files that an engine wrote and whose settings this host runs with."""
    return {name: path for name, path in host.config.stored.items() if name not in host.unserved}
