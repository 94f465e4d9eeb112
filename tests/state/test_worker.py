"""The state functions; what uses `ask` runs over every bundled adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from iii_state_memory import MemoryAdapter
from support.adapters import opened
from support.calls import NOTHING, Asking

from iii_skill.errors import InvocationError
from iii_skill.state.events import event_payload, event_type
from iii_skill.state.functions import FUNCTIONS
from iii_skill.state.scopes import MAX_REMEMBERED_BYTES
from iii_skill.values import Change


def key(name: str = "k", **more: Any) -> dict[str, Any]:
    return {"scope": "s", "key": name, **more}


async def test_set_get_delete(ask: Asking) -> None:
    assert await ask("set", key(value={"a": 1})) == {"new_value": {"a": 1}, "old_value": None}
    assert await ask("set", key(value=None)) == {"new_value": None, "old_value": {"a": 1}}
    assert await ask("get", key()) is None
    assert await ask("delete", key()) is None
    assert await ask("delete", key()) == NOTHING
    assert await ask("get", key()) == NOTHING


async def test_values_come_back_as_they_were_written(ask: Asking) -> None:
    value = b'{ "b":1E2, "a" : [-0, 123456789012345678901, "\\u00e9"] }'
    await ask("set", b'{"scope":"s","key":"k","value":%b}' % value)
    assert await ask.raw("get", key()) == value
    assert await ask.raw("list", {"scope": "s"}) == b"[" + value + b"]"


async def test_update_answers_old_new_and_errors(ask: Asking) -> None:
    ops = [{"type": "increment", "path": "n", "by": 2}, {"type": "set", "path": "__proto__", "value": 1}]
    answer = await ask("update", key(ops=ops))
    assert list(answer) == ["errors", "new_value", "old_value"]
    assert (answer["new_value"], answer["old_value"]) == ({"n": 2}, None)
    assert answer["errors"][0]["op_index"] == 1
    assert "errors" not in await ask("update", key(ops=ops[:1]))


async def test_lists_keep_the_order_of_first_insertion(ask: Asking) -> None:
    for name in ("b", "a", "c", "b"):
        await ask("set", key(name, value=name))
    assert await ask("list_keys", {"scope": "s"}) == {"keys": ["b", "a", "c"]}
    await ask("delete", key("b"))
    await ask("set", key("b", value=1))
    assert await ask("list_keys", {"scope": "s"}) == {"keys": ["a", "c", "b"]}
    assert await ask("list", {"scope": "other"}) == []
    assert await ask("list_keys", {"scope": "other"}) == {"keys": []}


async def test_groups_are_sorted_and_an_emptied_scope_stays(ask: Asking) -> None:
    for scope in ("\U0001f600", "\uffff", "b", "", "B", "10", "2"):
        await ask("set", {"scope": scope, "key": "k", "value": 1})
    await ask("delete", {"scope": "b", "key": "k"})
    await ask("delete", {"scope": "never", "key": "k"})
    groups = (await ask("list_groups", {}))["groups"]
    assert groups == ["", "10", "2", "B", "b", "\uffff", "\U0001f600"]


@pytest.mark.parametrize(("length", "count"), [(10, 40_000), (1_000_000, 10)])
async def test_the_memory_of_emptied_scopes_is_bounded_in_bytes(length: int, count: int) -> None:
    ask = Asking(MemoryAdapter())
    names = [f"{number}".ljust(length, "-") for number in range(count)]
    for name in names:
        ask.start("set", {"scope": name, "key": "k", "value": 1})
        ask.start("delete", {"scope": name, "key": "k"})
    groups = set((await ask("list_groups", {}))["groups"])
    assert sum(map(len, groups)) <= MAX_REMEMBERED_BYTES
    assert names[-1] in groups
    assert names[0] not in groups


@pytest.mark.parametrize("scope", ["state_barrier", "__state_private_namespaces"])
@pytest.mark.parametrize("info", FUNCTIONS, ids=lambda info: info.id)
async def test_bookkeeping_scopes_are_refused(ask: Asking, info: Any, scope: str) -> None:
    payload = {"scope": scope, "key": "k", "value": 1, "ops": []}
    if info.id == "state::list_groups":
        return
    with pytest.raises(InvocationError) as caught:
        await ask(info.id.removeprefix("state::"), payload)
    assert caught.value.code == "RESERVED_SCOPE"
    assert str(caught.value) == f"RESERVED_SCOPE: `{scope}` is private worker bookkeeping"


# Events


def told(events: list[Change]) -> list[tuple[str, Any, Any]]:
    return [
        (event_type(event), event.old and json.loads(event.old), event.new and json.loads(event.new))
        for event in events
    ]


async def test_each_write_is_told_once_and_in_order(ask: Asking) -> None:
    await ask("set", key(value=1))
    await ask("set", key(value=1))
    await ask("update", key(ops=[]))
    await ask("delete", key())
    await ask("delete", key())
    await ask("update", key(ops=[{"type": "set", "path": "__proto__"}]))
    events = await ask.settled()
    assert told(events) == [
        ("state:created", None, 1),
        ("state:updated", 1, 1),
        ("state:updated", 1, 1),
        ("state:deleted", 1, None),
        ("state:deleted", None, None),
        ("state:created", None, {}),
    ]
    revisions = [event.revision for event in events]
    assert revisions == sorted(set(revisions))


async def test_a_write_is_told_after_its_answer(tmp_path: Path) -> None:
    for name in ("memory", "file"):
        async with opened(name, tmp_path) as adapter:
            ask = Asking(adapter)
            for answer in [ask.start("set", key(value=number)) for number in range(5)]:
                await answer
            assert ask.log[::2] == ["answered"] * 5
            assert [event.new for event in ask.log[1::2]] == [b"%d" % number for number in range(5)]


async def test_reads_and_refused_calls_tell_nothing(ask: Asking) -> None:
    ask.settings.current = type(ask.settings.current)(max_value_bytes=3)
    for name in ("get", "list", "list_groups", "list_keys", "list_entries"):
        await ask(name, key())
    for name, payload in (("set", key()), ("set", key(value="long")), ("update", key(ops=5))):
        with pytest.raises(InvocationError):
            await ask(name, payload)
    ask.settings.current = type(ask.settings.current)()
    assert await ask.settled() == []


async def test_disabled_triggers_are_told_nothing(ask: Asking) -> None:
    ask.settings.current = type(ask.settings.current)(triggers_enabled=False)
    await ask("set", key(value=1))
    assert ask.events == []


async def test_the_payload_of_an_event_splices_the_values() -> None:
    ask = Asking(MemoryAdapter())
    await ask("set", b'{"scope":"a\\"b","key":"\\u00e9","value":[ 1 ]}')
    assert event_payload(ask.events[0]) == (
        b'{"type":"state","event_type":"state:created","scope":"a\\"b","key":"\xc3\xa9",'
        b'"old_value":null,"new_value":[ 1 ]}'
    )


# Limits


@pytest.mark.parametrize(
    ("value", "size"),
    [("12345678", 10), ("éé", 6), ("\n\n", 6), ("\x01", 8), ({"a": [1, 2]}, 11), (None, 4), (1e2, 5)],
)
async def test_the_size_limit_counts_compact_json(value: Any, size: int) -> None:
    await Asking(MemoryAdapter(), max_value_bytes=size)("set", key(value=value))
    tight = Asking(MemoryAdapter(), max_value_bytes=size - 1)
    for name in ("set", "compare-and-set"):
        with pytest.raises(InvocationError) as caught:
            await tight(name, key(value=value))
        assert caught.value.code == "VALUE_TOO_LARGE"
        assert str(caught.value) == (
            f"value of {size} bytes exceeds the configured max_value_bytes limit of {size - 1}"
        )
    assert await tight("get", key()) == NOTHING


async def test_update_is_limited_in_nesting(ask: Asking) -> None:
    deep = json.loads("[" * 124 + "]" * 124)
    await ask("update", key("deep", ops=[{"type": "set", "path": "", "value": {"a": deep}}]))
    nested = [{"type": "append", "path": ["p"] * 32, "value": deep}]
    with pytest.raises(InvocationError) as caught:
        await ask("update", key("deep", ops=nested))
    assert caught.value.code == "VALUE_REFUSED"
    assert await ask("get", key("deep")) == {"a": deep}


@pytest.mark.parametrize(
    "op",
    [
        {"type": "set", "path": "", "value": "longer than it may ever be, whatever was there before"},
        {"type": "set", "path": "n", "value": "longer than it may be"},
        {"type": "append", "path": "list", "value": 123456789},
        {"type": "append", "path": "text", "value": "one character more"},
        {"type": "merge", "value": {"more": "longer than it may be"}},
        {"type": "increment", "path": "count", "by": 10**15},
    ],
    ids=lambda op: f"{op['type']} {op.get('path', '')}",
)
async def test_no_way_to_grow_a_value_passes_the_limit(ask: Asking, op: dict[str, Any]) -> None:
    held = {"list": [1], "text": "t", "count": 1}
    await ask("set", key(value=held))
    size = len(json.dumps(held, separators=(",", ":")))
    ask.settings.current = type(ask.settings.current)(max_value_bytes=size)
    with pytest.raises(InvocationError) as caught:
        await ask("update", key(ops=[op]))
    assert caught.value.code == "VALUE_TOO_LARGE"
    assert await ask("get", key()) == held


async def test_what_is_larger_than_a_limit_set_later_may_shrink_but_not_grow(ask: Asking) -> None:
    await ask("set", key(value={"a": "x" * 100, "b": 1}))
    ask.settings.current = type(ask.settings.current)(max_value_bytes=10)
    await ask("update", key(ops=[{"type": "remove", "path": "b"}]))
    with pytest.raises(InvocationError) as caught:
        await ask("update", key(ops=[{"type": "set", "path": "b", "value": 1}]))
    assert caught.value.code == "VALUE_TOO_LARGE"


@pytest.mark.parametrize("value", [b"NaN", b"1e999", b'"\\ud800"', b'"\xff"', b"[" * 126 + b"]" * 126])
async def test_unreadable_values_are_never_stored(ask: Asking, value: bytes) -> None:
    for name, form in (
        ("set", b'"value":%b'),
        ("compare-and-set", b'"value":%b'),
        ("update", b'"ops":[{"type":"set","path":"","value":%b}]'),
    ):
        with pytest.raises(InvocationError) as caught:
            await ask(name, b'{"scope":"s","key":"k",%b}' % (form % value))
        assert caught.value.code == "VALUE_REFUSED"
    assert await ask("get", key()) == NOTHING
    assert await ask.settled() == []


# Compare and set


@pytest.mark.parametrize(
    ("stored", "expected", "swapped"),
    [
        (None, None, True),
        (None, {"a": 1}, False),
        (b"null", None, True),
        (b"1", None, False),
        (b'{"a":1,"b":[2]}', {"b": [2], "a": 1}, True),
        (b'{"a":1}', {"a": 1.0}, False),
        (b"0.0", -0.0, True),
        (b"[1,2]", [2, 1], False),
        (b"[]", {}, False),
        (b"true", 1, False),
        (b"123456789012345678901", 123456789012345678901, True),
    ],
)
async def test_compare_and_set(ask: Asking, stored: bytes | None, expected: Any, swapped: bool) -> None:
    if stored is not None:
        await ask("set", b'{"scope":"s","key":"k","value":%b}' % stored)
    before = len(await ask.settled())
    answer = await ask("compare-and-set", key(value="new", expected=expected))
    if swapped:
        assert answer == {"swapped": True}
        assert await ask("get", key()) == "new"
        (event,) = (await ask.settled())[before:]
        assert (event.old, event.new) == (stored, b'"new"')
        assert event_type(event) == ("state:created" if stored is None else "state:updated")
    else:
        assert answer == {"swapped": False, "current": None if stored is None else json.loads(stored)}
        assert len(await ask.settled()) == before


async def test_compare_and_set_without_expected_means_none(ask: Asking) -> None:
    assert await ask("compare-and-set", key(value=1)) == {"swapped": True}
    assert await ask("compare-and-set", key(value=2)) == {"swapped": False, "current": 1}


async def test_a_miss_creates_no_scope(ask: Asking) -> None:
    await ask("compare-and-set", key(value=1, expected=5))
    assert await ask("list_groups", {}) == {"groups": []}


async def test_every_function_is_described(ask: Asking) -> None:
    assert {info.id for info in ask.worker.descriptions} == set(ask.worker.functions)
