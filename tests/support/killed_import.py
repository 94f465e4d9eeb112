"""An import of the command line that is killed at one point after another; prints what each left.

`python -P killed_import.py OPTIONS FILE OLD POINTS`: `OPTIONS` are the words that name the store (JSON). OLD
is imported before each run, FILE with --replace is what is killed. Every run is a fork of this process, and
its points are the writes and commands that it makes: the first run counts them, each of the others ends with
SIGKILL at one of them, the last one when all is done. One line of JSON: how many points there are, and
`old`, `new` or a mix for each.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from iii_state_file.adapter import FileAdapter
from iii_state_file.writer import BatchWriter
from iii_state_postgres.session import Session
from iii_state_redis.pipeline import Pipeline

from iii_skill.cli.main import cli
from iii_skill.cli.state import importing

importing.PART_ROWS = 100

OPTIONS: list[str] = []
WATCHED = (
    (FileAdapter, "update"),
    (BatchWriter, "_commit"),
    (Session, "fetch"),
    (Session, "close"),
    (Pipeline, "_write"),
    (Pipeline, "data_received"),
)


def in_child(work: Callable[[], Any]) -> tuple[int, Any]:
    """How a fork ended that did the work, and what it gave."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            found = work()
            os.write(writing, json.dumps(found).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    return status, json.loads(text) if text else None


def run(*words: str) -> None:
    """One command of the command line; what it says goes to stderr."""
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    try:
        cli(["state", *words, *OPTIONS], standalone_mode=False)
    except SystemExit as end:
        if end.code:
            raise


def killed(file: str, at: int | None) -> int:
    """Import the file; SIGKILL at the point, or behind the last one. How many points there were."""
    count = 0

    def watched(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for owner, name in WATCHED:
        setattr(owner, name, watched(getattr(owner, name)))
    run("import", file, "--replace", "--yes")
    if at is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return count


def content(file: str) -> str:
    """Everything in the store, as an export says it."""
    run("export", "--output", file)
    with open(file) as lines:
        return "".join(sorted(list(lines)[1:-1]))


def main() -> None:
    """Count, kill, look."""
    OPTIONS.extend(json.loads(sys.argv[1]))
    file, old_file, points = sys.argv[2], sys.argv[3], int(sys.argv[4])

    def restore() -> None:
        assert in_child(lambda: run("import", old_file, "--replace", "--yes"))[0] == 0

    def found() -> str:
        status, text = in_child(lambda: content(f"{file}.out"))
        assert status == 0
        return str(text)

    restore()
    old = found()
    status, count = in_child(lambda: killed(file, None))
    assert status == 0, status
    new = found()
    outcomes = []
    # What a socket brings comes in more or fewer parts in each run: only the last one is sure to be done.
    among = [1 + number * (count - 1) // max(1, points - 2) for number in range(points - 1)]
    for at in (*among, sys.maxsize):
        restore()
        status, _ = in_child(lambda at=at: killed(file, at))  # type: ignore[misc]
        assert os.WIFSIGNALED(status), (at, status)
        left = found()
        outcomes.append("old" if left == old else "new" if left == new else f"mix at {at}")
    print(json.dumps({"points": count, "differ": old != new, "outcomes": outcomes}))


if __name__ == "__main__":
    main()
