"""Answers files and archives that are not what they should be."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from iii_skill.scaffold.errors import AnswerError
from iii_skill.scaffold.project import ANSWERS_FILE, BASE_FILE, LARGEST_BASE, read_answers, read_base


@pytest.mark.parametrize(
    "content",
    [b"a=" + b"[" * 100_000, b"\xff\xfe", b"\0" * 1000, b"answers = 5", b"a = 1\na = 2", b"template = 'x'"],
    ids=["nested", "utf8", "zeros", "no table", "twice", "no answers"],
)
def test_an_odd_answers_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ANSWERS_FILE
    path.write_bytes(content)
    with pytest.raises(AnswerError):
        read_answers(path)


def test_an_archive_that_unpacks_without_end_counts_as_damaged(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / BASE_FILE, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", b"\0" * (LARGEST_BASE + 1))
    assert (tmp_path / BASE_FILE).stat().st_size < 1_000_000
    assert read_base(tmp_path) == {}
