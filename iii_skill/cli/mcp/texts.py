"""Values as an agent gets and gives them: JSON texts, exact, and never more than it can read."""

from __future__ import annotations

from iii_skill.cli.mcp.errors import ToolError
from iii_skill.readable import unreadable_because

VALUE_BYTES = 4096
"""The most that is shown of one value."""

PAGE_BYTES = 32_768
"""The most that is shown of all values of an answer together."""

GIVEN_BYTES = 1_048_576
"""The most that a text given by an agent may have."""


def shown(value: bytes, offset: int = 0, most: int = VALUE_BYTES) -> tuple[str, int | None]:
    """A piece of an encoded value from a byte on, and the byte at which the next piece begins, if any."""
    start, end = _character(value, offset, 1), min(offset + most, len(value))
    if end < len(value):
        end = _character(value, end, -1)
    return value[start:end].decode("utf-8"), end if end < len(value) else None


def _character(value: bytes, place: int, step: int) -> int:
    """The nearest place at which a character begins."""
    while 0 < place < len(value) and value[place] & 0xC0 == 0x80:
        place += step
    return min(place, len(value))


def given(text: str, name: str) -> bytes:
    """What an agent wrote as JSON, encoded as it stands; ToolError for what is no JSON, or too long."""
    try:
        raw = text.encode("utf-8").strip()
    except UnicodeEncodeError:
        raise ToolError(f"`{name}` holds half of a character (a lone surrogate).") from None
    if len(raw) > GIVEN_BYTES:
        raise ToolError(
            f"`{name}` has {len(raw)} bytes, and {GIVEN_BYTES} is the most here. "
            "Larger values: iii-skill state set, which reads stdin."
        )
    why = unreadable_because(raw)
    if why is not None:
        raise ToolError(f"`{name}` is no JSON text: {why}. A text is written with its quotes.")
    return raw
