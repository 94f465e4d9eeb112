"""Setup: what is looked at, read once and shared by the checks."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from iii_skill.config import Config, StateConfig, adapter_settings, load_config
from iii_skill.doctor.target import EngineAddress, HostFile, choose, host_file
from iii_skill.errors import IiiSkillError

if TYPE_CHECKING:
    from iii_skill.adapter import Health, StateAdapter
    from iii_skill.doctor.probe import Probe
    from iii_skill.plugins import Plugins


PATIENCE_S = 1.2


class GivenOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the user named: the options of `serve`, and an address."""

    config_file: Path | None = None
    url: str | None = None
    address: str | None = None
    port: int | None = None
    http_port: int | None = None
    token: str | None = None
    token_file: Path | None = None
    no_auth: bool = False
    no_state: bool = False
    seconds: float = PATIENCE_S
    """How long a server, host or process may take to answer; the checks wait side by side."""
    state: Callable[[StateConfig], StateConfig] = lambda config: config
    """Puts the options that choose an adapter on top."""
    variables: Callable[[], frozenset[str]] = frozenset
    """The variables of the environment that are options of a command."""


class Setup:
    """One set-up. What cannot be read raises IiiSkillError, which one check reports."""

    def __init__(self, asked: GivenOptions, *, cwd: Path, home: Path, env: Mapping[str, str]) -> None:
        self.asked = asked
        self.cwd = cwd
        self.home = home
        self.env = env
        self.probe: Probe | None = None
        """What answers at the target; None: it was not looked."""
        self.health: Health | None = None
        """What the store's server said of itself, once it was asked."""

    @cached_property
    def config_file(self) -> Path | None:
        """The file that was named, else the one that lies here under its usual name."""
        if self.asked.config_file is not None:
            return self.asked.config_file
        usual = self.cwd / "iii-config.yaml"
        return usual if usual.is_file() else None

    @cached_property
    def config(self) -> Config:
        """The settings, options on top."""
        config = load_config(self.config_file, self.env)
        asked, worker, http = self.asked, config.worker, config.http
        worker = msgspec.structs.replace(
            worker,
            host=asked.address or worker.host,
            port=worker.port if asked.port is None else asked.port,
        )
        if http is not None:
            http = msgspec.structs.replace(
                http,
                host=asked.address or http.host,
                port=http.port if asked.http_port is None else asked.http_port,
            )
        state = None
        if not asked.no_state:
            base = config.state
            if base is None and asked.state(StateConfig()) != StateConfig():
                base = StateConfig()
            state = None if base is None else asked.state(base)
        return msgspec.structs.replace(config, worker=worker, http=http, state=state)

    @cached_property
    def plugins(self) -> Plugins:
        from iii_skill.plugins import load_plugins

        return load_plugins()

    @cached_property
    def adapter_type(self) -> type[StateAdapter] | None:
        """The class of the chosen adapter; None where no state is served."""
        state = self.config.state
        return None if state is None else self.plugins.adapter(state.adapter_name)

    @cached_property
    def adapter_settings(self) -> msgspec.Struct | None:
        """Its settings, checked."""
        kind, state = self.adapter_type, self.config.state
        if kind is None or state is None:
            return None
        return adapter_settings(
            kind.config_type, state.adapter_config, where=state.where, from_text=state.from_text
        )

    @cached_property
    def data_dir(self) -> Path | None:
        """The directory of the adapter `file`; None where another one is chosen, or it cannot be told."""
        try:
            if self.adapter_type is None or self.adapter_type.name != "file":
                return None
            name = getattr(self.adapter_settings, "data_dir", None)
        except IiiSkillError:
            return None
        return None if name is None else self.cwd / Path(name).expanduser()

    @cached_property
    def running(self) -> HostFile | None:
        """What a running host wrote of itself."""
        return host_file(self.cwd)

    @cached_property
    def target(self) -> EngineAddress:
        """Where the host or engine is looked for."""
        try:
            worker = self.config.worker
        except IiiSkillError:
            worker = Config().worker
        return choose(self.asked.url, self.env, self.running, address=worker.host, port=worker.port)

    @cached_property
    def target_is_local(self) -> bool:
        """True when the target is the worker port that the configuration opens on this machine."""
        try:
            places = {place[4][0] for place in socket.getaddrinfo(self.target.host, None)}
        except (OSError, UnicodeError):
            return False
        return bool(places & {"127.0.0.1", "::1"}) and self.target.port == self.config.worker.port

    @property
    def presented(self) -> str | None:
        """The token with which a worker would come."""
        for given in (self.asked.token, self._token_of_file, self.env.get("III_TOKEN")):
            if given:
                return given
        return self.env.get("III_SKILL_TOKEN") or None

    @property
    def token_file(self) -> Path | None:
        """The file that holds the token, if one was named."""
        named = self.env.get("III_SKILL_TOKEN_FILE") or self.env.get("III_TOKEN_FILE")
        return self.asked.token_file or (self.cwd / named if named else None)

    @property
    def _token_of_file(self) -> str | None:
        try:
            text = "" if self.token_file is None else self.token_file.read_text("utf-8")
        except (OSError, ValueError):
            return None  # one of the checks says so
        return text.removesuffix("\n").removesuffix("\r")

    def forget(self) -> None:
        """Something was mended: read again what may have changed."""
        for name in ("config_file", "config", "running", "target", "target_is_local"):
            self.__dict__.pop(name, None)
        if self.probe is not None:
            self.probe.leave()
            self.probe = None

    @property
    def answers(self) -> bool:
        """True when an engine answers, though it may not let us in."""
        return self.probe is not None and self.probe.is_engine

    @property
    def reached(self) -> Probe | None:
        """The engine that answers and let us in, if one does."""
        return self.probe if self.probe is not None and self.probe.reached else None
