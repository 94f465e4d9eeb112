"""Update: plan how a newer template, or other answers, come into a project that was edited since."""

from __future__ import annotations

import codecs
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from iii_skill.scaffold.errors import Conflict
from iii_skill.scaffold.merge import MARKER, merge
from iii_skill.scaffold.plan import FileAction, Step, check_destination, read, same_text
from iii_skill.scaffold.project import ANSWERS_FILE, BASE_FILE, Origin
from iii_skill.scaffold.template import Template


def kept_answers(template: Template, origin: Origin, given: Mapping[str, object]) -> dict[str, Any]:
    """The project's answers with the new ones on top; questions that the template dropped are left out."""
    kept = {name: value for name, value in origin.answers.items() if name in template.questions}
    return {**kept, **given}


def plan_update(
    directory: Path, files: Mapping[str, bytes], *, base: Mapping[str, bytes], label: str, reject: bool
) -> list[Step]:
    """A step per file of the last render, `base`, and of the new one, `files`.

    A file that you deleted stays deleted, one that you edited is merged, one that the template dropped goes
    only when you never touched it. With `reject` your text stays whole where it conflicts, and what the
    template wanted lies beside it as `.rej`. Conflict tells of what an earlier update left to be decided.
    """
    check_destination(directory, {**base, **files})
    _refuse_undecided(directory, [*files, *base])
    steps = []
    for path in [*files, *(path for path in base if path not in files)]:
        steps += _steps(directory, path, base.get(path), files.get(path), label=label, reject=reject)
    return steps


def _refuse_undecided(directory: Path, paths: Iterable[str]) -> None:
    for path in paths:
        if MARKER.encode() in (read(directory / path) or b"").splitlines():
            raise Conflict(
                f"Nothing was written: {directory / path} holds conflicts of an earlier update; "
                "choose what stays between its markers first."
            )
        beside = directory / f"{path}.rej"
        if beside.exists():
            raise Conflict(
                f"Nothing was written: {beside} is left of an earlier update; "
                "take what you want out of it and remove it first."
            )


def _steps(
    directory: Path, path: str, base: bytes | None, new: bytes | None, *, label: str, reject: bool
) -> list[Step]:
    current = read(directory / path)
    if new is None:
        if current is None:
            return []
        untouched = base is not None and same_text(current, base)
        return [Step(path, FileAction.DELETE if untouched else FileAction.SKIP, b"", current)]
    if current is None:
        return [Step(path, FileAction.CREATE if base is None else FileAction.SKIP, new, None)]
    if path in (ANSWERS_FILE, BASE_FILE):
        return [Step(path, FileAction.SAME if current == new else FileAction.OVERWRITE, new, current)]
    if same_text(current, new):
        return [Step(path, FileAction.SAME, current, current)]
    if base is not None and same_text(current, base):
        return [Step(path, FileAction.OVERWRITE, _written_as(current, new), current)]
    if base is not None and same_text(new, base):
        return [Step(path, FileAction.SAME, current, current)]
    return _merged(path, base or b"", current, new, label=label, reject=reject)


def _written_as(current: bytes, content: bytes) -> bytes:
    """The content with the line ends and the byte order mark of what it replaces."""
    if 0 < current.count(b"\n") == current.count(b"\r\n") and b"\0" not in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return codecs.BOM_UTF8 + content if current.startswith(codecs.BOM_UTF8) else content


def _merged(path: str, base: bytes, current: bytes, new: bytes, *, label: str, reject: bool) -> list[Step]:
    try:
        old_text, text, new_text = base.decode(), current.decode("utf-8-sig"), new.decode()
    except UnicodeDecodeError:
        return [Step(path, FileAction.SKIP, current, current, 1), _beside(path, new)]
    merged = merge(old_text, text, new_text, label=label)
    if merged.conflicts and reject:
        lines = (old_text.splitlines(keepends=True), new_text.splitlines(keepends=True))
        wanted = "".join(difflib.unified_diff(*lines, path, f"{path} ({label})"))
        return [
            Step(path, FileAction.SKIP, current, current, merged.conflicts),
            _beside(path, wanted.encode()),
        ]
    content = merged.text.encode()
    if current.startswith(codecs.BOM_UTF8):
        content = codecs.BOM_UTF8 + content
    return [Step(path, FileAction.MERGE, content, current, merged.conflicts)]


def _beside(path: str, content: bytes) -> Step:
    return Step(f"{path}.rej", FileAction.CREATE, content, None)
