"""Names: how one is written in each convention."""

from __future__ import annotations

import re

KEBAB = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def snake(name: str) -> str:
    """`line-item` -> `line_item`."""
    return name.replace("-", "_")


def kebab(name: str) -> str:
    """`line_item` -> `line-item`."""
    return name.replace("_", "-")


def constant(name: str) -> str:
    """`line-item` -> `LINE_ITEM`."""
    return snake(name).upper()


def words(name: str) -> str:
    """`line-item` -> `line item`."""
    return re.sub(r"[-_]", " ", name)


def pascal(name: str) -> str:
    """`line-item` -> `LineItem`."""
    return "".join(part.capitalize() for part in re.split(r"[-_]", name))


def camel(name: str) -> str:
    """`line-item` -> `lineItem`."""
    first, *rest = re.split(r"[-_]", name)
    return first + "".join(part.capitalize() for part in rest)


def plural(name: str) -> str:
    """The usual English plural; the option exists for all others."""
    if re.search(r"[^aeiou]y$", name):
        return name[:-1] + "ies"
    return name + ("es" if re.search(r"(s|x|z|ch|sh)$", name) else "s")
