"""Place: a set-up in a directory of its own, to be broken and looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.client import RawClient, raw_client
from support.host import free_port

from iii_skill.config import Config, StateConfig
from iii_skill.doctor.examine import chosen, examine
from iii_skill.doctor.outcome import Finding, Status
from iii_skill.doctor.setup import GivenOptions, Setup
from iii_skill.host import Host, open_host

FILE_BASED = """workers:
  - name: iii-state
    config:
      adapter: {name: kv, config: {store_method: file_based, file_path: ./data/state}}
"""
QUIET = (Status.OK, Status.SKIPPED)


@dataclass
class Report:
    """What a look found."""

    findings: list[Finding]
    done: list[str]

    @property
    def first(self) -> str | None:
        """The check that is shown first, when one is not content."""
        top = self.findings[0]
        return None if top.status in QUIET else top.id

    @property
    def loud(self) -> list[str]:
        """The checks that are not content."""
        return [finding.id for finding in self.findings if finding.status not in QUIET]

    def of(self, name: str) -> Finding:
        """The first finding of a check."""
        return next(finding for finding in self.findings if finding.id == name)


@dataclass
class Place:
    """A directory, an environment and options; ports of its own, so that nothing else is met."""

    cwd: Path
    stack: AsyncExitStack
    env: dict[str, str] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)
    more: list[str] = field(default_factory=list)
    """Options for `command`."""

    def __post_init__(self) -> None:
        self.home = self.cwd / "home"
        self.home.mkdir()
        self.cwd = self.cwd / "project"
        self.cwd.mkdir()
        # A busy machine is no fault of the set-up.
        self.asked |= {"port": free_port(), "http_port": free_port(), "seconds": 20}

    @property
    def store(self) -> Path:
        """Where the adapter `file` keeps its data by default."""
        return self.cwd / ".iii" / "state"

    def state(self, name: str, **settings: Any) -> None:
        """Choose an adapter."""
        self.asked["state"] = lambda _config: StateConfig(adapter_name=name, adapter_config=settings)

    def config(self, text: str, name: str = "iii-config.yaml") -> None:
        """Write the configuration."""
        (self.cwd / name).parent.mkdir(exist_ok=True)
        (self.cwd / name).write_text(text)

    async def host(self, **options: Any) -> Host:
        """A host on the ports of this place, that ends with the test."""
        given = {"adapter": "memory", **options}
        token = given.pop("token", None)
        host = await self.stack.enter_async_context(open_host(**given))
        await host.serve(port=self.asked["port"], http_port=self.asked["http_port"], token=token)
        return host

    async def host_without_state(self) -> Host:
        """A host that serves no `state::*`."""
        return await self.host(config=Config(state=None))

    async def worker(self, **said: Any) -> RawClient:
        """A worker of the host of this place."""
        url = f"ws://127.0.0.1:{self.asked['port']}"
        client = await self.stack.enter_async_context(raw_client(url, hello=False))
        await client.hello(**said)
        return client

    async def written(self) -> None:
        """A store of the adapter `file` with some rows, closed."""
        async with open_host(adapter="file", adapter_config={"data_dir": str(self.store)}) as host:
            for number in range(200):
                entry = {"scope": "s", "key": f"k{number}", "value": "x" * 200}
                await host.trigger("state::set", entry)

    async def look(self, *only: str, mend: bool = False) -> Report:
        """Look at it, in this process."""
        setup = Setup(
            GivenOptions(**self.asked), cwd=self.cwd, home=self.home, env={"PATH": os.defpath, **self.env}
        )
        return Report(*await examine(setup, chosen(only), mend=mend))

    def command(
        self, *options: str, prefix: tuple[str, ...] = (), **run: Any
    ) -> subprocess.CompletedProcess[str]:
        """`iii-skill doctor` in a process of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("III_")}
        ports = [
            "--timeout",
            "20",
            "--port",
            str(self.asked["port"]),
            "--http-port",
            str(self.asked["http_port"]),
        ]
        return subprocess.run(
            [*prefix, sys.executable, "-m", "iii_skill", "doctor", *ports, *self.more, *options],
            cwd=self.cwd,
            env={**kept, "HOME": str(self.home), **self.env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **run,
        )

    def report(self, *options: str, **run: Any) -> tuple[dict[str, Any], int]:
        """What `--json` prints, and the exit code."""
        done = self.command("--json", *options, **run)
        assert done.stdout, done.stderr
        return json.loads(done.stdout), done.returncode
