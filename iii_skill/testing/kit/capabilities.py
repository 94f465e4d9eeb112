"""Capabilities: what an adapter declares is well formed and true, and what it does not declare is refused."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Generator
from typing import Any, TypeVar

import msgspec

from iii_skill.adapter import ADAPTER_NAME, StateAdapter
from iii_skill.errors import CapabilityMissing, StoreRefused
from iii_skill.testing.checks import Group, is_not_shared, keeps_data_here
from iii_skill.testing.child import Child
from iii_skill.testing.subject import Subject, expect
from iii_skill.values import Durability

T = TypeVar("T")

group = Group("capabilities")


def waits_for_a_device(adapter: type[StateAdapter]) -> bool:
    """Adapters that cannot answer a write before a disk or a server did."""
    return adapter.durability in (Durability.DISK, Durability.REMOTE)


@group.check()
async def the_declarations_are_well_formed(subject: Subject) -> None:
    """The class has a valid name, a Durability, a bool `shared` and can be made without arguments."""
    adapter = subject.adapter_type
    expect(issubclass(adapter, StateAdapter), "The adapter is not a subclass of iii_skill.StateAdapter.")
    name = getattr(adapter, "name", None)
    valid = isinstance(name, str) and ADAPTER_NAME.match(name)
    expect(valid, f"The name {name!r} is not lower case letters, digits and hyphens.")
    expect(isinstance(adapter.durability, Durability), "`durability` is not one of iii_skill.Durability.")
    expect(type(adapter.shared) is bool, "`shared` is not True or False.")
    expect(not inspect.isabstract(adapter), "The adapter does not implement every abstract method.")
    subject.make()


@group.check()
async def the_settings_are_a_strict_frozen_struct(subject: Subject) -> None:
    """`config_type` is a frozen msgspec Struct with `forbid_unknown_fields` and a type for each setting."""
    config_type = subject.adapter_type.config_type
    expect(issubclass(config_type, msgspec.Struct), "`config_type` is not a msgspec.Struct.")
    options = config_type.__struct_config__
    expect(options.frozen, "`config_type` is not declared with frozen=True.")
    expect(options.forbid_unknown_fields, "`config_type` is not declared with forbid_unknown_fields=True.")
    loose = [field.name for field in msgspec.structs.fields(config_type) if field.type is Any]
    expect(not loose, f"The setting '{loose[0] if loose else ''}' has the type Any.")


@group.check()
async def an_unknown_setting_is_refused(subject: Subject) -> None:
    """A setting that the adapter does not know is refused by name."""
    settings = {**subject.settings, "no-such-setting": 1}
    try:
        msgspec.convert(settings, subject.adapter_type.config_type, strict=False)
    except msgspec.ValidationError as error:
        expect("no-such-setting" in str(error), "The refusal of an unknown setting does not name it.")
    else:
        expect(False, "A setting that the adapter does not know was accepted.")


@group.check()
async def data_dir_is_an_absolute_directory_or_none(subject: Subject) -> None:
    """After `open`, `data_dir` is None or the absolute path of a directory that is there."""
    store = await subject.open()
    place = store.adapter.data_dir
    expect(place is None or place.is_absolute(), f"`data_dir` is not absolute: {place}.")
    expect(place is None or place.is_dir(), f"`data_dir` is no directory: {place}.")


@group.check(applies=is_not_shared)
async def changes_is_refused_when_shared_is_not_declared(subject: Subject) -> None:
    """Without `shared`, `changes()` is refused with CapabilityMissing instead of half working."""
    store = await subject.open()
    try:
        changes = store.adapter.changes()
        await store.set("scope", "key", b"1")
        await anext(changes)
    except CapabilityMissing:
        return
    except StopAsyncIteration:
        expect(False, "`changes()` ends at once instead of being refused with CapabilityMissing.")
    expect(False, "`changes()` works, but `shared` is not declared.")


@group.check(applies=keeps_data_here)
async def a_second_host_is_refused(subject: Subject) -> None:
    """Without `shared`, `open` on a storage that another process has open is refused with StoreRefused."""
    async with Child(subject, "hold") as holder:
        await holder.read("open")
        second = subject.make()
        try:
            await second.open(subject.config())
        except StoreRefused as refusal:
            expect(refusal.message, "StoreRefused has no message.")
        else:
            expect(False, "Two processes opened one storage, but `shared` is not declared.")
        await second.close()
        await second.close()
        await holder.write("finish")
        await holder.read("finished")
    store = await subject.open()
    expect(
        await store.get("scope", "key") == b'"held"', "A refused `open` harmed the storage of the first host."
    )


@group.check(applies=waits_for_a_device)
async def a_write_lets_the_event_loop_go(subject: Subject) -> None:
    """A write that waits for a disk or a server gives the event loop back before it answers."""
    store = await subject.open()
    for number in range(5):
        answer = store.adapter.set("scope", "key", b"%d" % number)
        waits = inspect.isawaitable(answer)
        expect(waits, f"`set` of a {subject.adapter_type.durability} adapter answers without being awaited.")
        assert inspect.isawaitable(answer)
        counted = Counted(answer)
        await counted
        expect(counted.pauses, "`set` blocks the event loop until the write is durable: it never waits.")


class Counted(Awaitable[T]):
    """An awaitable that counts how often it gave the event loop back."""

    def __init__(self, inner: Awaitable[T]) -> None:
        self.inner = inner
        self.pauses = 0

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self.inner.__await__()
        while True:
            try:
                pause = next(steps)
            except StopIteration as end:
                value: T = end.value
                return value
            self.pauses += 1
            yield pause
