"""Adapter options: how a command line chooses an adapter and gives it its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from iii_skill.cli.key_values import KEY_VALUE

if TYPE_CHECKING:
    from iii_skill.config import StateConfig

F = TypeVar("F", bound=Callable[..., Any])

MAX_DEPTH = 8
"""Parts of a name: a setting, a setting of that one, and so on."""


def adapter_options(function: F) -> F:
    """Add `--adapter`, `--adapter-config`, `--data-dir`, `--redis-url` and `--database-url`."""
    options = (
        click.option(
            "--adapter", metavar="NAME", help="State adapter (see `iii-skill adapters`).  [default: file]"
        ),
        click.option(
            "--adapter-config",
            "adapter_config",
            type=KEY_VALUE,
            metavar="KEY=VALUE",
            multiple=True,
            help="A setting of the adapter, as timeout=2 or history.keep=10; may be repeated.",
        ),
        click.option("--data-dir", metavar="DIR", help="Where the adapter `file` keeps its data."),
        click.option("--redis-url", metavar="URL", help="Which server the adapter `redis` uses."),
        click.option(
            "--database-url",
            metavar="URL",
            help="Which database the adapter `postgres` uses.  [default: the variable DATABASE_URL]",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def with_adapter(
    state: StateConfig,
    *,
    adapter: str | None,
    adapter_config: tuple[tuple[str, str], ...],
    data_dir: str | None,
    redis_url: str | None,
    database_url: str | None,
) -> StateConfig:
    """The state settings with the command line on top; another adapter drops the settings of the file."""
    given = settings_in(adapter_config, "--adapter-config")
    if data_dir is not None:
        given["data_dir"] = data_dir
    if redis_url is not None:
        given["redis_url"] = redis_url
    if database_url is not None:
        given["database_url"] = database_url
    if adapter is None and redis_url is not None:
        adapter = "redis"
    if adapter is None and database_url is not None:
        adapter = "postgres"
    if adapter is None and not given:
        return state
    import msgspec

    same = adapter is None or adapter == state.adapter_name
    return msgspec.structs.replace(
        state,
        adapter_name=state.adapter_name if adapter is None else adapter,
        adapter_config=_on_top(state.adapter_config if same else {}, given),
        where=f"adapter '{adapter or state.adapter_name}'",
        name_where=state.name_where if adapter is None else None,
        from_text=True,
    )


def settings_in(pairs: Sequence[tuple[str, str]], option: str) -> dict[str, Any]:
    """The settings of an adapter: a dot in a name leads to a setting of a setting, as `history.keep`.

    Of a name that is given twice the last value counts. `option` is named where the names are wrong.
    """
    settings: dict[str, Any] = {}
    for name, value in pairs:
        parts = name.split(".", MAX_DEPTH)
        if "" in parts or len(parts) > MAX_DEPTH:
            raise click.UsageError(f"{option}: '{name[:200]}' names no setting; write it as history.keep.")
        here = settings
        for number, part in enumerate(parts[:-1], start=1):
            inner = here.setdefault(part, {})
            if not isinstance(inner, dict):
                raise _both(option, ".".join(parts[:number]), name)
            here = inner
        if isinstance(here.get(parts[-1]), dict):
            below = next(iter(here[parts[-1]]))
            raise _both(option, name, f"{name}.{below}")
        here[parts[-1]] = value
    return settings


def _on_top(below: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with others on top: of a setting that has settings, those that are given are replaced."""
    merged = dict(below)
    for name, value in given.items():
        former = merged.get(name)
        if isinstance(value, Mapping) and isinstance(former, Mapping):
            value = _on_top(former, value)
        merged[name] = value
    return merged


def _both(option: str, whole: str, part: str) -> click.UsageError:
    return click.UsageError(f"{option}: '{whole}' and '{part}' do not go together: leave one of them out.")
