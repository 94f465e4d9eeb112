"""Values: encoded JSON comes back byte for byte, whatever its spelling and size."""

from __future__ import annotations

from iii_skill.testing.checks import Group
from iii_skill.testing.subject import Subject, expect

group = Group("values")

VALUES: dict[str, bytes] = {
    "null": b"null",
    "true": b"true",
    "false": b"false",
    "zero": b"0",
    "minus-zero": b"-0.0",
    "one-point-zero": b"1.0",
    "exponent": b"1E+2",
    "largest-double": b"1.7976931348623157e308",
    "smallest-double": b"5e-324",
    "above-two-to-the-53": b"9007199254740993",
    "sixteen-digits": b"1234567890123456",
    "unsigned-64": b"18446744073709551615",
    "beyond-64-bits": b"123456789012345678901234567890",
    "long-fraction": b"0.1000000000000000055511151231257827",
    "empty-string": b'""',
    "string": b'"text"',
    "string-of-digits": b'"1"',
    "string-null": b'"null"',
    "escapes": rb'"\"\\\/\b\f\n\r\t"',
    "escaped-nul": rb'"\u0000"',
    "escaped-surrogates": rb'"\ud83d\ude00"',
    "escaped-ascii": rb'"\u0041"',
    "raw-astral": '"😀"'.encode(),
    "raw-combining": '"e\u0301"'.encode(),
    "raw-line-separators": '"\u2028\u2029"'.encode(),
    "raw-delete": b'"\x7f"',
    "empty-array": b"[]",
    "empty-object": b"{}",
    "nested-empties": b'{"a":[],"b":{},"c":[{}],"d":[[]]}',
    "key-order": b'{"b":1,"a":2,"10":3,"9":4}',
    "duplicate-keys": b'{"a":1,"a":2}',
    "empty-key": b'{"":0}',
    "space-around": b"  1  ",
    "space-inside": b'{ "a" : [ 1 , 2 ] }',
    "line-breaks": b'{\r\n\t"a":\r1\n}\n',
    "deep-array": b"[" * 500 + b"]" * 500,
    "deep-object": b'{"a":' * 200 + b"1" + b"}" * 200,
    "64-kilobytes": b'"' + b"x" * 65_534 + b'"',
    "one-megabyte": b'"' + b"0123456789abcdef" * 65_536 + b'"',
    "100000-elements": b"[" + b"0," * 99_999 + b"0]",
}


@group.table(VALUES)
async def set_value(subject: Subject, value: bytes) -> None:
    """A value that was set comes back byte for byte from get, list and the Changes."""
    store = await subject.open()
    change = await store.set("scope", "key", value)
    expect(change.new == value, "The Change of `set` has other bytes than were set.")
    expect(await store.get("scope", "key") == value, "`get` gives other bytes than were set.")
    expect(await store.list("scope") == [("key", value)], "`list` gives other bytes than were set.")
    expect((await store.delete("scope", "key")).old == value, "`delete` tells other bytes than were set.")


@group.table(VALUES)
async def update_value(subject: Subject, value: bytes) -> None:
    """A value that a `change` returned comes back byte for byte, also as the next one's argument."""
    store = await subject.open()
    await store.update("scope", "key", lambda _old: value)
    seen: list[bytes | None] = []

    def look(old: bytes | None) -> bytes:
        seen.append(old)
        return b"0"

    change = await store.update("scope", "key", look)
    expect(seen[-1] == value, "`change` was given other bytes than were stored.")
    expect(change.old == value, "The Change of `update` has other old bytes than were stored.")


@group.check()
async def large_scope(subject: Subject) -> None:
    """20 values of 200 kilobytes in one scope come back whole."""
    store = await subject.open()
    values = {f"key-{number}": b'"%04d%s"' % (number, b"v" * 200_000) for number in range(20)}
    for key, value in values.items():
        await store.set("scope", key, value)
    expect(dict(await store.list("scope")) == values, "`list` of 4 MB of values lost or mixed up some.")
