"""`iii-skill serve --control`: engines for tests, and the port through which any language uses them."""

from __future__ import annotations

import json
import os
import secrets
from typing import Any

import click
from click.core import ParameterSource

from iii_skill.cli import collector
from iii_skill.cli.loop import told_to_stop
from iii_skill.config import Config
from iii_skill.plugins import load_plugins

PROTOCOL = 1
"""Rises when a client of before could no longer do what it did."""

_UNFIT = (
    "metrics_port",
    "console",
    "console_port",
    "address",
    "allowed_hosts",
    "token",
    "token_file",
    "dangerously_no_auth",
)
"""Options of hosts that others than tests use."""


def refuse_for_control(context: click.Context) -> None:
    """A host for tests listens on loopback alone, and nobody watches it."""
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name in _UNFIT and source is not ParameterSource.DEFAULT:
            variable = f" ({parameter.envvar})" if source is ParameterSource.ENVIRONMENT else ""
            raise click.UsageError(
                "--control runs engines for tests, on loopback alone: "
                f"leave out {parameter.opts[0]}{variable}."
            )


async def serve_controlled(
    config: Config, *, port: int | None, http_port: int | None, ready_json: bool, until_eof: bool
) -> int:
    """Serve until SIGTERM, SIGINT or the end of stdin; the exit code."""
    # Late: other hosts need none of it.
    from iii_skill.testing.control.app import ControlApp
    from iii_skill.testing.control.engines import Engines

    engines = Engines(config, load_plugins())
    token = secrets.token_urlsafe(24)
    app = ControlApp(engines, token)
    try:
        ports = {
            "port": config.worker.port if port is None else port,
            "http_port": (0 if config.http is None else config.http.port) if http_port is None else http_port,
        }
        first = engines.told(await engines.open(config, **ports))
        await app.port.start(0)
        stopped = told_to_stop(until_eof=until_eof)
        _announce(first, app.port.url, token, ready_json=ready_json)
        collector.settle()
        await stopped
    finally:
        app.stop()
        await engines.close()
    return 0


def _announce(first: dict[str, Any], url: str, token: str, *, ready_json: bool) -> None:
    if ready_json:
        ready = {
            "ready": True,
            "ws": first["url"],
            "http": first["http_url"],
            "pid": os.getpid(),
            "control": {"url": url, "token": token, "engine": first["engine"], "protocol": PROTOCOL},
        }
        print(json.dumps(ready, separators=(",", ":")), flush=True)
        return
    http = "" if first["http_url"] is None else f", HTTP on {first['http_url']}"
    print(
        f"iii-skill is ready for tests: workers on {first['url']}{http}, engine {first['engine']} of the "
        f"control port {url} (token {token}). Ctrl-C stops it.",
        flush=True,
    )
