"""Markdown pages as tests see them: fenced blocks with their directive, links and headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```([\w+-]*)[ ]*(.*)$")


@dataclass(frozen=True)
class Block:
    """One fenced block; `directive` is what follows the language in its info string."""

    page: Path
    line: int
    language: str
    directive: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order; an unclosed one is an error."""
    found: list[Block] = []
    inside: list[str] | None = None
    line, language, directive = 0, "", ""
    for number, content in enumerate(page.read_text().splitlines(), start=1):
        if inside is None:
            if opening := FENCE.match(content):
                line, language, directive = number, opening[1], opening[2].strip()
                inside = []
        elif content.rstrip() == "```":
            found.append(Block(page, line, language, directive, "\n".join(inside) + "\n"))
            inside = None
        else:
            inside.append(content)
    if inside is not None:
        raise ValueError(f"{page.name}:{line}: the block is not closed")
    return found


def prose(text: str) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def links(text: str) -> list[str]:
    """The targets of the inline links of a page, code left out."""
    without_code = re.sub(r"`[^`\n]*`", "``", prose(text))
    return re.findall(r"\]\(([^)\s]+)\)", without_code)


def headings(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
