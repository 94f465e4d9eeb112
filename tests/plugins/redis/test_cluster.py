"""A real cluster of three nodes: scopes are spread, moves are followed, a lost node is replaced."""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
from iii_state_redis import RedisAdapter, RedisConfig
from support.redis import RedisServer, until, valkey_binary

from iii_skill.errors import AdapterError, StoreRefused
from iii_skill.values import Change

NODES = 4
SETTINGS = ("--cluster-enabled", "yes", "--cluster-node-timeout", "60000")
"""A node that is only slow is not given up; the test of a lost one waits less."""
SCOPES = [f"scope {number}" for number in range(60)]


@pytest.fixture(scope="module", params=["redis", "valkey"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Sequence[RedisServer]]:
    """Three nodes with a third of the slots each, and a replica of the first."""
    program = valkey_binary() if request.param == "valkey" else None
    with contextlib.ExitStack() as stack:
        nodes = [RedisServer(*SETTINGS, program=program, cluster=True) for _ in range(NODES)]
        for node in nodes:
            stack.callback(node.stop)
            node.start()
        for number, node in enumerate(nodes[:3]):
            first, last = 16384 * number // 3, 16384 * (number + 1) // 3 - 1
            node.cli("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.cli("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number, node in enumerate(nodes):
            for other in nodes[:number]:
                node.cli("CLUSTER", "MEET", "127.0.0.1", other.port)
        asyncio.run(settled(nodes))
        yield nodes


async def settled(nodes: Sequence[RedisServer]) -> None:
    """Wait until the nodes know each other and the replica follows."""
    await until(lambda: all(knows(node, NODES) for node in nodes))
    nodes[3].cli("CLUSTER", "REPLICATE", node_id(nodes[0]))
    await until(lambda: b"cluster_state:ok" in raw(nodes[0].cli("CLUSTER", "INFO")))
    await until(lambda: nodes[3].cli("INFO", "replication")["master_link_status"] == "up")


def raw(reply: object) -> bytes:
    """A reply as text, whatever the client made of it."""
    if isinstance(reply, dict):
        return "\n".join(f"{key}:{value}" for key, value in reply.items()).encode()
    return reply if isinstance(reply, bytes) else str(reply).encode()


def node_id(node: RedisServer) -> str:
    """The name of a node."""
    return raw(node.cli("CLUSTER", "MYID")).decode()


def knows(node: RedisServer, count: int) -> bool:
    """True when the node has met so many."""
    return re.search(rb"cluster_known_nodes:%d\b" % count, raw(node.cli("CLUSTER", "INFO"))) is not None


@contextlib.asynccontextmanager
async def opened(node: RedisServer) -> AsyncIterator[RedisAdapter]:
    """An adapter that starts at this node."""
    adapter = RedisAdapter()
    try:
        await adapter.open(RedisConfig(redis_url=node.url, layout="cluster"))
        yield adapter
    finally:
        await adapter.close()


def bump(old: bytes | None) -> bytes:
    """Add one."""
    return b"%d" % (int(old or 0) + 1)


async def test_the_layout_of_the_engine_is_refused(cluster: Sequence[RedisServer]) -> None:
    adapter = RedisAdapter()
    with pytest.raises(StoreRefused, match="layout=cluster"):
        await adapter.open(RedisConfig(redis_url=cluster[0].url))
    await adapter.close()


async def test_scopes_are_spread_and_every_change_is_seen(cluster: Sequence[RedisServer]) -> None:
    async with opened(cluster[0]) as one, opened(cluster[1]) as two:
        readers = [one.changes(), two.changes()]
        # A host's own calls come after its `changes()`; another one's may overtake it until one was answered.
        await asyncio.gather(*(host.get(scope, "k") for scope in SCOPES for host in (one, two)))
        calls = [host.update(scope, "k", bump) for scope in SCOPES for host in (one, two)]
        made = await asyncio.gather(*calls)
        assert [await one.get(scope, "k") for scope in SCOPES] == [b"2"] * len(SCOPES)
        assert [await two.list(scope) for scope in SCOPES] == [[("k", b"2")]] * len(SCOPES)
        assert set(SCOPES) <= set(await two.scopes())
        for changes in readers:
            seen: list[Change] = []
            async with asyncio.timeout(60):
                async for change in changes:
                    seen.append(change)
                    if len(seen) == len(made):
                        break
            assert sorted(seen, key=place) == sorted(made, key=place)
            for scope in SCOPES:
                assert [change.new for change in seen if change.scope == scope] == [b"1", b"2"]
    assert all(node.cli("DBSIZE") > 0 for node in cluster[:3])


def place(change: Change) -> tuple[str, int]:
    """What changes are sorted by."""
    return change.scope, change.revision


async def all_hold(adapter: RedisAdapter, key: str) -> bool:
    """True when the key of each scope is read with the value 1; it has no other one."""
    try:
        found = [await adapter.get(scope, key) for scope in SCOPES]
    except AdapterError:
        return False
    assert found == [b"1"] * len(SCOPES)
    return True


async def test_a_slot_that_moves_is_followed(cluster: Sequence[RedisServer]) -> None:
    async with opened(cluster[0]) as adapter:
        for scope in SCOPES:
            await adapter.set(scope, "moves", b"1")
        changes = adapter.changes()
        number = 3
        slot = binascii.crc_hqx(b"%d" % number, 0) % 16384
        source = next(node for node in cluster[:3] if node.cli("CLUSTER", "COUNTKEYSINSLOT", slot))
        target = next(node for node in cluster[:3] if node is not source)
        target.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
        source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))
        for key in source.cli("CLUSTER", "GETKEYSINSLOT", slot, 1000):
            source.cli("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        # While it is asked whether keys have ends, a read needs several keys; it is refused if some are away.
        await until(lambda: all_hold(adapter, "moves"))
        for node in (target, source, *cluster[:3]):
            node.cli("CLUSTER", "SETSLOT", slot, "NODE", node_id(target))
        made = [await adapter.update(scope, "moves", bump) for scope in SCOPES]
        assert [change.new for change in made] == [b"2"] * len(SCOPES)
        wanted = {(change.scope, change.revision) for change in made}
        async with asyncio.timeout(60):
            while wanted:
                change = await anext(changes)
                wanted.discard((change.scope, change.revision))


def offset(node: RedisServer) -> int:
    """How far into the stream of writes a node is."""
    found = node.cli("INFO", "replication")
    return int(found["slave_repl_offset" if found["role"] == "slave" else "master_repl_offset"])


async def test_a_lost_node_is_replaced_by_its_replica(cluster: Sequence[RedisServer]) -> None:
    async with opened(cluster[1]) as adapter:
        for scope in SCOPES:
            await adapter.set(scope, "safe", b"1")
        # WAIT would tell of the writes of its own connection, and these are of another one.
        await until(lambda: offset(cluster[3]) >= offset(cluster[0]))
        for node in cluster[1:]:
            node.cli("CONFIG", "SET", "cluster-node-timeout", "1000")
        cluster[0].kill()
        await until(lambda: all_hold(adapter, "safe"))
        changes = await asyncio.gather(*(adapter.update(scope, "safe", bump) for scope in SCOPES))
        assert [change.new for change in changes] == [b"2"] * len(SCOPES)
