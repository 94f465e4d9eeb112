"""SIGKILL of host and workers under load: every accepted job runs at least once, none is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from pathlib import Path
from typing import Any

import pytest
import websockets
from support import redis
from support.client import RawClient, raw_client
from support.host import HostProcess, running_host

ROUNDS = 25 if os.environ.get("III_SKILL_TEST_ALL") else 4
AWAY = (AssertionError, OSError, TimeoutError, websockets.WebSocketException)


class Load:
    """Jobs that were acknowledged, and those that ran."""

    def __init__(self) -> None:
        self.accepted: set[int] = set()
        self.ran: list[int] = []
        self.number = 0

    def work(self, job: dict[str, Any]) -> None:
        self.ran.append(job["n"])
        if job["n"] % 13 == 0:
            raise ValueError("unlucky")

    async def enqueue(self, client: RawClient) -> None:
        """Enqueue jobs until the connection breaks."""
        while True:
            self.number += 1
            number = self.number
            action = {"type": "enqueue", "queue": f"q{number % 3}"}
            answer = await client.call("work", {"n": number}, action=action)
            assert "messageReceiptId" in answer["result"]
            self.accepted.add(number)


async def a_while_of_load(host: HostProcess, load: Load, *, jobs: int) -> None:
    """Load from four callers and one worker until so many more jobs are accepted; then kill something."""
    aim = len(load.accepted) + jobs
    async with contextlib.AsyncExitStack() as stack:
        worker = await stack.enter_async_context(raw_client(host.ws))
        await worker.register("work", load.work)
        callers = [await stack.enter_async_context(raw_client(host.ws)) for _ in range(4)]
        tasks = [asyncio.ensure_future(load.enqueue(caller)) for caller in callers]
        while len(load.accepted) < aim:
            for task in tasks:
                if task.done():
                    raise RuntimeError("a job was not accepted while the host ran") from task.exception()
            await asyncio.sleep(0.005)
        if random.random() < 0.5:
            # The worker dies first, without a word, and a moment later the host.
            worker.socket.transport.abort()
            await asyncio.sleep(random.random() * 0.05)
        host.sigkill()
        # What is not acknowledged by now will never be.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("adapter", ["file", "redis"])
async def test_no_accepted_job_is_lost(adapter: str, tmp_path: Path) -> None:
    (tmp_path / "iii-config.yaml").write_text(CONFIG[adapter].format(**redis.settings()))
    load = Load()
    with running_host(tmp_path, "--config", "iii-config.yaml") as host:
        for _ in range(ROUNDS):
            with contextlib.suppress(*AWAY):
                await a_while_of_load(host, load, jobs=60)
            host.start()
        async with raw_client(host.ws) as worker:
            await worker.register("work", load.work)
            unlucky = {number for number in load.accepted if number % 13 == 0}
            async with asyncio.timeout(60):
                while load.accepted - set(load.ran) or await dead_numbers(worker) < unlucky:
                    await asyncio.sleep(0.1)
            # What failed twice is a dead letter, and nothing else is.
            assert {number % 13 for number in await dead_numbers(worker)} <= {0}
            for queue in ("q0", "q1", "q2"):
                # A job that ran is in the store for a moment longer.
                async with asyncio.timeout(60):
                    while (await worker.result("engine::queue::topic_stats", {"topic": queue}))["depth"]:
                        await asyncio.sleep(0.1)
    assert len(load.accepted) >= 60 * ROUNDS


async def dead_numbers(client: RawClient) -> set[int]:
    """The numbers of all dead letters."""
    return {
        letter["payload"]["n"]
        for queue in ("q0", "q1", "q2")
        for letter in await client.result("engine::queue::dlq_messages", {"topic": queue, "limit": 1000})
    }


QUEUES = """
  - name: iii-queue
    config:
      lease_ms: 1000
      queue_configs:
        q0: {{max_retries: 2, backoff_ms: 20}}
        q1: {{max_retries: 2, backoff_ms: 20, concurrency: 2}}
        q2: {{max_retries: 2, backoff_ms: 20}}
"""
CONFIG = {
    "file": """
workers:
  - name: iii-worker-manager
  - name: iii-state
    config: {{adapter: {{name: file, config: {{data_dir: ./data}}}}}}
"""
    + QUEUES,
    "redis": """
workers:
  - name: iii-worker-manager
  - name: iii-state
    config:
      adapter:
        name: redis
        config: {{redis_url: '{redis_url}', key_prefix: '{key_prefix}'}}
"""
    + QUEUES,
}
