"""Three versions of a JSON text become one: both changes to a value in one, member by member; pure."""

from __future__ import annotations

import msgspec


class Overlap(Exception):
    """Both sides changed the same part; the argument is its JSON pointer."""


def merged(base: bytes, theirs: bytes, mine: bytes, where: str = "") -> bytes:
    """Both changes in one value, member by member; Overlap where both changed the same."""
    same = [msgspec.json.format(one, indent=-1) for one in (base, theirs, mine)]
    if same[1] == same[2] or same[0] == same[1]:
        return mine
    if same[0] == same[2]:
        return theirs
    sides = [_members(one) for one in (base, theirs, mine)]
    if any(side is None for side in sides):
        raise Overlap(where or "/")
    old, left, right = sides
    assert old is not None
    assert left is not None
    assert right is not None
    result: dict[str, msgspec.Raw] = {}
    for name in [*left, *(name for name in right if name not in left)]:
        pointer = f"{where}/{name.replace('~', '~0').replace('/', '~1')}"
        one, two, three = (side.get(name) for side in (old, left, right))
        if two is None or three is None:
            changed = three if two is None else two
            # One side removed it: fine unless the other one changed it.
            if one is None:
                assert changed is not None
                result[name] = changed
            elif bytes(changed or b"") != bytes(one):
                raise Overlap(pointer)
        elif one is None:
            if bytes(two) != bytes(three):
                raise Overlap(pointer)
            result[name] = two
        else:
            result[name] = msgspec.Raw(merged(bytes(one), bytes(two), bytes(three), pointer))
    return msgspec.json.encode(result)


def _members(value: bytes) -> dict[str, msgspec.Raw] | None:
    if value.lstrip()[:1] != b"{":
        return None
    members = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    # A name that comes twice is one member here: such an object is changed as a whole, or one would be lost.
    same = msgspec.json.format(msgspec.json.encode(members), indent=-1) == msgspec.json.format(
        value, indent=-1
    )
    return members if same else None
