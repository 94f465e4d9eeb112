"""KEY=VALUE reads the same in every command that takes settings of an adapter."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from iii_skill.cli.adapter_options import settings_in, with_adapter
from iii_skill.cli.key_values import KEY_VALUE
from iii_skill.cli.main import cli
from iii_skill.config import StateConfig

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


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        ([], {}),
        (["a=1", "b=2", "a=3"], {"a": "3", "b": "2"}),
        (["history.keep=10"], {"history": {"keep": "10"}}),
        (["h.a=1", "x=.", "h.b=c.d", "h.a=2"], {"h": {"a": "2", "b": "c.d"}, "x": "."}),
        (["a.b.c=1", "a.d=2"], {"a": {"b": {"c": "1"}, "d": "2"}}),
    ],
)
def test_a_dot_leads_to_a_setting_of_a_setting(given: list[str], settings: dict[str, Any]) -> None:
    pairs = [KEY_VALUE.convert(text, None, None) for text in given]
    assert settings_in(pairs, "--adapter-config") == settings


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["history", "history.keep"], "'history' and 'history.keep' do not go together"),
        (["history.keep", "history"], "'history' and 'history.keep' do not go together"),
        (["a.b.c", "a.b"], "'a.b' and 'a.b.c' do not go together"),
        (["a.b", "a.b.c"], "'a.b' and 'a.b.c' do not go together"),
        ([".keep"], "'.keep' names no setting"),
        (["history."], "'history.' names no setting"),
        (["a..b"], "'a..b' names no setting"),
        (["."], "'.' names no setting"),
        ([".".join("a" * 9)], "names no setting"),
        ([".".join("a" * 100_000)], "names no setting"),
    ],
)
def test_names_that_lead_nowhere_are_one_sentence(names: list[str], sentence: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        settings_in([(name, "1") for name in names], "--from-config")
    assert sentence in caught.value.message
    assert caught.value.message.startswith("--from-config: ")
    assert len(caught.value.message) < 400


def test_the_command_line_lies_on_top_of_the_settings_of_the_file() -> None:
    file = StateConfig(
        adapter_name="file", adapter_config={"data_dir": "d", "history": {"keep": 5, "days": 2}, "x": None}
    )

    def with_settings(*pairs: tuple[str, str], adapter: str | None = None) -> dict[str, Any]:
        none: dict[str, Any] = dict.fromkeys(("data_dir", "redis_url", "database_url"))
        return with_adapter(file, adapter=adapter, adapter_config=pairs, **none).adapter_config

    below = file.adapter_config
    history = {"keep": "9", "days": 2}
    assert with_settings(("history.keep", "9")) == {"data_dir": "d", "history": history, "x": None}
    assert with_settings(("history", "9"), ("x.y", "1")) == {"data_dir": "d", "history": "9", "x": {"y": "1"}}
    assert with_settings(("history.keep", "9"), adapter="memory") == {"history": {"keep": "9"}}
    assert file.adapter_config == below


@pytest.mark.parametrize(("name", "code"), [("history.keep", 0), ("history.kept", 1)])
def test_the_kit_runs_with_settings_of_settings(name: str, code: int) -> None:
    words = ["adapter", "test", "file", "--only", "get-of-an-unknown", "--config", f"{name}=3"]
    result = CliRunner().invoke(cli, [*words, "--config", "data_dir={tmp}/x"])
    assert result.exit_code == code, result.output
    assert code == 0 or "history: unknown key 'kept'" in result.output
