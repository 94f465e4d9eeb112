"""Engines: those that a control port has open, and what may be asked of all of them."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from iii_skill.config import Config, StateConfig, load_config
from iii_skill.errors import IiiSkillError
from iii_skill.plugins import Plugins
from iii_skill.testing.control.engine import ControlledEngine
from iii_skill.testing.control.refusals import VerbRefused, bad_request, no_such
from iii_skill.testing.control.verbs import VERBS, Asked, Nothing, read

MAX_ENGINES = 128
"""Open at a time."""


class EngineWanted(Asked):
    """What an engine runs; without anything the same as the first one."""

    adapter: str | None = None
    adapter_config: dict[str, Any] | None = None
    config: str | None = None
    """The path of an iii-config.yaml."""


class Engines:
    """Opened and closed by number. The first one has the ports that the command line names."""

    def __init__(self, config: Config, plugins: Plugins) -> None:
        self._config = config
        self._plugins = plugins
        self._numbers = itertools.count(1)
        self._open: dict[str, ControlledEngine] = {}
        self._opening = 0

    async def open(self, config: Config, *, port: int = 0, http_port: int = 0) -> str:
        """Open an engine; gives its id."""
        if len(self._open) + self._opening >= MAX_ENGINES:
            raise VerbRefused(503, "TOO_MANY_ENGINES", f"{MAX_ENGINES} engines are open: close some.")
        self._opening += 1
        try:
            engine = ControlledEngine(config, plugins=self._plugins, port=port, http_port=http_port)
            await engine.open()
        finally:
            self._opening -= 1
        number = str(next(self._numbers))
        self._open[number] = engine
        return number

    async def close(self) -> None:
        """Close all of them, and end the workers that nobody else will."""
        engines = list(self._open.values())
        self._open.clear()
        for engine in engines:
            engine.end_workers()
        await asyncio.gather(*(engine.close() for engine in engines))

    def engine(self, number: str) -> ControlledEngine:
        """One that is open."""
        engine = self._open.get(number)
        if engine is None:
            raise no_such("ENGINE", f"There is no engine {number[:40]} (any more).")
        return engine

    def told(self, number: str) -> dict[str, Any]:
        """Where an engine answers."""
        host = self.engine(number).host
        return {"engine": number, "url": host.ws_url, "http_url": host.http_url or None}

    def asked(self, path: str) -> tuple[type[msgspec.Struct], Callable[[Any], Awaitable[object]], bool]:
        """What the request of this path takes, what answers it, and whether that ends with its asker."""
        if path == "/engines":
            return EngineWanted, self._wanted, False
        first, _, rest = path.removeprefix("/engines/").partition("/")
        if not path.startswith("/engines/"):
            raise no_such("VERB", "Ask for /engines, or for /engines/ID/VERB.")
        engine = self.engine(first)
        if rest == "close":
            return Nothing, lambda _asked: self._closed(first), False
        verb = VERBS.get(rest)
        if verb is None:
            known = ", ".join(["close", *VERBS])
            raise no_such("VERB", f"There is no verb {rest[:80]!r}. There are: {known}.")

        async def run(asked: Any) -> object:
            return await engine.waited(verb.run(engine, asked))

        return verb.asked, run, verb.waits

    async def _wanted(self, asked: EngineWanted) -> object:
        try:
            return self.told(await self.open(self._chosen(asked)))
        except IiiSkillError as error:
            raise bad_request(error.message) from None

    def _chosen(self, asked: EngineWanted) -> Config:
        config = self._config
        if asked.config is not None:
            config = load_config(Path(asked.config), os.environ)
        if asked.adapter is None and asked.adapter_config is None:
            return config
        before = config.state or StateConfig()
        name = before.adapter_name if asked.adapter is None else asked.adapter
        state = msgspec.structs.replace(
            before,
            adapter_name=name,
            adapter_config=asked.adapter_config or {},
            where="adapter_config",
            name_where=None,
            from_text=False,
        )
        return msgspec.structs.replace(config, state=state)

    async def _closed(self, number: str) -> object:
        engine = self.engine(number)
        del self._open[number]
        await engine.close()
        return None


def read_request(asked: type[msgspec.Struct], body: bytes) -> Any:
    """The request; no body is an empty object."""
    return read(asked, body.strip() or b"{}")
