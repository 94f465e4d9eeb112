"""KEY=VALUE reads the same in every command that takes settings of an adapter."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from iii_skill.cli.key_values import KEY_VALUE
from iii_skill.cli.main import cli

COMMANDS = {
    "serve": ("serve", "--adapter-config"),
    "attach": ("attach", "--adapter-config"),
    "migrate, target": ("migrate", "--from", "file", "--to", "file", "--adapter-config"),
    "migrate, source": ("migrate", "--from", "file", "--to", "file", "--from-config"),
    "adapter test": ("adapter", "test", "memory", "--config"),
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("text", ["data_dir", "=here", ""])
def test_what_has_no_key_or_no_equals_sign_is_a_wrong_call(words: tuple[str, ...], text: str) -> None:
    result = CliRunner().invoke(cli, [*words, text])
    assert result.exit_code == 2
    assert f"'{text}' is not KEY=VALUE." in result.output
    assert words[-1] in result.output


@pytest.mark.parametrize(
    ("text", "pair"),
    [("a=b", ("a", "b")), ("a=", ("a", "")), ("url=redis://h?x=1&y=2", ("url", "redis://h?x=1&y=2"))],
)
def test_the_first_equals_sign_parts_key_and_value(text: str, pair: tuple[str, str]) -> None:
    assert KEY_VALUE.convert(text, None, None) == pair
