"""The names of sections in both generations of the file, and which of them this host runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from iii_skill import served
from iii_skill.config.reader import Text
from iii_skill.errors import ConfigurationError


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """What has a name or, in files of the old generation, a class."""

    name: Text | None = None
    old_class: Text | None = msgspec.field(name="class", default=None)


def chosen_name(entry: Named, where: str, *, of_class: Callable[[str], str]) -> str:
    """The name, or the one that the class stands for; exactly one of the two must be there."""
    if entry.name is not None and entry.old_class is not None:
        raise ConfigurationError(f"{where}: has both 'name' and 'class'; keep 'name'.")
    if entry.name is not None:
        return entry.name
    if entry.old_class is None:
        raise ConfigurationError(f"{where}: has no 'name' (or, in old files, 'class').")
    return of_class(entry.old_class)


WORKER: Final = "iii-worker-manager"
HTTP: Final = served.HTTP
STATE: Final = served.STATE
CONFIGURATION: Final = "configuration"
EXEC: Final = "iii-exec"

BUILT_IN: Final = frozenset({"iii-engine-functions", CONFIGURATION})
"""Part of every host, without settings of their own here."""

_ALIASES: Final = {"http": HTTP, "state": STATE}
"""The newer external workers of the same configuration; the host stands in for them too."""

OLD_CLASSES: Final = {
    "modules::worker::WorkerModule": WORKER,
    "modules::api::RestApiModule": HTTP,
    "modules::state::StateModule": STATE,
    "modules::stream::StreamModule": served.STREAM,
    "modules::cron::CronModule": served.CRON,
    "modules::pubsub::PubSubModule": served.PUBSUB,
    "modules::queue::QueueModule": served.QUEUE,
    "modules::observability::OtelModule": "iii-observability",
    "modules::telemetry::TelemetryModule": "iii-telemetry",
    "modules::shell::ExecModule": EXEC,
    "modules::bridge_client::BridgeClientModule": "iii-bridge",
    "modules::http_functions::HttpFunctionsModule": "iii-http-functions",
}

OLD_ADAPTERS: Final = {
    "modules::state::adapters::KvStore": "kv",
    "modules::state::adapters::RedisAdapter": "redis",
    "modules::state::adapters::Bridge": "bridge",
}


def served_name(name: str) -> str:
    """The section that this host runs for `name`, or the name itself."""
    return _ALIASES.get(name, name)


def both_names(name: str) -> tuple[str, str]:
    """The name, and the one of the worker that stands for it in the other family: `iii-x` and `x`."""
    return name, name.removeprefix("iii-") if name.startswith("iii-") else f"iii-{name}"
