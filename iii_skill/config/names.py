"""The names of sections in both generations of the file, and which of them this host runs."""

from __future__ import annotations

from typing import Final

WORKER: Final = "iii-worker-manager"
HTTP: Final = "iii-http"
STATE: Final = "iii-state"

BUILT_IN: Final = frozenset({"iii-engine-functions", "configuration"})
"""Part of every host, without settings of their own here."""

_ALIASES: Final = {"http": HTTP, "state": STATE}
"""The newer external workers of the same configuration; the host stands in for them too."""

OLD_CLASSES: Final = {
    "modules::worker::WorkerModule": WORKER,
    "modules::api::RestApiModule": HTTP,
    "modules::state::StateModule": STATE,
    "modules::stream::StreamModule": "iii-stream",
    "modules::cron::CronModule": "iii-cron",
    "modules::pubsub::PubSubModule": "iii-pubsub",
    "modules::queue::QueueModule": "iii-queue",
    "modules::observability::OtelModule": "iii-observability",
    "modules::telemetry::TelemetryModule": "iii-telemetry",
    "modules::shell::ExecModule": "iii-exec",
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
