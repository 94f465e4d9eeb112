"""Read an `iii-config.yaml` of either generation: find the sections, refuse what is wrong, note the rest."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iii_skill.config import names
from iii_skill.config.fields import Fields, described
from iii_skill.config.sections import MAX_PORT, read_http, read_worker
from iii_skill.config.settings import Config, WorkerListener
from iii_skill.config.state_section import read_state
from iii_skill.errors import ConfigurationError

_GRACE_VARIABLE = "III_NAMESPACE_GRACE_MS"


def load_config(path: Path | None, env: Mapping[str, str]) -> Config:
    """The settings of the file, or the defaults (file adapter, loopback) without one.

    A file runs what it lists, as in the engine: without `iii-http` there is no HTTP port, without `iii-state`
    no `state::*`. Raises ConfigurationError, which names file and key.
    """
    if path is None:
        return Config(worker=WorkerListener(grace_ms=_grace(None, env)))
    file = path.name
    top = Fields(_document(path, env), file, joint=": ")
    top.only("registration_namespace_grace_ms", "workers", "modules", "port")
    notes: list[str] = []
    sections, unserved = _sections(top, notes=notes)
    grace_ms = _grace(top, env)
    worker = read_worker(sections.get(names.WORKER, Fields({}, file)), grace_ms=grace_ms)
    old_port = top.optional_whole("port", high=MAX_PORT)
    if old_port is not None:
        worker = _with_old_port(worker, old_port, sections=sections)
    http = sections.get(names.HTTP)
    state = sections.get(names.STATE)
    if state is None:
        notes.append(f"{file}: '{names.STATE}' is not listed, so `state::*` is not served.")
    return Config(
        worker=worker,
        http=None if http is None else read_http(http, notes=notes),
        state=None if state is None else read_state(state, base=path.absolute().parent, notes=notes),
        path=path.absolute(),
        unserved=tuple(unserved),
        notes=tuple(notes),
    )


def _document(path: Path, env: Mapping[str, str]) -> Any:
    from iii_skill.config.text import expand, parse  # YAML is not loaded where no file is read

    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise ConfigurationError(f"There is no configuration file '{path}'.") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not text in UTF-8.") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {os.strerror(error.errno or 0)}.") from None
    return parse(expand(text, env, file=path.name), file=path.name)


def _sections(top: Fields, *, notes: list[str]) -> tuple[dict[str, Fields], dict[str, None]]:
    """The configuration of each served section, and the names of the others."""
    served: dict[str, Fields] = {}
    unserved: dict[str, None] = {}
    for group in ("workers", "modules"):
        for index, entry in enumerate(top.items(group)):
            where = f"{top.where}: {group}[{index}]"
            if not isinstance(entry, dict):
                raise ConfigurationError(f"{where}: expected a mapping with 'name', not {described(entry)}.")
            fields = Fields(entry, where)
            given, name = _name(fields)
            if name not in (names.WORKER, names.HTTP, names.STATE):
                if name in names.BUILT_IN:
                    if entry.get("config") is not None:
                        notes.append(f"{where} ({given}): runs in every host; its config has no effect here.")
                else:
                    unserved[given] = None
                continue
            label = f"{where} ({given})"
            Fields(entry, label).only("name", "class", "config", "image")
            if name in served:
                raise ConfigurationError(f"{label}: '{name}' is listed twice; this host runs it once.")
            served[name] = Fields(entry.get("config"), f"{label} config")
    return served, unserved


def _name(fields: Fields) -> tuple[str, str]:
    """The name as written, and the section of this host that it stands for."""
    name, old = fields.optional_text("name"), fields.optional_text("class")
    if name is not None and old is not None:
        raise ConfigurationError(f"{fields.where}: has both 'name' and 'class'; keep 'name'.")
    if name is not None:
        return name, names.served_name(name)
    if old is None:
        raise ConfigurationError(f"{fields.where}: has no 'name' (or, in old files, 'class').")
    return old, names.OLD_CLASSES.get(old, old)


def _with_old_port(worker: WorkerListener, port: int, *, sections: Mapping[str, Fields]) -> WorkerListener:
    manager = sections.get(names.WORKER)
    if manager is not None and manager.data.get("port") is not None and worker.port != port:
        raise ConfigurationError(
            f"{manager.where}.port says {worker.port}, the top-level 'port' says {port}; keep the first."
        )
    return WorkerListener(
        host=worker.host,
        port=port,
        handshake_timeout_ms=worker.handshake_timeout_ms,
        grace_ms=worker.grace_ms,
    )


def _grace(top: Fields | None, env: Mapping[str, str]) -> int:
    given = env.get(_GRACE_VARIABLE)
    if given is not None:
        if not (given.isascii() and given.isdigit()):
            raise ConfigurationError(f"{_GRACE_VARIABLE}: expected milliseconds, not '{given}'.")
        return int(given)
    return 5_000 if top is None else top.whole("registration_namespace_grace_ms", 5_000)
