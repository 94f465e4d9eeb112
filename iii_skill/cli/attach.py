"""`iii-skill attach`: serve `state::*` inside a running iii engine, out of any adapter."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from iii_skill.adapter import StateAdapter
from iii_skill.attach.state_worker import Attached
from iii_skill.cli import collector
from iii_skill.cli.adapter_options import adapter_options, with_adapter
from iii_skill.cli.log import log_format_option, log_to_stderr
from iii_skill.cli.loop import leave, run_loop
from iii_skill.cli.secrets import token_of, token_options
from iii_skill.config import StateConfig
from iii_skill.errors import IiiSkillError, StorageFailed
from iii_skill.opening import chosen_adapter, open_configured
from iii_skill.plugins import load_plugins
from iii_skill.state.closing import close_state

logger = logging.getLogger("iii_skill")

GRACE_S = 2.0
"""Seconds that calls in flight get at the end."""


def _websocket_url(_context: click.Context, _parameter: click.Parameter, url: str) -> str:
    try:
        parts = urlsplit(url)
        # What no name can be raises a ValueError, and no OSError, when it is looked up.
        host = (parts.hostname or "").encode("idna")
        fits = parts.scheme in ("ws", "wss") and bool(host) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise click.BadParameter(f"'{url}' is no WebSocket URL; write it as ws://HOST:PORT.")
    return url


@click.command()
@click.option(
    "--engine",
    "url",
    metavar="URL",
    envvar=["III_SKILL_ATTACH_ENGINE", "III_URL", "III_ENGINE_URL"],
    default="ws://127.0.0.1:49134",
    callback=_websocket_url,
    help="The engine's port for workers.  [default: III_URL, else ws://127.0.0.1:49134]",
)
@adapter_options
@token_options("attach", "What the engine wants to be presented.")
@click.option("--max-value-bytes", type=click.IntRange(1), help="The largest value that is stored.")
@click.option("--ready-json", is_flag=True, help="Print one line of JSON on stdout when serving.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What goes to stderr.",
)
@log_format_option
def attach(
    url: str,
    adapter: str | None,
    adapter_config: tuple[tuple[str, str], ...],
    data_dir: str | None,
    redis_url: str | None,
    database_url: str | None,
    token: str | None,
    token_file: Path | None,
    max_value_bytes: int | None,
    ready_json: bool,
    log_level: str,
    log_format: str,
) -> None:
    """Serve state::* inside a running iii engine, out of any adapter.

    The engine must not serve state itself: take the worker `iii-state` out of its config.yaml first. A lost
    engine is waited for; Ctrl-C and SIGTERM answer what was accepted and exit 0.
    """
    presented = token_of(token, token_file)
    log_to_stderr(log_level, log_format)
    try:
        state = with_adapter(
            StateConfig(max_value_bytes=max_value_bytes),
            adapter=adapter,
            adapter_config=adapter_config,
            data_dir=data_dir,
            redis_url=redis_url,
            database_url=database_url,
        )
        code = run_loop(_attach(url, state, token=presented, ready_json=ready_json))
    except IiiSkillError as error:
        raise click.ClickException(error.message) from None
    sys.exit(code)


async def _attach(url: str, state: StateConfig, *, token: str | None, ready_json: bool) -> int:
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[StorageFailed] = loop.create_future()
    adapter = await open_configured(
        chosen_adapter(load_plugins(), state),
        state,
        on_failure=lambda error: None if failed.done() else failed.set_result(error),
    )
    announced = False

    def ready() -> None:
        nonlocal announced
        if not announced:
            announced = True
            _announce(url, adapter, ready_json)
            collector.settle()

    try:
        attached = Attached(
            url,
            adapter,
            max_value_bytes=state.max_value_bytes,
            token=token,
            on_ready=ready,
        )
        stopped: asyncio.Future[None] = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: None if stopped.done() else stopped.set_result(None))
        running = asyncio.ensure_future(attached.run())
        await asyncio.wait((running, stopped, failed), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        # Before the link goes: what was accepted is stored and answered.
        left = await close_state(attached.worker, adapter, deadline=loop.time() + GRACE_S)
        if left:
            logger.error("ended without waiting any longer for %s", " and ".join(left))
            leave(1)
        await attached.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        if failed.done():
            logger.error("the store failed, stopping: %s", failed.result().message)
            return 1
        return 0
    finally:
        await close_state(None, adapter, deadline=loop.time() + GRACE_S)


def _announce(url: str, adapter: StateAdapter, ready_json: bool) -> None:
    data_dir = None if adapter.data_dir is None else str(adapter.data_dir)
    if ready_json:
        ready = {
            "ready": True,
            "engine": url,
            "adapter": adapter.name,
            "data_dir": data_dir,
            "pid": os.getpid(),
        }
        print(json.dumps(ready, separators=(",", ":")), flush=True)
        return
    where = f" ({data_dir})" if data_dir else ""
    print(f"iii-skill serves state::* on {url} out of {adapter.name}{where}. Ctrl-C stops it.", flush=True)
