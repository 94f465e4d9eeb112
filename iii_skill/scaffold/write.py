"""Write: carry out a plan completely or not at all.

Everything is written into a directory beside the destination first (inside it, when it exists), so a full
disk or a missing right shows before anything of the user's is touched. A new destination then appears by
one rename. In one that exists, files are swapped one by one, their old form kept aside; SIGINT, SIGTERM and
errors put all of them back.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from iii_skill.scaffold.errors import UnsafePath, WriteFailed
from iii_skill.scaffold.plan import WRITES, FileAction, Step, read

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STAGE = ".iii-skill-"
_GIT_ELSEWHERE = frozenset(
    f"GIT_{name}"
    for name in (
        "DIR", "WORK_TREE", "INDEX_FILE", "COMMON_DIR", "OBJECT_DIRECTORY", "NAMESPACE", "PREFIX",
        "ALTERNATE_OBJECT_DIRECTORIES", "CONFIG", "CONFIG_PARAMETERS", "CONFIG_COUNT", "SHALLOW_FILE",
        "GRAFT_FILE", "IMPLICIT_WORK_TREE", "CEILING_DIRECTORIES",
    )
)  # fmt: skip
"""What git sets for its hooks, and what leads it to another repository than the one that is to be made."""


class Interrupted(BaseException):
    """A signal came while files were written; everything is as it was before."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def write(destination: Path, steps: Sequence[Step], *, git: bool = False) -> None:
    """Carry out the steps; WriteFailed or Interrupted mean that nothing was changed."""
    destination = Path(os.path.realpath(destination))
    missing = [path for path in (destination.parent, *destination.parent.parents) if not path.exists()]
    inside = destination.is_dir()  # beside it could be another disk
    stage = (destination if inside else destination.parent) / f"{_STAGE}{secrets.token_hex(6)}"
    with _signals_raise():
        try:
            try:
                stage.mkdir(parents=True)
                _write_into(stage, destination, steps, git=git)
            finally:
                shutil.rmtree(stage, ignore_errors=True)
        except BaseException as error:
            for path in missing:
                with suppress(OSError):
                    path.rmdir()
            if isinstance(error, OSError):
                raise WriteFailed.of(error, destination) from error
            raise


def leftovers(destination: Path) -> list[Path]:
    """What killed runs left in the destination; `old` in them holds files as they were before."""
    return sorted(destination.glob(f"{_STAGE}*/"))


def _write_into(stage: Path, destination: Path, steps: Sequence[Step], *, git: bool) -> None:
    new = stage / "new"
    new.mkdir()
    for step in steps:
        if step.action in WRITES:
            target = new / step.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(step.content)
    if git:
        _git_init(new)
    if not destination.exists():
        with _signals_wait():
            new.rename(destination)
        return
    _swap(new, stage / "old", destination, steps)


def _swap(new: Path, old: Path, destination: Path, steps: Sequence[Step]) -> None:
    """Move new files in and keep what they replace; on any error undo it, newest first."""
    undo: list[Callable[[], object]] = []
    with _signals_wait() as raise_if_signalled:
        try:
            for step in steps:
                raise_if_signalled()
                if step.action in WRITES or step.action is FileAction.DELETE:
                    _swap_one(new, old, destination, step, undo)
            if (new / ".git").exists() and not (destination / ".git").exists():
                (new / ".git").rename(destination / ".git")
        except BaseException:
            for action in reversed(undo):
                action()
            raise


def _swap_one(new: Path, old: Path, destination: Path, step: Step, undo: list[Callable[[], object]]) -> None:
    """Swap one file, or what a link leads to; at no moment is the user's file missing."""
    named, kept = destination / step.path, old / step.path
    target = Path(os.path.realpath(named))
    if not target.is_relative_to(destination):
        raise UnsafePath(f"{named} became a link that leads out of {destination}; nothing was written.")
    if step.action is FileAction.DELETE:
        target = named  # only the link goes
    for parent in reversed(target.parents):
        if not parent.exists():
            parent.mkdir()
            undo.append(parent.rmdir)
    if read(target) != step.current:
        raise WriteFailed(
            f"Nothing was written: {target} was changed by another program meanwhile; run it again."
        )
    if step.current is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(target, kept, follow_symlinks=False)
        undo.append(lambda: kept.replace(target))
    if step.action is FileAction.DELETE:
        target.unlink()
        return
    if step.current is not None:
        shutil.copymode(target, new / step.path)
    else:
        undo.append(lambda: target.unlink(missing_ok=True))
    (new / step.path).replace(target)


def _git_init(directory: Path) -> None:
    git = shutil.which("git")
    if git is None:
        raise WriteFailed("Nothing was written: git is not installed; use --no-git.")
    environment = {name: value for name, value in os.environ.items() if name not in _GIT_ELSEWHERE}
    done = subprocess.run(
        [git, "init", "-q", str(directory)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise WriteFailed(f"Nothing was written: git init failed: {done.stderr.strip()}.")


@contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGINT and SIGTERM become Interrupted, so that everything is cleaned up."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number)

    with _handling(interrupt):
        yield


@contextmanager
def _signals_wait() -> Iterator[Callable[[], None]]:
    """Signals wait while files are moved; the given function raises when one has come."""
    came: list[int] = []

    def raise_if_signalled() -> None:
        if came:
            raise Interrupted(came[0])

    with _handling(lambda number, _frame: came.append(number)):
        yield raise_if_signalled


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    try:
        before = [(number, signal.signal(number, handler)) for number in _SIGNALS]
    except ValueError:  # not the main thread: signals go elsewhere
        yield
        return
    try:
        yield
    finally:
        for number, previous in before:
            signal.signal(number, previous)
