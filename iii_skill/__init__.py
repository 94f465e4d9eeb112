"""iii-skill: a pluggable state host, scaffolder and agent skill for iii workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iii_skill.adapter import NoConfig, StateAdapter
    from iii_skill.errors import AdapterError, IiiSkillError, InvocationError
    from iii_skill.hookspecs import hookimpl
    from iii_skill.host import Host, open_host
    from iii_skill.values import KEEP, Change, Durability

__version__ = "0.1.0"

_HOMES = {
    "AdapterError": "iii_skill.errors",
    "Change": "iii_skill.values",
    "Durability": "iii_skill.values",
    "Host": "iii_skill.host",
    "IiiSkillError": "iii_skill.errors",
    "InvocationError": "iii_skill.errors",
    "KEEP": "iii_skill.values",
    "NoConfig": "iii_skill.adapter",
    "StateAdapter": "iii_skill.adapter",
    "hookimpl": "iii_skill.hookspecs",
    "open_host": "iii_skill.host",
}


def __getattr__(name: str) -> Any:
    """Import public names when they are first asked for: `iii-skill --help` stays quick."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'iii_skill' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(home), name)


__all__ = [
    "KEEP",
    "AdapterError",
    "Change",
    "Durability",
    "Host",
    "IiiSkillError",
    "InvocationError",
    "NoConfig",
    "StateAdapter",
    "hookimpl",
    "open_host",
]
