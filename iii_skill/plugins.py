"""Load plugins by entry point, report the broken ones, and find an adapter class by its name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import pluggy

from iii_skill import hookspecs
from iii_skill.adapter import StateAdapter
from iii_skill.errors import PluginError
from iii_skill.hookspecs import GROUP


@dataclass(frozen=True)
class Source:
    """Where a plugin comes from: entry point, distribution and its version."""

    entry_point: str
    package: str
    version: str


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin, or one thing of it, that was left out, and why."""

    source: Source
    reason: str


@dataclass(frozen=True)
class AdapterEntry:
    """An adapter class and the plugin that brought it."""

    adapter: type[StateAdapter]
    source: Source


@dataclass
class Plugins:
    """The loaded plugins: hooks, adapters by name, and what was left out."""

    manager: pluggy.PluginManager
    adapters: dict[str, AdapterEntry] = field(default_factory=dict)
    broken: list[BrokenPlugin] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    _clashes: dict[str, list[Source]] = field(default_factory=dict)

    def adapter(self, name: str) -> type[StateAdapter]:
        """The class of the adapter `name`; PluginError names what there is, or both sides of a clash."""
        if name in self._clashes:
            raise PluginError(_clash(name, self._clashes[name]) + " Uninstall one of the packages.")
        entry = self.adapters.get(name)
        if entry is not None:
            return entry.adapter
        known = ", ".join(sorted(self.adapters)) or "none"
        failed = "".join(f" Plugin '{b.source.entry_point}' failed: {b.reason}" for b in self.broken)
        raise PluginError(f"There is no state adapter '{name}'. Installed adapters: {known}.{failed}")

    def paths(self) -> list[tuple[Path, Source]]:
        """Template directories of all plugins, each with its plugin; a failing hook is reported."""
        found: list[tuple[Path, Source]] = []
        for impl in self.manager.hook.iii_templates.get_hookimpls():
            source = self.sources[impl.plugin_name]
            try:
                found += [(Path(path), source) for path in impl.function() or ()]
            except Exception as error:
                self.broken.append(BrokenPlugin(source, _reason("iii_templates", error)))
        return found

    def _add(self, adapter: Any, source: Source) -> None:
        fault = _fault(adapter)
        if fault is not None:
            self.broken.append(BrokenPlugin(source, fault))
            return
        name = adapter.name
        if name in self._clashes:
            self._clashes[name].append(source)
        elif name in self.adapters:
            self._clashes[name] = [self.adapters.pop(name).source, source]
        else:
            self.adapters[name] = AdapterEntry(adapter, source)

    def _report_clashes(self) -> None:
        for name, sources in self._clashes.items():
            self.broken += [BrokenPlugin(source, _clash(name, sources)) for source in sources]


def load_plugins(entry_points: Iterable[metadata.EntryPoint] | None = None) -> Plugins:
    """Load every entry point of the group `iii_skill`; what is broken is reported in `.broken`, not raised."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager)
    points = metadata.entry_points(group=GROUP) if entry_points is None else entry_points
    for point in sorted(points, key=lambda p: (p.name, p.value)):
        source = _source(point)
        try:
            module = point.load()
            manager.register(module, name=point.name)
            manager.check_pending()
        except Exception as error:
            if manager.has_plugin(point.name):
                manager.unregister(name=point.name)
            plugins.broken.append(BrokenPlugin(source, _reason("import", error)))
            continue
        plugins.sources[point.name] = source
    for impl in manager.hook.iii_state_adapters.get_hookimpls():
        source = plugins.sources[impl.plugin_name]
        try:
            classes = list(impl.function() or ())
        except Exception as error:
            plugins.broken.append(BrokenPlugin(source, _reason("iii_state_adapters", error)))
            continue
        for adapter in classes:
            plugins._add(adapter, source)
    plugins._report_clashes()
    return plugins


def _source(point: metadata.EntryPoint) -> Source:
    dist = point.dist
    if dist is None:
        return Source(point.name, "unknown", "unknown")
    return Source(point.name, dist.metadata["Name"], dist.version)


def _reason(what: str, error: BaseException) -> str:
    first = str(error).strip().splitlines()[:1]
    return f"{what}: {type(error).__name__}: {first[0] if first else 'no message'}"


def _clash(name: str, sources: list[Source]) -> str:
    packages = " and ".join(f"{s.package} {s.version} ({s.entry_point})" for s in sources)
    return f"Several plugins bring an adapter named '{name}': {packages}; none of them is used."


def _fault(adapter: Any) -> str | None:
    """Why this object is no usable adapter class, or None."""
    label = getattr(adapter, "__name__", repr(adapter))
    if not (inspect.isclass(adapter) and issubclass(adapter, StateAdapter)):
        return f"iii_state_adapters gave {label}, which is not a subclass of iii_skill.StateAdapter."
    missing = sorted(getattr(adapter, "__abstractmethods__", ()))
    if missing:
        return f"Adapter {label} does not implement {', '.join(missing)}."
    absent = [field for field in ("name", "durability") if not hasattr(adapter, field)]
    if absent:
        return f"Adapter {label} does not declare {' and '.join(absent)}."
    return None
