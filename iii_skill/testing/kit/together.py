"""Together: many writes that are made as one."""

from __future__ import annotations

import asyncio

from iii_skill.adapter import StateAdapter, Write
from iii_skill.errors import CapabilityMissing
from iii_skill.testing.checks import Group
from iii_skill.testing.subject import Subject, expect

group = Group("together", seconds=60.0)

MANY = 500


def declared(adapter: type[StateAdapter]) -> bool:
    """Adapters that declare `together`."""
    return adapter.together


def not_declared(adapter: type[StateAdapter]) -> bool:
    """Those that do not."""
    return not adapter.together


@group.check(applies=declared)
async def writes_together_are_all_made(subject: Subject) -> None:
    """`write_together` stores, replaces and deletes as `set` and `delete` do, in order; `if_absent` keeps."""
    store = await subject.open()
    for key in ("a", "b", "c"):
        await store.set("scope", key, b"0")
    changed = await store.adapter.write_together(
        [
            Write("scope", "new", b"1", False),
            Write("scope", "b", b'{"x":[9007199254740993]}', False),
            Write("scope", "c", b"2", True),
            Write("scope", "newer", b"3", True),
            Write("scope", "a", None, False),
        ]
    )
    pairs = await store.list("scope")
    wanted = [("b", b'{"x":[9007199254740993]}'), ("c", b"0"), ("new", b"1"), ("newer", b"3")]
    expect(list(pairs) == wanted, f"After writes together the scope holds {pairs}, not {wanted}.")
    expect(changed == 4, f"`write_together` changed 4 keys and answered {changed}.")
    expect(await store.adapter.write_together([]) == 0, "Without a write nothing is changed.")


@group.check(applies=declared)
async def writes_together_are_one_moment(subject: Subject) -> None:
    """While many writes are made together, another host sees none of them or all."""
    writer, reader = await subject.open(), await subject.open()
    names = [f"k{number}" for number in range(MANY)]
    await writer.adapter.write_together([Write("scope", name, b"0", False) for name in names])
    work = asyncio.ensure_future(
        writer.adapter.write_together([Write("scope", name, b"1", False) for name in names])
    )
    while True:
        ended = work.done()
        values = {value for _, value in await reader.list("scope")}
        expect(len(values) == 1, "Another host saw a part of the writes that are made together.")
        if ended:
            break
        await asyncio.sleep(0)
    await work
    expect(values == {b"1"}, "The writes are not there after the answer.")


@group.check(applies=not_declared)
async def writes_together_are_refused_when_not_declared(subject: Subject) -> None:
    """Without `together`, `write_together` is refused with CapabilityMissing and stores nothing."""
    store = await subject.open()
    try:
        await store.adapter.write_together([Write("scope", "key", b"1", False)])
    except CapabilityMissing:
        expect(await store.get("scope", "key") is None, "`write_together` was refused and stored something.")
        return
    expect(False, "`write_together` works, but `together` is not declared.")
