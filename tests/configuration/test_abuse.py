"""A worker whose schema takes for ever holds nobody up, and the host still stops when it is told to."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from support.client import raw_client
from support.host import running_host

LEVELS = 40
FOR_EVER = {
    "$ref": "#/definitions/d0",
    "definitions": {
        **{f"d{n}": {"anyOf": [{"$ref": f"#/definitions/d{n + 1}"}] * 2} for n in range(LEVELS)},
        f"d{LEVELS}": {"type": "string"},
    },
}


def entry(entry_id: str, schema: Any) -> dict[str, Any]:
    return {"id": entry_id, "name": "n", "description": "d", "schema": schema}


def children(pid: int) -> list[int]:
    return [int(found) for found in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def loaded(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_a_host_without_schemas_starts_no_process_and_others_are_served_meanwhile(
    tmp_path: Path,
) -> None:
    with running_host(tmp_path, "--adapter", "memory") as host:
        async with raw_client(host.ws) as worker, raw_client(host.ws) as other:
            assert (await worker.result("configuration::get", {"id": "iii-state"}))["value"]
            assert children(host.pid) == []
            await worker.result("configuration::register", entry("slow", FOR_EVER))
            assert len(children(host.pid)) == 1
            slow = asyncio.create_task(worker.code("configuration::set", {"id": "slow", "value": 5}))
            served = 0
            while not slow.done():
                served += 1
                await other.result("state::set", {"scope": "s", "key": "k", "value": served})
            assert served > 20
            assert await slow == "SCHEMA_UNAVAILABLE"
            assert "jsonschema_rs" not in loaded(host.pid)


async def test_sigterm_ends_a_host_whose_checks_never_end(tmp_path: Path) -> None:
    with running_host(tmp_path, "--adapter", "memory") as host:
        async with raw_client(host.ws) as worker:
            await worker.result("configuration::register", entry("slow", FOR_EVER))
            [process] = children(host.pid)
            for _ in range(50):
                await worker.send(
                    {
                        "type": "invokefunction",
                        "function_id": "configuration::set",
                        "data": {"id": "slow", "value": 5},
                    }
                )
            await worker.result("state::set", {"scope": "s", "key": "k", "value": 1})
            code = await asyncio.to_thread(host.stop)
        assert code in (0, 1)
        assert not alive(process)


async def test_a_placeholder_reads_neither_the_token_nor_the_environment(tmp_path: Path) -> None:
    environment = {"III_SKILL_TOKEN": "s3cret", "APP_KEY": "shown", "OTHER": "hidden"}
    with running_host(tmp_path, "--adapter", "memory", "--expose-env", "APP_*", env=environment) as host:
        async with raw_client(host.ws, additional_headers={"Authorization": "Bearer s3cret"}) as worker:
            value = {"a": "${III_SKILL_TOKEN:none}", "b": "${OTHER:none}", "c": "${APP_KEY}"}
            await worker.result("configuration::register", {**entry("app", True), "initial_value": value})
            found = await worker.result("configuration::get", {"id": "app"})
        assert "s3cret" not in json.dumps(found)
        assert found["value"] == {"a": "none", "b": "none", "c": "shown"}
