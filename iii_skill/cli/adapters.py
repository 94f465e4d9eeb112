"""`iii-skill adapters`: what is installed, what it promises, and what failed to load."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
import types
from typing import Annotated, Any, get_args, get_origin

import click
import msgspec

from iii_skill.cli.output import print_json
from iii_skill.plugins import AdapterEntry, Plugins, load_plugins


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def adapters(*, as_json: bool) -> None:
    """List the installed state adapters and the plugins that failed to load."""
    plugins = load_plugins()
    plugins.load_adapters()
    if as_json:
        print_json(report(plugins))
        return
    for name in sorted(plugins.adapters):
        click.echo("\n".join(_lines(adapter_report(plugins.adapters[name]))))
    for broken in plugins.broken:
        click.echo(f"failed: {broken.source}\n  {broken.reason}")


def report(plugins: Plugins) -> dict[str, Any]:
    """Everything that the command prints, as JSON data."""
    return {
        "adapters": [adapter_report(plugins.adapters[name]) for name in sorted(plugins.adapters)],
        "failed": [
            {
                "plugin": broken.source.entry_point,
                "package": broken.source.package,
                "version": broken.source.version,
                "reason": broken.reason,
            }
            for broken in plugins.broken
        ],
    }


def adapter_report(entry: AdapterEntry) -> dict[str, Any]:
    """One adapter: name, package, version, capabilities and settings."""
    adapter = entry.adapter
    return {
        "name": adapter.name,
        "package": entry.source.package,
        "version": entry.source.version,
        "plugin": entry.source.entry_point,
        "durability": adapter.durability.value,
        "shared": adapter.shared,
        "settings": settings_of(adapter.config_type),
    }


def settings_of(config_type: type[msgspec.Struct]) -> list[dict[str, Any]]:
    """Name, type, default and description of each setting, and the `settings` that it may have itself."""
    texts = _texts_below(config_type)
    return [_setting(field, texts.get(field.name)) for field in msgspec.structs.fields(config_type)]


def _setting(field: msgspec.structs.FieldInfo, text: str | None) -> dict[str, Any]:
    setting: dict[str, Any] = {"name": field.encode_name, "type": _type_name(field.type)}
    said = next((meta.description for meta in _metas(field.type) if meta.description), None) or text
    if said:
        setting["description"] = " ".join(said.split())
    inner = _struct_in(field.type)
    if inner is not None:
        setting["settings"] = settings_of(inner)
    if field.required:
        return {**setting, "required": True}
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    return {**setting, "required": False, "default": msgspec.to_builtins(default)}


def _type_name(kind: Any) -> str:
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if isinstance(plain, types.UnionType):
        return " | ".join(map(_type_name, get_args(plain)))
    if plain is types.NoneType:
        return "None"
    return plain.__name__ if isinstance(plain, type) else str(plain).replace("typing.", "")


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """The struct that a setting is or may be."""
    if isinstance(kind, type):
        return kind if issubclass(kind, msgspec.Struct) else None
    parts = get_args(kind)[:1] if get_origin(kind) is Annotated else get_args(kind)
    return next((found for part in parts if (found := _struct_in(part)) is not None), None)


def _metas(kind: Any) -> list[msgspec.Meta]:
    if get_origin(kind) is not Annotated:
        return []
    return [extra for extra in get_args(kind)[1:] if isinstance(extra, msgspec.Meta)]


def _texts_below(config_type: type[msgspec.Struct]) -> dict[str, str]:
    """The strings that stand below the fields in the source; none where there is no source."""
    texts: dict[str, str] = {}
    for kind in reversed(config_type.__mro__):
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)) or kind is msgspec.Struct:
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
        except (OSError, TypeError, SyntaxError):
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for field, below in itertools.pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                texts[field.target.id] = below.value.value
    return texts


def _lines(adapter: dict[str, Any]) -> list[str]:
    shared = ", shared with other hosts" if adapter["shared"] else ""
    head = f"{adapter['name']}: durability {adapter['durability']}{shared}"
    lines = [f"{head} ({adapter['package']} {adapter['version']}, plugin {adapter['plugin']})"]
    return lines + _setting_lines(adapter["settings"], "")


def _setting_lines(settings: list[dict[str, Any]], ahead: str) -> list[str]:
    lines: list[str] = []
    for setting in settings:
        default = "required" if setting["required"] else f"default {setting['default']!r}"
        name = ahead + setting["name"]
        lines.append(f"  {name}: {setting['type']}, {default}")
        if "description" in setting:
            said = textwrap.wrap(setting["description"], 100, initial_indent="    ", subsequent_indent="    ")
            lines.extend(said)
        lines.extend(_setting_lines(setting.get("settings", []), f"{name}."))
    return lines
