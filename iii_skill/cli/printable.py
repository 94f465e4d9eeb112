"""Texts of others on a terminal: what would move the cursor, colour or begin a line becomes an escape."""

from __future__ import annotations


def printable(text: str, *, lines: bool = False) -> str:
    """The text with `\\x1b`, `\\n` and the like for what cannot be printed; with `lines`, line ends stay."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or (lines and letter == "\n") else _escaped(letter) for letter in text
    )


def _escaped(letter: str) -> str:
    # By hand: the codec for it would be loaded now, which fails when no file can be opened.
    number = ord(letter)
    known = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(letter)
    return known or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")
