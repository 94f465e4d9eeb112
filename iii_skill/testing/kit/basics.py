"""Basics: get, set, delete and update do what they say, one call at a time."""

from __future__ import annotations

from iii_skill.testing.checks import Group
from iii_skill.testing.subject import OpenedAdapter, Subject, expect
from iii_skill.values import KEEP

group = Group("basics")


class ChangeRefused(Exception):
    """What the kit's changes raise."""


@group.check()
async def get_of_an_unknown_key_is_none(subject: Subject) -> None:
    """`get` of a key that was never set is None, in an unknown and in a known scope."""
    store = await subject.open()
    expect(await store.get("scope", "key") is None, "`get` in an empty store gave a value.")
    await store.set("scope", "other", b"1")
    expect(await store.get("scope", "key") is None, "`get` gave a value for a key that was never set.")


@group.check()
async def an_empty_store_lists_nothing(subject: Subject) -> None:
    """A fresh store has no scopes, and an unknown scope has no keys."""
    store = await subject.open()
    expect(await store.scopes() == [], "A fresh store has scopes; is the storage of each test its own?")
    expect(await store.list("scope") == [], "`list` of an unknown scope is not empty.")
    expect(await store.keys("scope") == [], "`keys` of an unknown scope is not empty.")


@group.check()
async def set_stores_and_tells_old_and_new(subject: Subject) -> None:
    """`set` stores the value and its Change tells scope, key, old and new."""
    store = await subject.open()
    first = await store.set("scope", "key", b'"a"')
    expect((first.scope, first.key) == ("scope", "key"), "The Change of `set` names another scope or key.")
    expect((first.old, first.new) == (None, b'"a"'), "The Change of a first `set` has a wrong old or new.")
    second = await store.set("scope", "key", b'"b"')
    expect((second.old, second.new) == (b'"a"', b'"b"'), "The Change of an overwrite has a wrong old or new.")
    expect(await store.get("scope", "key") == b'"b"', "`get` after two sets does not give the second value.")


@group.check()
async def delete_removes_and_tells_old(subject: Subject) -> None:
    """`delete` removes the key everywhere and its Change tells what was there."""
    store = await subject.open()
    await store.set("scope", "key", b"1")
    change = await store.delete("scope", "key")
    expect((change.old, change.new) == (b"1", None), "The Change of `delete` has a wrong old or new.")
    await _absent(store)


@group.check()
async def delete_of_an_absent_key_is_a_change_from_none_to_none(subject: Subject) -> None:
    """`delete` of a key that is not there succeeds, changes nothing and creates no scope."""
    store = await subject.open()
    change = await store.delete("scope", "key")
    expect((change.old, change.new) == (None, None), "`delete` of an absent key tells an old or new value.")
    await _absent(store)


@group.check()
async def update_stores_what_change_returns(subject: Subject) -> None:
    """`update` hands the current bytes to `change` and stores what it returns."""
    store = await subject.open()
    seen: list[bytes | None] = []

    def append(old: bytes | None) -> bytes:
        seen.append(old)
        return (old or b"") + b"1"

    first = await store.update("scope", "key", append)
    expect(seen and seen[-1] is None, "`change` of an absent key was not given None.")
    expect((first.old, first.new) == (None, b"1"), "The Change of an `update` has a wrong old or new.")
    second = await store.update("scope", "key", append)
    expect(seen[-1] == b"1" and type(seen[-1]) is bytes, "`change` was not given the current bytes.")
    expect((second.old, second.new) == (b"1", b"11"), "The Change of an `update` has a wrong old or new.")
    expect(await store.get("scope", "key") == b"11", "`update` did not store what `change` returned.")


@group.check()
async def update_to_none_deletes(subject: Subject) -> None:
    """A `change` that returns None deletes the key."""
    store = await subject.open()
    await store.set("scope", "key", b"1")
    change = await store.update("scope", "key", lambda _old: None)
    expect(
        (change.old, change.new) == (b"1", None), "The Change of an `update` to None has a wrong old or new."
    )
    await _absent(store)


@group.check()
async def keep_leaves_a_key_as_it_is(subject: Subject) -> None:
    """A `change` that returns KEEP writes nothing: old equals new, and the revision is 0."""
    store = await subject.open()
    await store.set("scope", "key", b"1")
    change = await store.update("scope", "key", lambda _old: KEEP)
    expect((change.old, change.new) == (b"1", b"1"), "KEEP gave a Change whose old or new is not the value.")
    expect(change.revision == 0, "KEEP took a revision.")
    expect(await store.list("scope") == [("key", b"1")], "KEEP changed the value.")


@group.check()
async def keep_of_an_absent_key_creates_nothing(subject: Subject) -> None:
    """KEEP on an absent key creates neither the key nor its scope."""
    store = await subject.open()
    change = await store.update("scope", "key", lambda _old: KEEP)
    expect((change.old, change.new) == (None, None), "KEEP on an absent key gave an old or new value.")
    expect(change.revision == 0, "KEEP took a revision.")
    await _absent(store)


@group.check()
async def an_error_of_change_reaches_the_caller(subject: Subject) -> None:
    """What `change` raises reaches the caller as it is, and nothing is changed."""
    store = await subject.open()
    await store.set("scope", "key", b"1")
    refusal = ChangeRefused("refused by the kit")

    def refuse(_old: bytes | None) -> bytes:
        raise refusal

    for key in ("key", "absent"):
        caught: BaseException | None = None
        try:
            await store.update("scope", key, refuse)
        except Exception as error:
            caught = error
        expect(caught is not None, "`update` answered although `change` raised.")
        expect(caught is refusal, f"`update` raised {caught!r:.80}, not what `change` raised.")
    expect(
        await store.list("scope") == [("key", b"1")], "An `update` whose `change` raised changed the store."
    )
    await store.set("scope", "key", b"2")
    expect(await store.get("scope", "key") == b"2", "After an error of `change` a later `set` is lost.")


@group.check()
async def scopes_are_apart(subject: Subject) -> None:
    """One key in two scopes is two keys."""
    store = await subject.open()
    await store.set("one", "key", b"1")
    await store.set("two", "key", b"2")
    await store.delete("one", "key")
    expect(await store.get("one", "key") is None, "A key deleted in one scope is still there.")
    expect(await store.get("two", "key") == b"2", "A delete in one scope touched the key of another.")


@group.check()
async def scopes_are_those_with_keys(subject: Subject) -> None:
    """`scopes` gives each scope that holds a key once; it goes with its last key and comes back."""
    store = await subject.open()
    for scope in ("b", "a", "c"):
        for key in ("1", "2"):
            await store.set(scope, key, b"0")
    expect(sorted(await store.scopes()) == ["a", "b", "c"], "`scopes` misses, repeats or invents a scope.")
    await store.delete("a", "1")
    expect(sorted(await store.scopes()) == ["a", "b", "c"], "A scope went while it still had a key.")
    await store.delete("a", "2")
    expect(sorted(await store.scopes()) == ["b", "c"], "A scope without keys is still there.")
    await store.set("a", "1", b"0")
    expect(sorted(await store.scopes()) == ["a", "b", "c"], "A scope did not come back with a new key.")


@group.check()
async def many_scopes(subject: Subject) -> None:
    """300 scopes are all there."""
    store = await subject.open()
    names = [f"scope-{number}" for number in range(300)]
    for name in names:
        await store.set(name, "key", b"1")
    expect(sorted(await store.scopes()) == sorted(names), "`scopes` of 300 scopes misses or repeats some.")


async def _absent(store: OpenedAdapter) -> None:
    expect(await store.get("scope", "key") is None, "`get` gives a value for a key that is not there.")
    expect(await store.list("scope") == [], "`list` gives a key that is not there.")
    expect(await store.keys("scope") == [], "`keys` gives a key that is not there.")
    expect(await store.scopes() == [], "`scopes` gives a scope without keys.")
