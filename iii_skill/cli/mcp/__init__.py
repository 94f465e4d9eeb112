"""`iii-skill mcp`: state for agents that have no shell, over the Model Context Protocol."""

from __future__ import annotations

import importlib.util

import click

from iii_skill.cli.adapter_options import with_adapter
from iii_skill.cli.reach import Reach, place_options
from iii_skill.config import StateConfig


@click.command()
@click.option("--allow-write", is_flag=True, help="Offer state_write too; without it nothing can be changed.")
@click.option(
    "--scope",
    "patterns",
    metavar="PATTERN",
    multiple=True,
    help="Only scopes of this name or pattern (shop::*); may be repeated.  [default: all]",
)
@place_options
def mcp(allow_write: bool, patterns: tuple[str, ...], reach: Reach) -> None:
    """Serve state to an agent over MCP: stdin and stdout are the protocol.

    Tools: state_scopes, state_list, state_get, state_watch, doctor, and with --allow-write state_write.
    """
    if importlib.util.find_spec("mcp") is None:
        raise click.ClickException("The MCP server needs its extra: pip install 'iii-skill[mcp]'.")
    from iii_skill.cli.doctor import variables_of
    from iii_skill.cli.mcp.allowed import Allowed
    from iii_skill.cli.mcp.server import serve
    from iii_skill.doctor.setup import GivenOptions

    root = click.get_current_context().find_root()
    asked = GivenOptions(
        url=reach.url,
        token=reach.token,
        state=(lambda state: with_adapter(state, **reach.store)) if reach.store else _as_it_is,
        variables=lambda: variables_of(root),
    )
    serve(reach, Allowed(patterns), asked, allow_write=allow_write)


def _as_it_is(state: StateConfig) -> StateConfig:
    return state
