"""The door for companions: functions, trigger types and a private store, inside a host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from support import redis
from support.distributions import entry_points, install

import iii_skill
from iii_skill import InvocationError
from iii_skill.companion import Call, Companion, CompanionHost, Trigger, TriggerProvider
from iii_skill.config import CompanionSection, Config, StateConfig
from iii_skill.errors import ConfigurationError
from iii_skill.host import Host
from iii_skill.plugins import load_plugins


class NotesSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of the companion below."""

    room: str = "lobby"


class NoteTrigger(TriggerProvider):
    """Fires when a note was kept."""

    trigger_type = "note"
    description = "A note was kept"

    def __init__(self) -> None:
        self.triggers: dict[str, Trigger] = {}

    def register(self, trigger: Trigger) -> None:
        self.triggers[trigger.id] = trigger

    def unregister(self, trigger: Trigger) -> None:
        self.triggers.pop(trigger.id, None)


class Notes(Companion):
    """Keeps notes in its store and tells of them."""

    name = "acme-notes"
    aliases = ("notes",)
    config_type = NotesSettings
    log: ClassVar[list[str]] = []

    async def start(self, host: CompanionHost, settings: NotesSettings) -> None:
        if settings.room == "closed":
            raise ConfigurationError("the room is closed")
        self.host, self.room = host, settings.room
        self.note = NoteTrigger()
        host.add_function("notes::count", self.count, description="How many there are")
        host.add_handler("notes::keep", self.keep)
        host.add_trigger_type(self.note)
        self.log.append("start")

    async def count(self, _payload: Any) -> int:
        return len(await self.host.store.read(self.host.store.list(self.room)))

    def keep(self, call: Call) -> None:
        key = msgspec.json.decode(call.data)["key"]
        answer = self.host.store.set(self.room, key, call.data)
        self.host.store.settle(answer, call, self.kept, self.lost, key=(self.room, key))

    def kept(self, call: Call, _change: Any) -> None:
        call.succeed(b"true")
        for trigger in self.note.triggers.values():
            self.host.fire(trigger, call.data)

    def lost(self, call: Call, error: BaseException) -> None:
        call.fail(iii_skill.AdapterError(str(error)))

    async def stop(self) -> None:
        self.log.append("stop")


SOURCE = f"""
import sys
import iii_skill

@iii_skill.hookimpl
def iii_companions():
    return [sys.modules[{__name__!r}].Notes]
"""


@pytest.fixture(autouse=True)
def _fresh_log() -> None:
    Notes.log = []


@asynccontextmanager
async def host_with_notes(
    site: Path, state: StateConfig | None, *, room: str = "lobby", name: str = "acme-notes"
) -> AsyncIterator[Host]:
    if not (site / "acme_notes.py").exists():
        install(site, "acme-notes", SOURCE)
    plugins = load_plugins([*entry_points(site), *bundled()])
    section = CompanionSection(name=name, config={"room": room}, where="iii-config.yaml: workers[0] config")
    host = Host(Config(state=state, companions=(section,)), plugins=plugins)
    await host.open()
    try:
        yield host
    finally:
        await host.close()


def bundled() -> list[Any]:

    return [
        point for point in metadata.entry_points(group="iii_skill") if point.name.startswith("iii_state_")
    ]


@pytest.fixture(params=["memory", "file", "redis"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> StateConfig:
    settings: dict[str, Any] = {}
    if request.param == "file":
        settings = {"data_dir": str(tmp_path / "data")}
    elif request.param == "redis":
        settings = dict(redis.settings())
    return StateConfig(adapter_name=request.param, adapter_config=settings)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "site"
    path.mkdir()
    monkeypatch.syspath_prepend(str(path))
    return path


async def test_a_companion_serves_functions_and_triggers_and_keeps_its_own_store(
    site: Path, state: StateConfig
) -> None:
    async with host_with_notes(site, state) as host:
        heard: asyncio.Queue[Any] = asyncio.Queue()
        host.register_function("hear", heard.put_nowait)
        host.register_trigger("note", "hear")
        assert await host.trigger("notes::keep", {"key": "a", "n": 2**60}) is True
        assert await host.trigger("notes::count") == 1
        assert await asyncio.wait_for(heard.get(), 5) == {"key": "a", "n": 2**60}
        rows = (await host.trigger("engine::functions::list"))["functions"]
        assert {row["worker_name"] for row in rows if row["function_id"].startswith("notes::")} == {
            "acme-notes"
        }
    assert Notes.log == ["start", "stop"]


async def test_state_functions_neither_show_nor_touch_the_private_store(
    site: Path, state: StateConfig
) -> None:
    async with host_with_notes(site, state) as host:
        fired: list[Any] = []
        host.register_function("hear", fired.append)
        host.register_trigger("state", "hear", {})
        await host.trigger("notes::keep", {"key": "a"})
        scope = "__iii_skill/acme-notes/lobby"
        assert (await host.trigger("state::list_groups"))["groups"] == []
        for function_id, payload in (
            ("state::get", {"scope": scope, "key": "a"}),
            ("state::set", {"scope": scope, "key": "a", "value": 1}),
            ("state::delete", {"scope": scope, "key": "a"}),
            ("state::update", {"scope": scope, "key": "a", "ops": []}),
            ("state::list", {"scope": scope}),
            ("state::list_keys", {"scope": scope}),
            ("state::list_entries", {"scope": scope}),
            ("state::compare-and-set", {"scope": scope, "key": "a", "value": 1}),
        ):
            with pytest.raises(InvocationError) as caught:
                await host.trigger(function_id, payload)
            assert caught.value.code == "RESERVED_SCOPE", function_id
        await host.trigger("state::set", {"scope": "s", "key": "k", "value": 1})
        async with asyncio.timeout(5):
            while not fired:
                await asyncio.sleep(0.01)
        assert [event["scope"] for event in fired] == ["s"]
        assert await host.trigger("notes::count") == 1


async def test_what_a_companion_stored_outlives_the_host(site: Path, tmp_path: Path) -> None:
    state = StateConfig(adapter_name="file", adapter_config={"data_dir": str(tmp_path / "data")})
    async with host_with_notes(site, state) as host:
        await host.trigger("notes::keep", {"key": "a"})
    async with host_with_notes(site, state, name="notes") as host:
        assert await host.trigger("notes::count") == 1


async def test_without_state_a_companion_remembers_as_long_as_the_host_lives(site: Path) -> None:
    async with host_with_notes(site, None) as host:
        await host.trigger("notes::keep", {"key": "a"})
        assert await host.trigger("notes::count") == 1
        with pytest.raises(InvocationError):
            await host.trigger("state::get", {"scope": "s", "key": "k"})


@pytest.mark.parametrize(
    ("room", "text"), [("closed", "the room is closed"), (7, "iii-config.yaml: workers")]
)
async def test_a_companion_that_refuses_its_settings_ends_the_start(site: Path, room: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        async with host_with_notes(site, StateConfig(adapter_name="memory"), room=room):
            pass


async def test_a_worker_that_nobody_is_is_named(site: Path) -> None:
    async with host_with_notes(site, None, name="iii-exec") as host:
        assert host.unserved == ["iii-exec"]


async def test_a_companion_that_does_not_stop_is_left_behind(
    site: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def hang(_self: Notes) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Notes, "stop", hang)
    async with host_with_notes(site, StateConfig(adapter_name="memory")) as host:
        with caplog.at_level(logging.WARNING):
            await host.close(grace_s=0.05)
    assert "acme-notes did not stop in time" in caplog.text


async def test_a_companion_that_is_listed_twice_is_refused(site: Path) -> None:
    sections = tuple(
        CompanionSection(name=name, where=f"workers[{name}]") for name in ("acme-notes", "notes")
    )
    install(site, "acme-notes", SOURCE)
    host = Host(
        Config(state=None, companions=sections), plugins=load_plugins([*entry_points(site), *bundled()])
    )
    with pytest.raises(ConfigurationError, match=r"workers\[notes\]: 'acme-notes' is listed twice"):
        await host.open()


@pytest.mark.parametrize("name", ["acme-notes", "notes"])
async def test_a_companion_can_be_left_out(site: Path, name: str) -> None:
    install(site, "acme-notes", SOURCE)
    plugins = load_plugins([*entry_points(site), *bundled()])
    section = CompanionSection(name="acme-notes")
    host = Host(Config(state=None, companions=(section,), without=(name,)), plugins=plugins)
    await host.open()
    assert list(host.companions.running) == []
    await host.close()


async def test_leaving_out_what_is_not_there_names_what_is(site: Path) -> None:
    install(site, "acme-notes", SOURCE)
    host = Host(Config(state=None, without=("queues",)), plugins=load_plugins(entry_points(site)))
    with pytest.raises(ConfigurationError, match=r"'queues' to leave out\. Installed: acme-notes"):
        await host.open()


async def test_the_companion_of_the_page_runs(site: Path) -> None:
    page = (Path(__file__).parents[1] / "references" / "plugins.md").read_text("utf-8")
    (block,) = [part.split("```")[0] for part in page.split("```python\n")[1:] if "(Companion)" in part]
    install(site, "acme-shelf", block)
    plugins = load_plugins([*entry_points(site), *bundled()])
    host = Host(Config(state=StateConfig(adapter_name="memory")), plugins=plugins)
    await host.open()
    for title in ("Emma", "Ulysses", "Emma"):
        await host.trigger("shelf::put", {"title": title})
    assert await host.trigger("shelf::count") == 2
    await host.close()


async def test_two_companions_of_one_name_are_both_left_out(site: Path) -> None:
    for package in ("acme-one", "acme-two"):
        install(site, package, SOURCE)
    plugins = load_plugins(entry_points(site))
    assert plugins.companions() == {}
    assert ["a companion named 'acme-notes'" in broken.reason for broken in plugins.broken] == [True, True]
