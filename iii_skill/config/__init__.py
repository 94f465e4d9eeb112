"""Configuration: `load_config` reads an `iii-config.yaml` of either generation into frozen settings."""

from iii_skill.config.settings import (
    LOOPBACK,
    Config,
    Cors,
    HttpSettings,
    Middleware,
    StateConfig,
    WorkerListener,
)

__all__ = [
    "LOOPBACK",
    "Config",
    "Cors",
    "HttpSettings",
    "Middleware",
    "StateConfig",
    "WorkerListener",
]
