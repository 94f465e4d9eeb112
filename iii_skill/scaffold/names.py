"""Names: how one is written in each convention, and which ones a language does not allow."""

from __future__ import annotations

import re

KEBAB = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


RESERVED = {
    "python": _words(
        "and as assert async await break case class continue def del elif else except false finally for "
        "from global if import in is lambda match none nonlocal not or pass raise return true try type "
        "while with yield"
    ),
    "javascript": _words(
        "abstract arguments await boolean break byte case catch char class const continue debugger "
        "default delete do double else enum eval export extends false final finally float for function "
        "goto if implements import in instanceof int interface let long native new null package private "
        "protected public return short static super switch synchronized this throw throws transient true "
        "try typeof undefined var void volatile while with yield"
    ),
    "rust": _words(
        "abstract as async await become box break const continue core crate do dyn else enum extern false "
        "final fn for gen if impl in let loop macro match mod move mut override priv pub ref return self "
        "static std struct super test trait true try type typeof union unsafe unsized use virtual where "
        "while yield alloc"
    ),
}
"""Words that are no identifiers in a language, in lower case."""
RESERVED["typescript"] = RESERVED["javascript"] | _words(
    "any as asserts bigint constructor declare is keyof module namespace never object of readonly "
    "require string symbol type unique unknown"
)

TAKEN = _words(
    "iii iii-sdk iii-helpers iii-skill iii-observability node-modules favicon tokio serde serde-json "
    "uuid chrono con prn aux nul __proto__ constructor prototype"
)
"""Names of packages that a worker depends on, and words that file systems or stores refuse."""


def fault(name: str, language: str) -> str | None:
    """Why `name` cannot be used in `language`, or None."""
    if name in TAKEN:
        return f"'{name}' is taken"
    languages = RESERVED if language == "none" else {language: RESERVED.get(language, frozenset())}
    for known, words in languages.items():
        if name.replace("-", "_") in words:
            return f"'{name}' is a reserved word of {known}"
    return None


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
