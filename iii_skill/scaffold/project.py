"""Project: the two files by which a project remembers what it was made from.

`.iii-skill.toml` holds template, version and answers. `.iii-skill.base` is a zip archive of the files as they
were rendered: the common ancestor for the three-way merge of an update.
"""

from __future__ import annotations

import io
import tomllib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from iii_skill.scaffold.answers import plain
from iii_skill.scaffold.errors import AnswerError
from iii_skill.scaffold.template import Template

ANSWERS_FILE = ".iii-skill.toml"
BASE_FILE = ".iii-skill.base"
_HEAD = "# Written by `iii-skill scaffold`; `iii-skill scaffold update` reads it.\n"


@dataclass(frozen=True)
class Origin:
    """What a project was made from."""

    template: str
    version: str
    answers: Mapping[str, Any]


def project_files(
    template: Template, answers: Mapping[str, Any], rendered: Mapping[str, str]
) -> dict[str, bytes]:
    """Every file of a project: the rendered ones and the two that remember."""
    files = {path: text.encode() for path, text in rendered.items()}
    about = {"template": template.name, "package": template.package, "version": template.version}
    text = _HEAD + tomli_w.dumps({**about, "answers": plain(answers)})
    return {**files, ANSWERS_FILE: text.encode(), BASE_FILE: _pack(files)}


LARGEST_BASE = 64 * 1024 * 1024
"""Bytes of all rendered files together."""


def read_answers(path: Path) -> Origin:
    """An answers file; AnswerError says what is wrong with it."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise AnswerError(
            f"There is no {path}; the directory was not made by `iii-skill scaffold`."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise AnswerError(f"{path} cannot be read: {error}.") from None
    answers = data.get("answers")
    if not isinstance(data.get("template"), str) or not isinstance(answers, dict):
        raise AnswerError(f"{path} needs `template` and a table [answers].")
    return Origin(data["template"], str(data.get("version", "")), answers)


def read_base(directory: Path) -> dict[str, bytes]:
    """The files as they were rendered last; empty when the archive is missing or damaged."""
    path = directory / BASE_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise AnswerError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _unpacked(archive)
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return {}


def _pack(files: Mapping[str, bytes]) -> bytes:
    """The archive; equal files give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(files):
            archive.writestr(zipfile.ZipInfo(path), files[path], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _unpacked(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """The files of an archive; BadZipFile when they are more than a template renders."""
    files: dict[str, bytes] = {}
    left = LARGEST_BASE
    for name in archive.namelist():
        with archive.open(name) as file:
            # What the archive says of its sizes is not believed.
            files[name] = file.read(left + 1)
        left -= len(files[name])
        if left < 0:
            raise zipfile.BadZipFile("it holds more than a template renders")
    return files
