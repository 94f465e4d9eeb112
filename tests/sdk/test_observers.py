"""Real workers observe each other while connections and the host come and go: nothing twice, all in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.client import RawClient, raw_client
from support.host import HostProcess, running_host
from support.sdk_workers import SdkWorker, running_worker

from iii_skill.testing import Proxy

pytestmark = pytest.mark.timeout(400)

ROLES = ("source", "target", "owner")


class Scene:
    """A host and three workers of SDK 0.25, each behind a proxy of its own."""

    def __init__(self, host: HostProcess) -> None:
        self.host = host
        self.proxies: dict[str, Proxy] = {}
        self.workers: dict[str, SdkWorker] = {}
        self.heard: list[int] = []
        self.sent = 0

    def hear(self, number: int, *, timeout: float = 60.0) -> None:
        """Wait until the target got that call."""
        while number not in self.heard[-1:]:
            self.heard.append(self.workers["target"].line("heard", timeout=timeout))

    async def call(self, client: RawClient) -> bool:
        """The next call of the source; False when it failed."""
        self.sent += 1
        return "error" not in await client.call("h::f", {"n": self.sent})

    async def recovers(self, client: RawClient) -> None:
        """Call until a call is heard of again."""
        async with asyncio.timeout(100):
            while True:
                if await self.call(client):
                    try:
                        self.hear(self.sent, timeout=0.5)
                    except AssertionError:
                        continue
                    return
                await asyncio.sleep(0.05)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        host = stack.enter_context(running_host(tmp_path, "--adapter", "memory"))
        made = Scene(host)
        address = urlsplit(host.ws)
        assert address.hostname is not None
        assert address.port is not None
        for role in ROLES:
            proxy = made.proxies[role] = stack.enter_context(Proxy(address.hostname, address.port))
            url, folder = f"ws://127.0.0.1:{proxy.port}", tmp_path / role
            worker = running_worker("python-0.25.0", folder, url, env={"ROLE": role}, program="observing")
            made.workers[role] = stack.enter_context(worker)
            made.workers[role].line("registered")
        yield made


@pytest.mark.parametrize("role", ROLES)
async def test_each_party_may_lose_its_connection_under_load(scene: Scene, role: str) -> None:
    async with raw_client(scene.host.ws) as client:
        await scene.recovers(client)
        for _ in range(3):
            before = scene.sent
            for number in range(50):
                await scene.call(client)
                if number == 25:
                    scene.proxies[role].cut()
            await scene.recovers(client)
            assert scene.heard[-1] > before
        for _ in range(20):
            assert await scene.call(client)
        scene.hear(scene.sent)
    assert scene.heard == sorted(set(scene.heard)), "nothing twice, nothing reordered"
    assert scene.heard[-20:] == list(range(scene.sent - 19, scene.sent + 1))


async def test_a_host_that_is_killed_finds_its_observers_again(scene: Scene) -> None:
    async with raw_client(scene.host.ws) as client:
        await scene.recovers(client)
        for _ in range(30):
            assert await scene.call(client)
        scene.hear(scene.sent)
    for _ in range(2):
        scene.host.restart()
        async with raw_client(scene.host.ws) as client:
            await scene.recovers(client)
            for _ in range(20):
                assert await scene.call(client)
            scene.hear(scene.sent)
            listed = (await client.result("engine::observers::list", {}))["observers"]
            assert [row["state"] for row in listed] == ["active"]
    assert scene.heard == sorted(set(scene.heard))
