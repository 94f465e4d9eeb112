"""`iii-skill state`: look at and mend the state of a host, an engine or a store."""

from __future__ import annotations

import click

from iii_skill.cli.exit_codes import EXIT_CODES
from iii_skill.cli.lazy import LazyVerb, Verbs

_CODES = " · ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
_HERE = "iii_skill.cli.state"

VERBS = {
    "scopes": LazyVerb(f"{_HERE}.read", "scopes", "All scopes, sorted.", ("scopes",)),
    "keys": LazyVerb(
        f"{_HERE}.read",
        "keys",
        "The keys of a scope, in order of first insertion.",
        ("keys shop --prefix chair:",),
    ),
    "list": LazyVerb(
        f"{_HERE}.read",
        "list_",
        "Keys and values of a scope, in order of first insertion.",
        ("list shop --json",),
    ),
    "get": LazyVerb(
        f"{_HERE}.read",
        "get",
        "The value under a key, as it is stored.",
        (
            "get shop chair",
            "get shop chair --pointer /stock",
        ),
    ),
    "set": LazyVerb(
        f"{_HERE}.write",
        "set_",
        "Store a value: JSON, or stdin without one (or with `-`).",
        (
            """set shop chair '{"stock": 3}'""",
            "set shop note --string 'Sold out'",
            "set shop chair --if-absent < chair.json",
        ),
    ),
    "update": LazyVerb(
        f"{_HERE}.write",
        "update",
        "Apply ops in one atomic step.",
        ("""update shop chair --op '{"type": "decrement", "path": "stock", "by": 1}'""",),
    ),
    "delete": LazyVerb(
        f"{_HERE}.write",
        "delete",
        "Remove a key, the keys of a prefix, or all keys of a scope.",
        (
            "delete shop note",
            "delete shop --prefix chair: --dry-run",
        ),
    ),
    "expire": LazyVerb(
        f"{_HERE}.expiry",
        "expire",
        "Have a key end after DURATION or at a moment.",
        (
            "expire shop chair 30m",
            "expire shop chair --clear",
        ),
    ),
    "watch": LazyVerb(
        f"{_HERE}.watch",
        "watch",
        "Changes as they happen.",
        (
            "watch shop --timeout 60",
            "watch --json --since now --timeout 60",
        ),
    ),
    "edit": LazyVerb(
        f"{_HERE}.edit",
        "edit",
        "Open a value in $EDITOR and store what was made of it.",
        ("edit shop chair",),
    ),
    "history": LazyVerb(
        f"{_HERE}.history",
        "history",
        "The versions of a key, the newest first.",
        ("history shop chair --limit 5",),
    ),
    "diff": LazyVerb(
        f"{_HERE}.history", "diff", "What is different from a version to another.", ("diff shop chair 1",)
    ),
    "revert": LazyVerb(
        f"{_HERE}.history", "revert", "Store a version of a key again.", ("revert shop chair 1 --dry-run",)
    ),
    "export": LazyVerb(
        f"{_HERE}.transfer",
        "export",
        "Write scopes (all without a name) as lines of JSON.",
        ("export shop -o shop.ndjson.gz",),
    ),
    "import": LazyVerb(
        f"{_HERE}.importing",
        "import_",
        "Read what `export` wrote: all of it, or nothing.",
        ("import shop.ndjson.gz --dry-run", "import - < shop.ndjson.gz"),
    ),
    "copy": LazyVerb(
        f"{_HERE}.transfer",
        "copy",
        "Copy scopes (all without a name) to another host.",
        ("copy shop --to ws://127.0.0.1:49135 --dry-run",),
    ),
    "backup": LazyVerb(
        f"{_HERE}.backup",
        "backup",
        "Copy a store of the adapter `file`, in use or not.",
        ("backup ../monday",),
    ),
}


@click.group(cls=Verbs, verbs=VERBS, epilog=f"Exit codes: {_CODES}.")
def state() -> None:
    """Look at and mend state: of a host or an engine (--url), or of a store (--data-dir, --redis-url).

    stdout is data, and values are written as they are stored; what is said about it goes to stderr.
    """
