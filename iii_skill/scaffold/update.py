"""Update: plan how a newer template, or other answers, come into a project that was edited since."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iii_skill.scaffold.errors import Conflict
from iii_skill.scaffold.merge import MARKER, merge
from iii_skill.scaffold.plan import Action, Step, check_destination, read
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
    steps = []
    for path in [*files, *(path for path in base if path not in files)]:
        steps += _steps(directory, path, base.get(path), files.get(path), label=label, reject=reject)
    return steps


def _steps(
    directory: Path, path: str, base: bytes | None, new: bytes | None, *, label: str, reject: bool
) -> list[Step]:
    current = read(directory / path)
    if new is None:
        if current is None:
            return []
        action = Action.DELETE if current == base else Action.SKIP
        return [Step(path, action, b"", current)]
    if current is None:
        return [Step(path, Action.CREATE if base is None else Action.SKIP, new, None)]
    if current == new:
        return [Step(path, Action.SAME, new, current)]
    if current == base or path in (ANSWERS_FILE, BASE_FILE):
        return [Step(path, Action.OVERWRITE, new, current)]
    if new == base:
        return [Step(path, Action.SAME, current, current)]
    return _merged(directory, path, base or b"", current, new, label=label, reject=reject)


def _merged(
    directory: Path, path: str, base: bytes, current: bytes, new: bytes, *, label: str, reject: bool
) -> list[Step]:
    try:
        old_text, text, new_text = base.decode(), current.decode(), new.decode()
    except UnicodeDecodeError:
        return [Step(path, Action.SKIP, current, current, 1), _beside(directory, path, new)]
    if MARKER in text.splitlines():
        raise Conflict(
            f"Nothing was written: {directory / path} holds conflicts of an earlier update; "
            "choose what stays between its markers first."
        )
    merged = merge(old_text, text, new_text, label=label)
    if merged.conflicts and reject:
        lines = (old_text.splitlines(keepends=True), new_text.splitlines(keepends=True))
        wanted = "".join(difflib.unified_diff(*lines, path, f"{path} ({label})"))
        return [
            Step(path, Action.SKIP, current, current, merged.conflicts),
            _beside(directory, path, wanted.encode()),
        ]
    return [Step(path, Action.MERGE, merged.text.encode(), current, merged.conflicts)]


def _beside(directory: Path, path: str, content: bytes) -> Step:
    name = f"{path}.rej"
    current = read(directory / name)
    if current not in (None, content):
        raise Conflict(
            f"Nothing was written: {directory / name} is left of an earlier update; "
            "take what you want out of it and remove it first."
        )
    return Step(name, Action.CREATE if current is None else Action.SAME, content, current)
