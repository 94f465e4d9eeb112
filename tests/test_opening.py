"""Opening an adapter ends in one sentence, wherever it is opened and whatever it raises."""

from __future__ import annotations

import asyncio
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.unopenable_plugin import Unopenable

from iii_skill import open_host
from iii_skill.cli.main import cli
from iii_skill.errors import StoreRefused
from iii_skill.plugins import Plugins, load_plugins

SENTENCE = "The adapter 'unopenable' cannot be opened: ValueError: the shelf is not there"


def plugins() -> Plugins:
    point = metadata.EntryPoint("unopenable_plugin", "support.unopenable_plugin", "iii_skill")
    return load_plugins([*metadata.entry_points(group="iii_skill"), point])


@pytest.fixture(autouse=True)
def _none_was_closed() -> None:
    Unopenable.closed = 0


async def test_of_a_host() -> None:
    with pytest.raises(StoreRefused, match=SENTENCE):
        async with open_host(adapter="unopenable", plugins=plugins()):
            raise AssertionError("it is open")
    assert Unopenable.closed == 1


async def test_whose_close_fails_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def close(_adapter: Unopenable) -> None:
        raise RuntimeError("no shelf to leave")

    monkeypatch.setattr(Unopenable, "close", close)
    with pytest.raises(StoreRefused, match=SENTENCE):
        async with open_host(adapter="unopenable", plugins=plugins()):
            raise AssertionError("it is open")
    assert "the adapter 'unopenable' was not opened, and its `close` failed" in caplog.text
    assert "no shelf to leave" in caplog.text


async def test_whose_close_does_not_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def close(_adapter: Unopenable) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Unopenable, "close", close)
    monkeypatch.setattr("iii_skill.state.closing.LEAST_S", 0.01)
    monkeypatch.setattr("iii_skill.opening.GRACE_S", 0.01)
    with pytest.raises(StoreRefused, match=SENTENCE):
        async with open_host(adapter="unopenable", plugins=plugins()):
            raise AssertionError("it is open")
    assert "`close` of the adapter 'unopenable' has not ended" in caplog.text


def test_of_attach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iii_skill.cli.attach.load_plugins", plugins)
    result = CliRunner().invoke(cli, ["attach", "--engine", "ws://127.0.0.1:1", "--adapter", "unopenable"])
    assert (result.exit_code, result.output.strip()) == (1, f"Error: {SENTENCE}")
    assert Unopenable.closed == 1


def test_of_the_target_of_a_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kv").mkdir()
    monkeypatch.setattr("iii_skill.cli.migrate.load_plugins", plugins)
    result = CliRunner().invoke(
        cli, ["migrate", "--from", "iii-kv", str(tmp_path / "kv"), "--to", "unopenable"]
    )
    assert (result.exit_code, result.output.strip()) == (1, f"Error: {SENTENCE}")
    assert Unopenable.closed == 1
