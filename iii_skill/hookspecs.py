"""The pluggy hooks that a plugin may implement.

A plugin is a module (or object) named by an entry point of the group `iii_skill`. It marks its hooks with
`@iii_skill.hookimpl`. Hook names are prefixed, because hooks of all plugins share one namespace. Bundled
adapters come in through the same door. A hook returns classes, paths or functions; it does no work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

from iii_skill.entry_points import GROUP

if TYPE_CHECKING:
    import click

    from iii_skill.adapter import LazyAdapter, StateAdapter
    from iii_skill.companion import Companion

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


class PluginHost(Protocol):
    """What a plugin's functions may do with the host they are added to."""

    async def trigger(self, function_id: str, payload: Any = None) -> Any:
        """The result of a function."""

    def register_trigger(self, trigger_type: str, function_id: str, config: Any = None) -> str:
        """Call the function when `trigger_type` fires."""


@hookspec
def iii_state_adapters() -> Iterable[type[StateAdapter] | LazyAdapter]:  # type: ignore[empty-body]
    """The adapter classes of this plugin; a LazyAdapter for one that takes its time to import."""


@hookspec
def iii_companions() -> Iterable[type[Companion]]:  # type: ignore[empty-body]
    """The companion classes of this plugin: workers that live in the host."""


@hookspec
def iii_templates() -> Iterable[Path]:  # type: ignore[empty-body]
    """Directories that each hold one or more template directories (with a `template.toml`)."""


@hookspec
def iii_functions(host: PluginHost) -> Mapping[str, Callable[..., Any]]:  # type: ignore[empty-body]
    """Extra functions to register in process: function id to Python callable (payload -> result)."""


@hookspec
def iii_commands(cli: click.Group) -> None:
    """Add click commands to the group of `iii-skill`."""
