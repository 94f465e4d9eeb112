"""What the host is told: frozen settings, whatever file, option or default they came from.

A section of the file is read into these structs as they stand, so a default stands here and nowhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from iii_skill.config.reader import Count, Port, Positive, Signed, Text

LOOPBACK = "127.0.0.1"
GRACE_MS = 5_000


class WorkerPort(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The WebSocket port that workers connect to (section `iii-worker-manager`)."""

    port: Port = 49_134
    host: Text = LOOPBACK
    handshake_timeout_ms: Positive = 10_000
    allowed_hosts: tuple[Text, ...] = ()
    """Names beyond loopback by which clients may call any port of this host."""


class WorkerListener(WorkerPort, frozen=True, kw_only=True):
    """That port with what else is said about it: the old top-level `port`, the grace of the file."""

    grace_ms: int = GRACE_MS
    """How long registrations of a new connection wait for `engine::workers::register`."""


class Cors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What browsers of other origins may do; an absent list and `"*"` in a list mean any."""

    allowed_origins: tuple[str, ...] | None = None
    allowed_methods: tuple[str, ...] | None = None


class Middleware(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function that runs before every HTTP handler, lowest priority first."""

    function_id: Text
    phase: Literal["preHandler"] = "preHandler"
    priority: Signed = 0


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The HTTP port and its rules (section `iii-http`)."""

    port: Port = 3111
    host: Text = LOOPBACK
    default_timeout_ms: Positive = msgspec.field(name="default_timeout", default=30_000)
    concurrency_request_limit: Count | None = None
    """Has no effect, here as in the engine."""
    allowed_hosts: tuple[Text, ...] = ()
    """As in the section of the workers."""
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
    name_where: str | None = None
    """Where in a file the adapter's name stands; None: it was chosen elsewhere."""
    from_text: bool = False
    """True when `adapter_config` came from the command line, where every value is a string."""


class CompanionSection(msgspec.Struct, frozen=True, kw_only=True):
    """The section of a worker that a plugin may bring, with its settings, not yet checked."""

    name: str
    given: str | None = None
    """How the file calls it, where that differs."""
    config: Any = None
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
    without: tuple[str, ...] = ()
    """Companions that are switched off, by name or alias."""
    engine_functions_only: bool = False
    """True hides the functions of state that an engine does not have."""
    path: Path | None = None
    """The file it was read from."""
    stored: dict[str, Path] = {}
    """Section to the file of the engine's own store whose value counted in place of the section's block."""
    notes: tuple[str, ...] = ()
    """Sentences about settings of the file that have no effect here, each to be logged once."""
