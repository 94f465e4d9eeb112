"""Load plugins by entry point, report the broken ones, and find an adapter class by its name."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pluggy

from iii_skill import hookspecs
from iii_skill.adapter import ADAPTER_NAME, LazyAdapter, StateAdapter
from iii_skill.entry_points import GROUP, name_and_version, read_entry_points
from iii_skill.errors import PluginError
from iii_skill.hookspecs import PluginHost
from iii_skill.values import Durability

if TYPE_CHECKING:
    import click

    from iii_skill.companion import Companion
_NO_HOOKS = "hooks: it implements none; mark its functions with @iii_skill.hookimpl."


@dataclass(frozen=True)
class PluginSource:
    """Where a plugin comes from: entry point, distribution and its version."""

    entry_point: str
    package: str
    version: str

    def __str__(self) -> str:
        return f"{self.package} {self.version} ({self.entry_point})"


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin, or one thing of it, that was left out, and why."""

    source: PluginSource
    reason: str


@dataclass(frozen=True)
class AdapterEntry:
    """An adapter and the plugin that brought it."""

    given: type[StateAdapter] | LazyAdapter
    source: PluginSource

    @property
    def adapter(self) -> type[StateAdapter]:
        """Its class, imported when somebody first asks for it; PluginError when that fails."""
        given = self.given
        if not isinstance(given, LazyAdapter):
            return given
        try:
            with _stdout_to_stderr():
                adapter = given.load()
            reason = _adapter_fault(adapter)
            if reason is None and adapter.name != given.name:
                reason = f"its class is named '{adapter.name}'."
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # as in `_load`
            reason = _reason("import", error)
        if reason is not None:
            raise PluginError(f"The adapter '{given.name}' of plugin {self.source} failed: {reason}")
        return adapter


@dataclass(frozen=True)
class PluginFunction:
    """A function that a plugin adds to the host."""

    function_id: str
    function: Callable[..., Any]
    source: PluginSource


@dataclass
class Plugins:
    """The loaded plugins: hooks, adapters by name, and what was left out."""

    manager: pluggy.PluginManager
    adapters: dict[str, AdapterEntry] = field(default_factory=dict)
    broken: list[BrokenPlugin] = field(default_factory=list)
    sources: dict[str, PluginSource] = field(default_factory=dict)
    _clashes: dict[str, list[PluginSource]] = field(default_factory=dict)

    def adapter(self, name: str) -> type[StateAdapter]:
        """The class of the adapter `name`; PluginError names what there is, or both sides of a clash."""
        if name in self._clashes:
            raise PluginError(_clash("an adapter", name, self._clashes[name]))
        entry = self.adapters.get(name)
        if entry is not None:
            return entry.adapter
        known = ", ".join(sorted(self.adapters)) or "none"
        failed = "".join(f" Plugin '{b.source.entry_point}' failed: {b.reason}" for b in self.broken)
        raise PluginError(f"There is no state adapter '{name}'. Installed adapters: {known}.{failed}")

    def load_adapters(self) -> None:
        """Import all adapters, for whoever shows them; what cannot be used is reported."""
        for name, entry in list(self.adapters.items()):
            try:
                entry.adapter  # noqa: B018 - whether it can be had is all that is asked
            except PluginError as error:
                del self.adapters[name]
                self.broken.append(BrokenPlugin(entry.source, error.message))

    def template_directories(self) -> list[tuple[Path, PluginSource]]:
        """Template directories of all plugins, each with its plugin; a failing hook is reported."""
        found: list[tuple[Path, PluginSource]] = []
        for source, paths in self._answers("iii_templates", lambda hook: [Path(p) for p in hook() or ()]):
            found += [(path, source) for path in paths]
        return found

    def functions(self, host: PluginHost) -> list[PluginFunction]:
        """Functions that plugins add to `host`; a failing hook and an id of two plugins are reported."""
        found: dict[str, list[PluginFunction]] = {}
        for source, functions in self._answers("iii_functions", lambda hook: dict(hook(host) or {})):
            for function_id, function in functions.items():
                if not (isinstance(function_id, str) and callable(function)):
                    reason = f"iii_functions gave {function_id!r}: a function id must name a callable."
                    self.broken.append(BrokenPlugin(source, reason))
                    continue
                found.setdefault(function_id, []).append(PluginFunction(function_id, function, source))
        for function_id, entries in found.items():
            if len(entries) > 1:
                self._report("a function", function_id, [entry.source for entry in entries])
        return [entries[0] for entries in found.values() if len(entries) == 1]

    def companions(self) -> dict[str, type[Companion]]:
        """The companion classes of all plugins by name; what cannot be used is reported."""
        from iii_skill.companion import Companion  # only a host needs it

        def fault(companion: Any) -> str | None:
            return _class_fault(companion, "iii_companions", base=Companion, attributes=("name",))

        found = self._classes("iii_companions", fault)
        for name, entries in found.items():
            if len(entries) > 1:
                self._report("a companion", name, [source for _, source in entries])
        return {name: entries[0][0] for name, entries in found.items() if len(entries) == 1}

    def add_commands(self, cli: click.Group) -> None:
        """Let plugins add their commands to `cli`; a failing hook is reported."""
        for _source, _nothing in self._answers("iii_commands", lambda hook: hook(cli)):
            pass

    def _answers(
        self, hook: str, ask: Callable[[Callable[..., Any]], Any]
    ) -> Iterator[tuple[PluginSource, Any]]:
        """What each plugin's hook answers, oldest plugin first; what it raises goes to `broken`."""
        for impl in getattr(self.manager.hook, hook).get_hookimpls():
            source = self.sources[impl.plugin_name]
            try:
                with _stdout_to_stderr():
                    answer = ask(_caller(impl))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self.broken.append(BrokenPlugin(source, _reason(hook, error)))
                continue
            yield source, answer

    def _collect_adapters(self) -> None:
        for name, entries in self._classes("iii_state_adapters", _adapter_fault).items():
            if len(entries) == 1:
                self.adapters[name] = AdapterEntry(*entries[0])
                continue
            self._clashes[name] = [source for _, source in entries]
            self._report("an adapter", name, self._clashes[name])

    def _classes(
        self, hook: str, fault: Callable[[Any], str | None]
    ) -> dict[str, list[tuple[Any, PluginSource]]]:
        """The classes that a hook of all plugins gives, by their names; what has a fault is reported."""
        found: dict[str, list[tuple[Any, PluginSource]]] = {}
        for source, classes in self._answers(hook, lambda hook: list(hook() or ())):
            for given in classes:
                reason = fault(given)
                if reason is None:
                    found.setdefault(given.name, []).append((given, source))
                else:
                    self.broken.append(BrokenPlugin(source, reason))
        return found

    def _report(self, kind: str, name: str, sources: list[PluginSource]) -> None:
        self.broken += [BrokenPlugin(source, _clash(kind, name, sources)) for source in sources]


def load_plugins(entry_points: Iterable[metadata.EntryPoint] | None = None) -> Plugins:
    """Load every entry point of the group `iii_skill`; what is broken goes to `.broken`, it never raises.

    What plugins print while they are loaded goes to stderr: stdout belongs to the command's own answer.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager)
    if entry_points is None:
        points, unreadable = read_entry_points()
        for dist in unreadable:
            source = PluginSource("entry_points.txt", dist.package, dist.version)
            plugins.broken.append(BrokenPlugin(source, dist.reason))
    else:
        points = list(entry_points)
    for point in sorted(points, key=lambda p: (p.name, p.value)):
        _load(point, plugins)
    plugins._collect_adapters()
    return plugins


def _load(point: metadata.EntryPoint, plugins: Plugins) -> None:
    source = _source(point)
    taken = plugins.sources.get(point.name)
    if taken is not None:
        reason = f"The entry point '{point.name}' is already that of {taken}; one of them must be renamed."
        plugins.broken.append(BrokenPlugin(source, reason))
        return
    try:
        with _stdout_to_stderr():
            plugin = point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also what is no Exception: a plugin ends nobody's command
        plugins.broken.append(BrokenPlugin(source, _reason("import", error)))
        return
    try:
        plugins.manager.register(plugin, name=point.name)
        plugins.manager.check_pending()
    except Exception as error:
        if plugins.manager.has_plugin(point.name):
            plugins.manager.unregister(name=point.name)
        plugins.broken.append(BrokenPlugin(source, _reason("hooks", error)))
        return
    plugins.sources[point.name] = source
    if not plugins.manager.get_hookcallers(plugin):
        plugins.broken.append(BrokenPlugin(source, _NO_HOOKS))


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send what is printed to stderr: `print`, and what writes to the descriptor, such as a subprocess."""
    with contextlib.ExitStack() as undo:
        with contextlib.suppress(OSError):  # a descriptor that is closed stays so
            undo.callback(_restore_stdout, _copy_of_stdout())
            os.dup2(2, 1)
        undo.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def _copy_of_stdout() -> int | None:
    try:
        return os.dup(1)
    except OSError:
        return None


def _restore_stdout(copy: int | None) -> None:
    with contextlib.suppress(OSError):
        if copy is None:
            os.close(1)
        else:
            os.dup2(copy, 1)
            os.close(copy)


def _caller(impl: pluggy.HookImpl) -> Callable[..., Any]:
    """Call one implementation as pluggy does: it may take fewer arguments than the hook offers."""

    def call(*args: Any) -> Any:
        return impl.function(*args[: len(impl.argnames)])

    return call


def _source(point: metadata.EntryPoint) -> PluginSource:
    if point.dist is None:
        return PluginSource(point.name, "unknown", "unknown")
    return PluginSource(point.name, *name_and_version(point.dist))


def _reason(what: str, error: BaseException) -> str:
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return f"{what}: {type(error).__name__}: {text or 'no message'}"


def _clash(kind: str, name: str, sources: list[PluginSource]) -> str:
    packages = " and ".join(map(str, sources))
    return f"Several plugins bring {kind} named '{name}': {packages}; none is used, uninstall one of them."


def _adapter_fault(adapter: Any) -> str | None:
    """Why this object is no usable adapter class, or None; of a lazy one that is told when it is loaded."""
    if isinstance(adapter, LazyAdapter):
        fits = isinstance(adapter.name, str) and ADAPTER_NAME.match(adapter.name) and callable(adapter.load)
        return None if fits else "iii_state_adapters gave a LazyAdapter without a usable name and loader."
    fault = _class_fault(adapter, "iii_state_adapters", base=StateAdapter, attributes=("name", "durability"))
    if fault is None and not isinstance(adapter.durability, Durability):
        fault = (
            f"Adapter {adapter.__name__} declares durability {adapter.durability!r}, which is no Durability."
        )
    return fault


def _class_fault(given: Any, hook: str, *, base: type, attributes: Sequence[str]) -> str | None:
    """Why what a hook gave is no usable class of a kind, or None."""
    label = getattr(given, "__name__", repr(given))
    if not (inspect.isclass(given) and issubclass(given, base)):
        return f"{hook} gave {label}, which is not a subclass of iii_skill.{base.__name__}."
    kind = base.__name__.removeprefix("State")
    missing = sorted(getattr(given, "__abstractmethods__", ()))
    if missing:
        return f"{kind} {label} does not implement {', '.join(missing)}."
    absent = [name for name in attributes if not hasattr(given, name)]
    if absent:
        return f"{kind} {label} does not declare {' and '.join(absent)}."
    usable: Any = given
    if not (isinstance(usable.name, str) and ADAPTER_NAME.match(usable.name)):
        return f"{kind} {label} is named {usable.name!r}; use lower-case letters, digits and hyphens."
    if not (inspect.isclass(usable.config_type) and issubclass(usable.config_type, msgspec.Struct)):
        return f"{kind} {label} has a config_type that is no msgspec Struct."
    return None
