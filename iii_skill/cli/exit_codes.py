"""The exit codes of `state` and `trigger`; `references/terminal.md` has the same table."""

from __future__ import annotations

FAILED, USAGE, NOT_FOUND, CONFLICT, UNREACHABLE, REFUSED, LEFT, INTERRUPTED = 1, 2, 3, 4, 5, 6, 7, 130
EXIT_CODES = {
    0: "done",
    FAILED: "failed",
    USAGE: "wrong use of the command",
    NOT_FOUND: "no such key, scope or function",
    CONFLICT: "somebody else changed it first",
    UNREACHABLE: "nothing answers, or not in time",
    REFUSED: "the value is refused",
    LEFT: "a part was left behind",
    INTERRUPTED: "interrupted",
}
