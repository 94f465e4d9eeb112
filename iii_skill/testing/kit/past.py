"""The past: what all keys held at a moment, as far as it is kept."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from iii_skill.adapter import PastKey, PastPage, settled
from iii_skill.testing.checks import keeps_data
from iii_skill.testing.kit.versions import ends_and_historical, group, opened, versions_of
from iii_skill.testing.subject import OpenedAdapter, Subject, expect
from iii_skill.values import PRIVATE_SCOPES, Change

Names = dict[tuple[str, str], bytes]


async def past_of(store: OpenedAdapter, at_ms: int, limit: int) -> tuple[list[PastKey], bool]:
    """What pages tell of a moment, and whether they are whole."""
    moment = await settled(store.adapter.moment_at(at_ms))
    keys: list[PastKey] = []
    whole = True
    after: str | None = None
    while True:
        page = await settled(store.adapter.past(moment, after, limit))
        expect(isinstance(page, PastPage), f"`past` gave {type(page).__name__}, not a PastPage.")
        expect(len(page.keys) <= limit, f"A page of at most {limit} keys has {len(page.keys)}.")
        keys += page.keys
        whole = whole and moment >= page.whole_from
        if page.after is None:
            return keys, whole
        expect(page.after != after, "A page of the past is followed by itself.")
        after = page.after


def expect_past(found: Sequence[PastKey], whole: bool, held: Names, known: bool) -> None:
    """What is told is true, and what is not told is admitted; all of it with `known`."""
    names = [(one.scope, one.key) for one in found]
    expect(len(set(names)) == len(names), "`past` tells of a key twice.")
    told = {(one.scope, one.key): one.value for one in found if one.known_from_ms is None}
    for name, value in told.items():
        expect(value == held.get(name), f"`past` gives {value!r} for {name}, it held {held.get(name)!r}.")
    lacking = set(held) - set(names)
    expect(not whole or not lacking, f"`past` leaves {len(lacking)} keys out and says that it is whole.")
    if known:
        expect(whole and len(told) == len(found), "`past` does not know what is kept.")


async def _random_past(subject: Subject, seed: int, *, known: bool, **bounds: Any) -> None:
    chance = random.Random(seed)
    store = await opened(subject, **bounds)
    held: Names = {}
    moments: list[tuple[int, Names]] = []
    for step in range(240):
        subject.clock.advance(chance.uniform(60, 3600))
        scope, key = chance.choice("xy"), f"key-{chance.randrange(12)}"
        if chance.random() < 0.35:
            await store.delete(scope, key)
            held.pop((scope, key), None)
        else:
            value = b"%d" % step
            await store.set(scope, key, value)
            held[scope, key] = value
        subject.clock.advance(10)
        moments.append((subject.clock.now_ms(), dict(held)))
        if step % 40 == 20:
            await store.adapter.maintain()
        if keeps_data(subject.adapter_type) and step == 120:
            store = await subject.reopen(store)
    subject.clock.advance(10)
    await store.adapter.maintain()
    for at_ms, then in chance.sample(moments, 60) + moments[-1:]:
        found, whole = await past_of(store, at_ms, chance.choice((1, 5, 1000)))
        expect_past(found, whole, then, known or then == held)
    found, whole = await past_of(store, moments[0][0] - 7_200_000, 1000)
    expect_past(found, whole, {}, known=False)


@group.table({f"seed-{seed}": seed for seed in range(2)})
async def the_past_is_what_was_written(subject: Subject, seed: int) -> None:
    """240 random changes: at random moments before, pages of `past` give what the keys held then."""
    await _random_past(subject, seed, known=True, keep=10_000, days=3650)


@group.table({f"seed-{seed}": seed for seed in range(4)})
async def what_the_past_lost_is_told(subject: Subject, seed: int) -> None:
    """With `keep=2` or `days=1`: what is told of a moment is true, what is forgotten is admitted."""
    await _random_past(subject, seed, known=False, **({"days": 1} if seed % 2 else {"keep": 2, "days": 3650}))


@group.check()
async def the_past_stays_while_keys_change(subject: Subject) -> None:
    """Writes, deletes and keys that come again between pages: each page is of the same moment."""
    store = await opened(subject, keep=1000)
    held: Names = {}
    for number in range(40):
        held["scope", f"key-{number:02}"] = b"%d" % number
        await store.set("scope", f"key-{number:02}", b"%d" % number)
    await store.set(f"{PRIVATE_SCOPES}scope", "key", b"1")
    subject.clock.advance(1)
    at_ms = subject.clock.now_ms()
    subject.clock.advance(1)
    moment = await settled(store.adapter.moment_at(at_ms))
    chance = random.Random(1)
    keys: list[PastKey] = []
    after: str | None = None
    for _ in range(100):
        page = await settled(store.adapter.past(moment, after, 3))
        keys += page.keys
        expect(moment >= page.whole_from, "Writes made the past forgotten.")
        after = page.after
        if after is None:
            break
        for _ in range(10):
            key = f"key-{chance.randrange(60):02}"
            if chance.random() < 0.5:
                await store.delete("scope", key)
            else:
                await store.set("scope", key, b"0")
    expect(after is None, "Pages of the past do not end while keys change.")
    expect_past(keys, True, held, known=True)
    told = {(one.scope, one.key) for one in keys if one.value is not None}
    expect(told == set(held), "Pages of the past leave keys out while they change.")


@group.check(applies=ends_and_historical)
async def what_is_over_is_gone_in_its_versions(subject: Subject) -> None:
    """A key that is over and not swept yet: its newest version is that it is gone, made and told once."""
    store = await opened(subject)
    told: list[Change] = []
    store.adapter.on_expired = told.append
    for key, ms in (("over", 1000), ("later", 3_600_000)):
        await store.set("scope", key, b"1")
        await store.expire("scope", key, subject.clock.now_ms() + ms)
    subject.clock.advance(2)
    found = await versions_of(store, "over")
    values = [version.value for version in found]
    expect(values == [None, b"1"], f"The versions of a key that is over are {values}.")
    values = [version.value for version in await versions_of(store, "later")]
    expect(values == [b"1"], f"The versions of a key whose end is yet to come are {values}.")
    await store.sweep()
    expect(await versions_of(store, "over") == found, "The end of a key was made twice.")
    expect(subject.adapter_type.shared or len(told) == 1, f"The end of a key was told {len(told)} times.")
    subject.clock.advance(1)
    at_ms = subject.clock.now_ms()
    subject.clock.advance(1)
    keys, whole = await past_of(store, at_ms, 1000)
    expect_past(keys, whole, {("scope", "later"): b"1"}, known=True)
