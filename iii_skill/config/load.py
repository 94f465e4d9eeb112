"""Read an `iii-config.yaml` of either generation: find the sections, refuse what is wrong, note the rest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from iii_skill.config import names
from iii_skill.config.names import Named, chosen_name
from iii_skill.config.reader import Count, Port, read, shown
from iii_skill.config.sections import read_http, read_state, read_worker
from iii_skill.config.settings import GRACE_MS, CompanionSection, Config, WorkerListener
from iii_skill.errors import ConfigurationError

_GRACE_VARIABLE = "III_NAMESPACE_GRACE_MS"
_LONGEST_COMMAND = 200


class _File(msgspec.Struct, frozen=True, kw_only=True):
    """The top of the file; `port` and `modules` are of the old generation."""

    registration_namespace_grace_ms: Count = GRACE_MS
    workers: list[Any] = []
    modules: list[Any] = []
    port: Port | None = None


class _Entry(Named, frozen=True, kw_only=True):
    """One worker of the file that this host runs; `image` is for workers that the engine would start."""

    config: Any = None
    image: Any = None


class _Section(msgspec.Struct, frozen=True):
    """Where a section stands, and what is set in it."""

    where: str
    config: Any


class _Sections:
    """The sections of the file that this host runs, and what is to be said about the others."""

    def __init__(self, path: Path, env: Mapping[str, str]) -> None:
        self.served: dict[str, _Section] = {}
        self.stored: dict[str, Path] = {}
        self.others: dict[str, str] = {}
        """Workers that a plugin may bring, and how the file calls each."""
        self.notes: list[str] = []
        self._path = path
        self._env = env
        self._given: dict[str, str] = {}
        self._store = path.absolute().parent / "config"

    def take(self, entry: Any, where: str) -> None:
        """Sort one entry in."""
        if not isinstance(entry, Mapping):
            raise ConfigurationError(f"{where}: expected a mapping with 'name', not {shown(entry)}.")
        header = read(Named, {key: entry[key] for key in ("name", "class") if key in entry}, where=where)
        worker = chosen_name(header, where, of_class=lambda old: names.OLD_CLASSES.get(old, old))
        given, name = header.name or header.old_class or worker, names.served_name(worker)
        label = f"{where} ({given})"
        if name in (names.WORKER, names.HTTP, names.STATE):
            self._serve(name, worker, label, read(_Entry, entry, where=label).config)
        elif name == names.CONFIGURATION:
            self._take_store(entry.get("config"), label)
        elif name in names.BUILT_IN:
            if entry.get("config") is not None:
                self.notes.append(f"{label}: runs in every host; its config has no effect here.")
        elif name == names.EXEC:
            self.notes.append(_about_exec(entry.get("config"), label))
        else:
            self.others.setdefault(name, given)
            # What nobody brings is not checked: it may be listed as often as the engine allows.
            self.served.setdefault(name, _Section(f"{label} config", entry.get("config")))
            self._given.setdefault(name, worker)

    def use_stored(self, text: str) -> None:
        """Put what the engine stored for a worker in the place of the worker's block in the file.

        Where the text says that an engine took a block away, what it stored must be there.
        """
        from iii_skill.config.stored import moved, stored_value

        taken_away = moved(text)
        for name, worker in self._given.items():
            found = stored_value(self._store, worker, env=self._env)
            if found is not None:
                self.served[name] = _Section(f"{self._shown(found.path)}: value", found.value)
                self.stored[name] = found.path
                if found.shadowed is not None:
                    self.notes.append(
                        f"{self._shown(found.shadowed)} is not read, {found.path.name} stands for it."
                    )
            elif worker in taken_away and self.served[name].config is None:
                wanted = self._shown(self._store / f"{worker}.yaml")
                moved_away = (
                    f"an engine has moved the settings of '{worker}' into {wanted}, which is not there"
                )
                remedy = "restore it, or take the engine's comment out to run with the defaults"
                if name in (names.HTTP, names.STATE):
                    raise ConfigurationError(f"{self._path.name}: {moved_away}: {remedy}.")
                self.notes.append(f"{self._path.name}: {moved_away}: {remedy}.")

    def _serve(self, name: str, worker: str, label: str, config: Any) -> None:
        if name in self.served and name == names.WORKER:
            self.notes.append(f"{label}: is a second worker port, and this host opens one: it is left out.")
            return
        if name in self.served:
            raise ConfigurationError(f"{label}: '{name}' is listed twice; this host runs it once.")
        self.served[name] = _Section(f"{label} config", config)
        if name != names.WORKER:
            self._given[name] = worker

    def _take_store(self, config: Any, label: str) -> None:
        """The worker `configuration` says where the engine keeps the settings of the others."""
        from iii_skill.config.stored import store_directory

        if config is None:
            return
        directory = store_directory(config)
        if directory is not None:
            self._store = self._path.absolute().parent / directory
            return
        self.notes.append(f"{label}: runs in every host; its config has no effect here.")

    def _shown(self, path: Path) -> str:
        base = self._path.absolute().parent
        return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def load_config(path: Path | None, env: Mapping[str, str]) -> Config:
    """The settings of the file, or the defaults (file adapter, loopback) without one.

    A file runs what it lists, as in the engine: without `iii-http` there is no HTTP port, without `iii-state`
    no `state::*`. What an engine stored for a worker under `config/` beside the file counts in place of the
    worker's block. Raises ConfigurationError, which names file and key.
    """
    if path is None:
        return Config(worker=WorkerListener(grace_ms=_grace(GRACE_MS, env)))
    from iii_skill.config.text import parse, read_text  # YAML is not loaded where no file is read

    file = path.name
    text = read_text(path, str(path))
    top = read(_File, parse(text, env, file=file), where=file, joint=": ")
    sections = _Sections(path, env)
    for group in ("workers", "modules"):
        for index, entry in enumerate(getattr(top, group)):
            sections.take(entry, f"{file}: {group}[{index}]")
    sections.use_stored(text)
    http, state = sections.served.get(names.HTTP), sections.served.get(names.STATE)
    notes, base = sections.notes, path.absolute().parent
    if state is None:
        notes.append(f"{file}: '{names.STATE}' is not listed, so `state::*` is not served.")
    return Config(
        worker=_worker(top, sections.served.get(names.WORKER), file, env=env),
        http=None if http is None else read_http(http.config, http.where, notes=notes),
        state=None if state is None else read_state(state.config, state.where, base=base, notes=notes),
        path=path.absolute(),
        stored=sections.stored,
        companions=tuple(
            CompanionSection(name=name, given=given, where=section.where, config=section.config)
            for name, given in sections.others.items()
            for section in (sections.served[name],)
        ),
        notes=tuple(notes),
    )


def _worker(top: _File, section: _Section | None, file: str, *, env: Mapping[str, str]) -> WorkerListener:
    grace_ms = _grace(top.registration_namespace_grace_ms, env)
    config = None if section is None else section.config
    where = file if section is None else section.where
    worker = read_worker(config, where, grace_ms=grace_ms)
    if top.port is None or top.port == worker.port:
        return worker
    if isinstance(config, Mapping) and config.get("port") is not None:
        raise ConfigurationError(
            f"{where}.port says {worker.port}, the top-level 'port' says {top.port}; keep the first."
        )
    return msgspec.structs.replace(worker, port=top.port)


def _about_exec(config: Any, label: str) -> str:
    """What the engine would start, so that it can be started by hand."""
    commands = config.get("exec") if isinstance(config, Mapping) else None
    listed = commands if isinstance(commands, list) else [commands] if commands else []
    command = " && ".join(str(one) for one in listed)
    if len(command) > _LONGEST_COMMAND:
        command = command[:_LONGEST_COMMAND] + "…"
    what = f"the engine would start `{command}`" if command else "the engine would start commands"
    return f"{label}: {what}; this host starts none, so start it yourself."


def _grace(of_file: int, env: Mapping[str, str]) -> int:
    given = env.get(_GRACE_VARIABLE)
    if given is None:
        return of_file
    if not (given.isascii() and given.isdigit() and len(given) < 16):
        raise ConfigurationError(f"{_GRACE_VARIABLE}: expected milliseconds, not '{given[:40]}'.")
    return int(given)
