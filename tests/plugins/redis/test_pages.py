"""Pages of a scope: the server gives a page, not the scope, and all that is left where it cannot."""

from __future__ import annotations

from iii_state_redis import RedisAdapter
from support.redis import RedisServer

from .conftest import OpenAdapter


async def paged(adapter: RedisAdapter, limit: int) -> list[str]:
    """The keys of all pages."""
    after, keys = None, []
    while True:
        page = await adapter.page("s", after, limit)
        keys += [key for key, _ in page.pairs]
        after = page.after
        if after is None:
            return keys


async def test_a_page_costs_a_page(server: RedisServer, adapter: RedisAdapter) -> None:
    names = [f"k{number}" for number in range(2000)]
    for name in names:
        await adapter.set("s", name, b'"%s"' % (b"x" * 1000))
    before = server.client.info("stats")["total_net_output_bytes"]
    page = await adapter.page("s", None, 10)
    assert [key for key, _ in page.pairs] == names[:10]
    assert page.total == 2000
    assert server.client.info("stats")["total_net_output_bytes"] - before < 100_000
    assert await paged(adapter, 300) == names


async def test_fields_of_another_program_come_once(server: RedisServer, adapter: RedisAdapter) -> None:
    for number in range(20):
        await adapter.set("s", f"k{number}", b"1")
    first = await adapter.page("s", None, 7)
    server.client.hset("state:s", "foreign", "2")
    rest = await adapter.page("s", first.after, 7)
    assert rest.after is None
    keys = [key for key, _ in (*first.pairs, *rest.pairs)]
    assert sorted(keys) == sorted([*(f"k{number}" for number in range(20)), "foreign"])
    assert len(await paged(adapter, 5)) == 21


async def test_a_user_who_may_run_no_text_of_a_script_gets_the_scope(
    server: RedisServer, adapter: RedisAdapter, open_adapter: OpenAdapter
) -> None:
    for number in range(20):
        await adapter.set("s", f"k{number}", b"1")
    server.cli("ACL", "SETUSER", "pages", "on", ">secret", "~*", "&*", "+@all", "-eval")
    try:
        url = f"redis://pages:secret@127.0.0.1:{server.port}"
        async with open_adapter(redis_url=url) as limited:
            page = await limited.page("s", None, 5)
            assert (len(page.pairs), page.after) == (20, None)
    finally:
        server.cli("ACL", "DELUSER", "pages")


async def test_a_value_that_is_no_json_is_left_out_of_a_page(
    server: RedisServer, adapter: RedisAdapter
) -> None:
    for number in range(4):
        await adapter.set("s", f"k{number}", b"1")
    server.client.hset("state:s", "k1", "{no json")
    page = await adapter.page("s", None, 3)
    assert [key for key, _ in page.pairs] == ["k0", "k2"]
    assert await paged(adapter, 3) == ["k0", "k2", "k3"]
