"""The reference workers are the default renders of the templates."""

from __future__ import annotations

import pytest

from iii_skill.scaffold.catalog import bundled_directory
from iii_skill.scaffold.references import SOURCES, reference


@pytest.mark.parametrize("template", SOURCES)
def test_the_reference_is_the_default_render(template: str) -> None:
    name, text = reference(template)
    stored = (bundled_directory().parent / "references" / name).read_text(encoding="utf-8")
    assert stored == text, "run scripts/references"
