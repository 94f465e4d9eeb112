"""What the host is told: plain frozen settings, whatever file, option or default they came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

LOOPBACK = "127.0.0.1"


class WorkerListener(msgspec.Struct, frozen=True, kw_only=True):
    """The WebSocket port that workers connect to (section `iii-worker-manager`, old top-level `port`)."""

    host: str = LOOPBACK
    port: int = 49134
    handshake_timeout_ms: int = 10_000
    grace_ms: int = 5_000
    """How long registrations of a new connection wait for `engine::workers::register`."""


class Cors(msgspec.Struct, frozen=True, kw_only=True):
    """What browsers of other origins may do; an absent list and `"*"` in a list mean any."""

    allowed_origins: tuple[str, ...] | None = None
    allowed_methods: tuple[str, ...] | None = None


class Middleware(msgspec.Struct, frozen=True, kw_only=True):
    """A function that runs before every HTTP handler, lowest priority first."""

    function_id: str
    phase: str = "preHandler"
    priority: int = 0


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP port and its rules (section `iii-http`)."""

    host: str = LOOPBACK
    port: int = 3111
    default_timeout_ms: int = 30_000
    cors: Cors | None = None
    middleware: tuple[Middleware, ...] = ()


class StateConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The state worker (section `iii-state`): an adapter by name with its own settings, not yet checked."""

    adapter_name: str = "file"
    adapter_config: dict[str, Any] = {}
    triggers_enabled: bool = True
    max_value_bytes: int | None = None
    where: str = "defaults"
    """What to name in an error about `adapter_config`: file and key path."""
    from_text: bool = False
    """True when `adapter_config` came from the command line, where every value is a string."""


class CompanionSection(msgspec.Struct, frozen=True, kw_only=True):
    """The section of a worker that a plugin may bring, with its settings, not yet checked."""

    name: str
    config: dict[str, Any] = {}
    where: str = "defaults"
    """What to name in an error about `config`: file and key path."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `iii-skill serve` starts from. `http` or `state` None: that part does not run."""

    worker: WorkerListener = WorkerListener()
    http: HttpSettings | None = HttpSettings()
    state: StateConfig | None = StateConfig()
    exposed_env: tuple[str, ...] = ()
    """Patterns of the variables that placeholders in configuration entries of workers may read."""
    companions: tuple[CompanionSection, ...] | None = None
    """What runs beside state and HTTP; None: the companions that are on by default."""
    without: frozenset[str] = frozenset()
    """Companions that are switched off by name."""
    path: Path | None = None
    """The file it was read from."""
    unserved: tuple[str, ...] = ()
    """Sections of the file that this host does not run; they belong into one warning."""
    notes: tuple[str, ...] = ()
    """Sentences about settings of the file that have no effect here, each to be logged once."""
