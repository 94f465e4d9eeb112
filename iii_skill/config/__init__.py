"""Configuration: `load_config` reads an `iii-config.yaml` of either generation into frozen settings."""

from iii_skill.config.load import load_config
from iii_skill.config.reader import adapter_settings
from iii_skill.config.settings import (
    LOOPBACK,
    CompanionSection,
    Config,
    Cors,
    HttpSettings,
    Middleware,
    StateConfig,
    WorkerListener,
)

__all__ = [
    "LOOPBACK",
    "CompanionSection",
    "Config",
    "Cors",
    "HttpSettings",
    "Middleware",
    "StateConfig",
    "WorkerListener",
    "adapter_settings",
    "load_config",
]
