"""The pytest plugin: `iii_engine` and `iii_worker`; nothing is imported before a test wants one."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from iii_skill.config import Config
    from iii_skill.testing.engine.local import LocalEngine
    from iii_skill.testing.engine.starting import Workers

_ENGINE = pytest.StashKey["LocalEngine"]()
_PLUGINS = pytest.StashKey[Any]()
_UNIQUE = "{unique}"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of `iii_engine`."""
    group = parser.getgroup("iii", "engines for iii workers")
    group.addoption(
        "--iii-adapter",
        default="memory",
        metavar="NAME",
        help="where the engines of tests keep state: memory (default), file (a fresh directory each), …",
    )
    group.addoption(
        "--iii-adapter-config",
        default="{}",
        metavar="JSON",
        help="settings of the adapter, as in iii-config.yaml; with {unique} in them every test has a "
        "store of its own, which is removed after it",
    )


@pytest.fixture
def iii_config() -> Any:
    """Override it to choose what engines run: the path of an iii-config.yaml, or a Config."""
    return None


@pytest.fixture
def iii_engine(request: pytest.FixtureRequest, iii_config: Any) -> Iterator[LocalEngine]:
    """A fresh engine on free ports, with a thread and an event loop of its own."""
    from iii_skill.plugins import load_plugins
    from iii_skill.testing.engine.local import LocalEngine

    session = request.session.stash
    if _PLUGINS not in session:
        session[_PLUGINS] = load_plugins()
    config = _config(request, iii_config)
    erase = iii_config is None and _UNIQUE in request.config.getoption("--iii-adapter-config")
    with LocalEngine(config, plugins=session[_PLUGINS], erase=erase) as engine:
        request.node.stash[_ENGINE] = engine
        yield engine
        # Items live as long as the run.
        del request.node.stash[_ENGINE]


@pytest.fixture
def iii_worker(request: pytest.FixtureRequest, iii_engine: LocalEngine) -> Iterator[Workers]:
    """Starts workers that connect to `iii_engine` and end with the test."""
    from iii_skill.testing.engine.starting import Workers, places_of

    workers = Workers(iii_engine, places_of(request.path, request.config.rootpath))
    try:
        yield workers
    finally:
        workers.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what happened in the engine of a test that failed."""
    report = yield
    engine = item.stash.get(_ENGINE, None)
    if engine is not None and report.failed and report.when in ("setup", "call"):
        report.sections.extend(engine.sections)
    return report


def _config(request: pytest.FixtureRequest, chosen: Any) -> Config:
    import json
    import os
    import uuid

    from iii_skill.config import Config, StateConfig, load_config

    if isinstance(chosen, Config):
        return chosen
    if chosen is not None:
        return load_config(chosen, os.environ)
    name = request.config.getoption("--iii-adapter")
    text = request.config.getoption("--iii-adapter-config").replace(_UNIQUE, f"test-{uuid.uuid4().hex}")
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise pytest.UsageError(f"--iii-adapter-config is no JSON: {error}") from None
    if not isinstance(settings, dict):
        raise pytest.UsageError("--iii-adapter-config takes a JSON object")
    if name == "file":
        settings.setdefault("data_dir", str(request.getfixturevalue("tmp_path") / "iii-state"))
    return Config(state=StateConfig(adapter_name=name, adapter_config=settings, where="--iii-adapter-config"))
