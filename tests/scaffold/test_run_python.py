"""Each generated Python worker passes its tools, runs on our host and passes its own tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.projects import prove
from support.scaffold import chosen, label


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(len(chosen())), ids=[label(one) for one in chosen()])
def test_it_runs(number: int, tmp_path: Path) -> None:
    prove("python", chosen()[number], tmp_path / "project", own_host=number % 4 == 0)
