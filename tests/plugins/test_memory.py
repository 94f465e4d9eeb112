"""Paging through a scope in memory costs a page, whatever came and went."""

from __future__ import annotations

import random

from iii_state_memory import MemoryAdapter


def test_pages_after_random_changes_are_the_list() -> None:
    chance = random.Random(3)
    adapter = MemoryAdapter()
    for round_ in range(200):
        for _ in range(chance.randrange(60)):
            key = f"k{chance.randrange(80)}"
            if chance.random() < 0.4:
                adapter.delete("s", key)
            else:
                adapter.set("s", key, b"%d" % round_)
        limit, after, found = chance.randrange(1, 30), None, []
        while True:
            page = adapter.page("s", after, limit)
            assert len(page.pairs) <= limit
            assert page.total == len(adapter.list("s"))
            found += page.pairs
            after = page.after
            if after is None:
                break
        assert found == adapter.list("s")


def test_the_order_that_pages_need_is_bounded_by_the_keys_and_goes_with_the_scope() -> None:
    adapter = MemoryAdapter()
    for number in range(100):
        adapter.set("s", f"k{number}", b"1")
    assert adapter.page("s", None, 10).after is not None
    for number in range(100_000):
        adapter.delete("s", f"k{number % 100}")
        adapter.set("s", f"k{number % 100}", b"1")
    assert len(adapter._orders["s"]._line) < 400
    for number in range(100):
        adapter.delete("s", f"k{number}")
    assert adapter._orders == {}
