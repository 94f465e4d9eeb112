"""The pytest plugin: `iii_engine` and `iii_worker`; nothing is imported before a test wants one."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from iii_skill.config import Config
    from iii_skill.testing.engine.foreign import ForeignEngine
    from iii_skill.testing.engine.local import LocalEngine
    from iii_skill.testing.engine.starting import Workers

_ENGINE = pytest.StashKey["LocalEngine | ForeignEngine"]()
_SHARED = pytest.StashKey["LocalEngine | ForeignEngine"]()
_PLUGINS = pytest.StashKey[Any]()


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
    group.addoption(
        "--iii-real-engine",
        metavar="URL",
        help="run the tests against an engine that runs already (ws://host:49134; III_TOKEN is presented): "
        "what changes is taken back after each test, and tests with faults, calls or the clock are skipped",
    )
    group.addoption(
        "--iii-real-engine-http",
        metavar="URL",
        help="its HTTP port [default: III_HTTP, or port 3111 of the same machine]",
    )


@pytest.fixture
def iii_config() -> Any:
    """Override it to choose what engines run: the path of an iii-config.yaml, or a Config."""
    return None


@pytest.fixture
def iii_engine(request: pytest.FixtureRequest, iii_config: Any) -> Iterator[Any]:
    """A fresh engine on free ports, with a thread and an event loop of its own."""
    with _engine(request, iii_config) as engine:
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


@pytest.fixture(scope="session")
def iii_shared_engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One engine for all tests that ask for it: what a test leaves there the next one finds."""
    with _engine(request, None) as engine:
        request.session.stash[_SHARED] = engine
        yield engine


@pytest.fixture(scope="session")
def iii_shared_worker(request: pytest.FixtureRequest, iii_shared_engine: Any) -> Iterator[Workers]:
    """Starts workers that connect to `iii_shared_engine` and end with the run."""
    from pathlib import Path

    from iii_skill.testing.engine.starting import Workers

    workers = Workers(iii_shared_engine, list(dict.fromkeys((request.config.rootpath, Path.cwd()))))
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
    if engine is None and "iii_shared_engine" in getattr(item, "fixturenames", ()):
        engine = item.session.stash.get(_SHARED, None)
    if engine is not None and report.failed and report.when in ("setup", "call"):
        report.sections.extend(engine.sections)
    return report


def _engine(request: pytest.FixtureRequest, chosen: Any) -> LocalEngine | ForeignEngine:
    url = request.config.getoption("--iii-real-engine")
    if url is not None:
        return _foreign(request, url, chosen)
    from iii_skill.plugins import load_plugins
    from iii_skill.testing.engine.local import LocalEngine

    session = request.session.stash
    if _PLUGINS not in session:
        session[_PLUGINS] = load_plugins()
    config, erase = _config(request, chosen)
    return LocalEngine(config, plugins=session[_PLUGINS], erase=erase)


def _foreign(request: pytest.FixtureRequest, url: str, chosen: Any) -> ForeignEngine:
    import os
    from urllib.parse import urlsplit

    from iii_skill.testing.engine.absent import not_here
    from iii_skill.testing.engine.foreign import ForeignEngine

    if hasattr(request.config, "workerinput"):
        raise pytest.UsageError("--iii-real-engine takes one test at a time: run pytest without -n")
    if chosen is not None:
        not_here("A configuration of its own (`iii_config`)")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("ws", "wss") and parts.hostname is not None and parts.port is not None
    except ValueError:
        usable = False
    if not usable:
        raise pytest.UsageError(f"--iii-real-engine takes a URL such as ws://127.0.0.1:49134, not {url!r}")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    http = request.config.getoption("--iii-real-engine-http") or os.environ.get("III_HTTP")
    return ForeignEngine(url, http_url=http or f"http://{host}:3111", token=os.environ.get("III_TOKEN"))


def _config(request: pytest.FixtureRequest, chosen: Any) -> tuple[Config, bool]:
    """What an engine runs, and whether its store is removed at the end."""
    import json
    import os

    from iii_skill.config import Config, StateConfig, load_config
    from iii_skill.testing.engine.own_store import with_own_store

    if isinstance(chosen, Config):
        return chosen, False
    if chosen is not None:
        return load_config(chosen, os.environ), False
    name = request.config.getoption("--iii-adapter")
    try:
        settings = json.loads(request.config.getoption("--iii-adapter-config"))
    except ValueError as error:
        raise pytest.UsageError(f"--iii-adapter-config is no JSON: {error}") from None
    if not isinstance(settings, dict):
        raise pytest.UsageError("--iii-adapter-config takes a JSON object")
    state = StateConfig(adapter_name=name, adapter_config=settings, where="--iii-adapter-config")
    return with_own_store(Config(state=state), lambda: _directory(request))


def _directory(request: pytest.FixtureRequest) -> Any:
    if request.scope == "function":
        return request.getfixturevalue("tmp_path") / "iii-state"
    return request.getfixturevalue("tmp_path_factory").mktemp("iii-state")
