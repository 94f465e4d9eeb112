"""The ready checks: correct workers of three languages pass them, and they find every typical mistake."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.ledger_checks import LedgerChecks
from support.sdk import link_node_modules, python_sdk, rust_binary

from iii_skill.plugins import Plugins, load_plugins
from iii_skill.testing.engine.local import LocalEngine
from iii_skill.testing.engine.starting import Workers
from iii_skill.testing.workers.load import Load

HERE = Path(__file__).parent
NAMES = [name for name in dir(LedgerChecks) if name.startswith("test_")]
ALL = bool(os.environ.get("III_SKILL_TEST_ALL"))
FIRST = "python"
SOME = NAMES if ALL else ["test_work_at_once", "test_an_event_that_comes_again", "test_odd_keys"]
"""What workers of the other languages are put through."""

FOUND: list[tuple[str, str, str]] = [
    ("ReadComputeWrite", "work_at_once", "one after another"),
    ("ComparesOnce", "work_at_once", "one after another"),
    ("SharedCache", "somebody_else_writes", "goes on from what it remembers"),
    ("InMemory", "the_worker_starts_again", "not into its memory"),
    ("BlindRetry", "a_lost_answer_is_not_done_twice", "leaves"),
    ("LostRetry", "a_failing_store_is_no_success", "answers that the work is done"),
    ("SwallowedError", "a_failing_store_is_no_success", "answers that the work is done"),
    ("FireAndForget", "a_failing_store_is_no_success", "answers that the work is done"),
    ("IgnoredAnswer", "work_is_done", "as before"),
    ("ErrorIsMissing", "a_failing_store_is_no_success", "answers that the work is done"),
    ("EndlessRetry", "a_store_that_is_away_is_an_error", "does not answer within"),
    ("DeletesFirst", "nothing_is_gone_in_between", "was deleted and written again"),
    ("HalfDone", "a_failing_store_is_no_success", "without that work it is"),
    ("CountingHandler", "an_event_that_comes_again", "called with an event twice"),
    ("FreshKeys", "an_event_that_comes_again", "called with an event twice"),
    ("RememberedEvents", "an_event_that_comes_again", "after the worker was started again"),
    ("Feedback", "work_comes_to_an_end", "does not come to an end"),
    ("Quitter", "a_failing_store_is_no_success", "ended with exit code 3"),
    ("Watchdog", "the_host_starts_again_under_load", "ended with exit code 4"),
    ("CreatingRead", "missing_keys", "stored something"),
    ("CrashesOnMissing", "missing_keys", "500|failed"),
    ("WrongMissingCheck", "an_empty_value_is_not_missing", "as if it were missing"),
    ("PathOfKeys", "odd_keys", "key"),
    ("CutKeys", "odd_keys", "kkkk"),
    ("TidyKeys", "odd_keys", "Is the key changed"),
    ("EmptyIsDefault", "odd_keys", "''|'default'"),
    ("LooksUpRequests", "a_request_that_comes_again", "at once"),
    ("NoRequestIds", "a_request_that_comes_again", "came twice"),
    ("PlainObject", "odd_keys", "__proto__"),
]

ENDLESS = {name: {"patience": 3.0} for name in ("EndlessRetry", "Feedback")}
"""Those that use up all the patience that there is."""


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    """Loaded once."""
    return load_plugins()


@pytest.fixture
def run(plugins: Plugins, tmp_path: Path) -> Callable[..., None]:
    """Runs one check on a worker, as pytest does for users: on a fresh engine."""

    def check(command: Sequence[str], name: str, *, patience: float = LedgerChecks.patience) -> None:
        checks: Any = LedgerChecks()
        checks.worker, checks.patience = command, patience
        with LocalEngine(plugins=plugins) as engine:
            workers = Workers(engine, [tmp_path])
            try:
                getattr(checks, name)(engine, workers)
            finally:
                workers.stop()

    return check


def command(language: str, directory: Path, mistake: str | None = None) -> list[str]:
    """How that ledger is started."""
    more = [] if mistake is None else [mistake]
    if language == "rust":
        return [str(rust_binary("0.25.0", HERE / "ledger.rs", name="ledger")), *more]
    if language == "node":
        link_node_modules(directory, "0.22.1")
        shutil.copy(HERE / "ledger.mjs", directory)
        return ["node", "ledger.mjs", *more]
    file = "ledger.py" if mistake is None else "mistakes.py"
    return [str(python_sdk("0.25.0")), str(HERE / file), *more]


@pytest.mark.parametrize(
    ("language", "name"),
    [
        (language, name)
        for language in ("python", "node", "rust")
        for name in (NAMES if language == FIRST else SOME)
    ],
)
def test_a_correct_worker_passes(run: Any, tmp_path: Path, language: str, name: str) -> None:
    run(command(language, tmp_path), name)


@pytest.mark.parametrize(("mistake", "name", "says"), FOUND, ids=[mistake for mistake, _, _ in FOUND])
def test_a_mistake_is_found(run: Any, tmp_path: Path, mistake: str, name: str, says: str) -> None:
    language = "node" if mistake == "PlainObject" else "python"
    with pytest.raises(AssertionError, match=says):
        run(command(language, tmp_path, mistake), f"test_{name}", **ENDLESS.get(mistake, {}))


def test_a_load_that_has_done_enough_goes_on_when_there_is_more_to_see() -> None:
    """A worker that is quicker than who looks at it has not stopped."""
    done: list[None] = []
    with Load(lambda: done.append(None), threads=2, most=5) as load:
        assert load.wait(5, 60)
        assert not load.wait(load.done + 3, 0.05)
        before = load.done
        load.go_on()
        assert load.wait(before + 4, 60)
    assert load.done == len(done) <= before + 6


def test_every_check_finds_a_mistake() -> None:
    assert {f"test_{name}" for _, name, _ in FOUND} == set(NAMES)
