"""Strings: scope and key are any string; none is changed, joined with another or taken for a path."""

from __future__ import annotations

import os

from iii_skill.testing.checks import Group
from iii_skill.testing.subject import Subject, expect

group = Group("strings")

STRINGS: dict[str, str] = {
    "empty": "",
    "space": " ",
    "spaces-around": " a ",
    "nul": "\0",
    "nul-inside": "a\0b",
    "controls": "\x01\x02\x1b\x7f",
    "tab-and-line-breaks": "\t\r\n",
    "next-line": "\x85",
    "line-separators": "\u2028\u2029",
    "dot": ".",
    "dot-dot": "..",
    "climbing-path": "../../../etc/passwd",
    "absolute-path": "/etc/passwd",
    "windows-path": "C:\\Windows\\..\\x",
    "unc-path": "\\\\host\\share",
    "home": "~",
    "reserved-file-names": "CON",
    "slash": "/",
    "backslash": "\\",
    "trailing-slash": "a/",
    "colons": ":a::b:",
    "pipes": "a|b",
    "percent": "%2F%00",
    "plus": "a+b",
    "quotes": "'\"`",
    "sql": "'; DROP TABLE state; --",
    "wildcards": "*?[a-z]{x}%_",
    "braces": "{tag}a{b}",
    "json": '{"a":1}',
    "null-word": "null",
    "digits": "007",
    "minus": "-1",
    "dollar": "${HOME}$(id)",
    "hash": "#",
    "dunder": "__proto__",
    "reserved-words": "constructor",
    "at": "@",
    "nfc": "\u00e9",
    "nfd": "e\u0301",
    "case": "StraßE",
    "astral": "😀\U0010ffff",
    "joined-emoji": "👩‍👩‍👧",
    "right-to-left": "\u202eabc\u200f",
    "zero-width": "a\u200bb\ufeff",
    "private-use": "\ue000\uffff",
    "10000-characters": "k" * 10_000,
    "10000-astral-characters": "😀" * 10_000,
}

TWINS: dict[str, tuple[str, str]] = {
    "nfc-and-nfd": ("\u00e9", "e\u0301"),
    "compatibility-forms": ("ﬁ", "fi"),
    "kelvin-and-k": ("\u212a", "K"),
    "upper-and-lower-case": ("Users", "users"),
    "sharp-s": ("ß", "ss"),
    "turkish-i": ("ı", "i"),
    "empty-and-nul": ("", "\0"),
    "empty-and-space": ("", " "),
    "trailing-nul": ("a", "a\0"),
    "trailing-space": ("a", "a "),
    "trailing-dot": ("a", "a."),
    "trailing-slash": ("a", "a/"),
    "both-slashes": ("a/b", "a\\b"),
    "line-breaks": ("a\n", "a\r\n"),
    "dot-segments": ("b", "a/../b"),
    "percent-encoding": ("A", "%41"),
    "plus-and-space": ("a+b", "a b"),
    "leading-zero": ("1", "01"),
    "number-and-float": ("1", "1.0"),
    "any-and-a": ("a", "*"),
    "underscore-wildcard": ("a_c", "abc"),
    "null-and-empty": ("", "null"),
    "byte-order-mark": ("a", "\ufeffa"),
    "zero-width": ("ab", "a\u200bb"),
    "same-10000-but-last": ("k" * 9_999 + "a", "k" * 9_999 + "b"),
    "prefix": ("k" * 255, "k" * 256),
}

JOINED: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    f"by-{label}": ((f"a{joint}b", "c"), ("a", f"b{joint}c"))
    for label, joint in {
        "colon": ":",
        "two-colons": "::",
        "slash": "/",
        "backslash": "\\",
        "nul": "\0",
        "two-nuls": "\0\0",
        "unit-separator": "\x1f",
        "record-separator": "\x1e",
        "dot": ".",
        "pipe": "|",
        "hyphen": "-",
        "underscore": "_",
        "space": " ",
        "line-break": "\n",
        "comma": ",",
        "hash": "#",
        "tab": "\t",
        "last-byte": "\xff",
        "nothing": "",
    }.items()
}


@group.table(STRINGS)
async def any_key(subject: Subject, text: str) -> None:
    """A key may be any string."""
    store = await subject.open()
    change = await store.set("scope", text, b"1")
    expect(change.key == text, "The Change names another key than was set.")
    expect(await store.get("scope", text) == b"1", "`get` does not find the key that was set.")
    expect(await store.list("scope") == [(text, b"1")], "`list` gives another key than was set.")
    expect(await store.keys("scope") == [text], "`keys` gives another key than was set.")
    await store.delete("scope", text)
    expect(await store.get("scope", text) is None, "The key is still there after `delete`.")


@group.table(STRINGS)
async def any_scope(subject: Subject, text: str) -> None:
    """A scope may be any string."""
    store = await subject.open()
    change = await store.set(text, "key", b"1")
    expect(change.scope == text, "The Change names another scope than was set.")
    expect(await store.get(text, "key") == b"1", "`get` does not find a key in the scope it was set in.")
    expect(await store.list(text) == [("key", b"1")], "`list` does not give the key of the scope.")
    expect(await store.scopes() == [text], "`scopes` gives another scope than was set.")
    await store.delete(text, "key")
    expect(await store.scopes() == [], "The scope is still there after its last key went.")


@group.table(TWINS)
async def twin_keys(subject: Subject, pair: tuple[str, str]) -> None:
    """Two keys that look alike are two keys."""
    store = await subject.open()
    for key, value in zip(pair, (b"1", b"2"), strict=True):
        await store.set("scope", key, value)
    expect(await store.list("scope") == [(pair[0], b"1"), (pair[1], b"2")], "Two keys were taken for one.")
    await store.delete("scope", pair[0])
    expect(await store.get("scope", pair[1]) == b"2", "A delete of one key removed the other.")


@group.table(TWINS)
async def twin_scopes(subject: Subject, pair: tuple[str, str]) -> None:
    """Two scopes that look alike are two scopes."""
    store = await subject.open()
    for scope, value in zip(pair, (b"1", b"2"), strict=True):
        await store.set(scope, "key", value)
    expect(sorted(await store.scopes()) == sorted(pair), "Two scopes were taken for one.")
    expect(await store.get(pair[0], "key") == b"1", "A set in one scope changed another.")
    await store.delete(pair[0], "key")
    expect(await store.list(pair[1]) == [("key", b"2")], "A delete in one scope removed the other's key.")


@group.table(JOINED)
async def joined(subject: Subject, places: tuple[tuple[str, str], tuple[str, str]]) -> None:
    """Scope and key stay apart, also where joining them would give one string."""
    store = await subject.open()
    (scope, key), (other_scope, other_key) = places
    await store.set(scope, key, b"1")
    await store.set(other_scope, other_key, b"2")
    expect(await store.get(scope, key) == b"1", "The key of one scope was overwritten from another scope.")
    expect(
        await store.list(other_scope) == [(other_key, b"2")], "`list` of a scope gives another scope's keys."
    )
    await store.delete(scope, key)
    expect(await store.get(other_scope, other_key) == b"2", "A delete reached a key of another scope.")


@group.check()
async def strings_never_name_files(subject: Subject) -> None:
    """No scope or key becomes the name of a file or directory."""
    store = await subject.open()
    mark = "iii-kit-mark"
    for text in (mark, f"../{mark}", str(subject.place / mark)):
        await store.set(text, "key", b"1")
        await store.set("scope", text, b"1")
    roots = {subject.place, *([store.adapter.data_dir] if store.adapter.data_dir else [])}
    for root in roots:
        for folder, folders, files in os.walk(root):
            named = [name for name in (*folders, *files) if mark in name.lower()]
            expect(not named, f"A scope or key became the file {named[:1]} in {folder}.")
