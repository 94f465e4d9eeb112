"""AdapterContract: the pytest class that an adapter author subclasses to run the whole kit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from iii_skill.adapter import StateAdapter
from iii_skill.testing.checks import Check
from iii_skill.testing.runner import checks_for, run_check
from iii_skill.testing.subject import Subject


class AdapterContract:
    """Subclass it as `class TestMine(AdapterContract)`, set `adapter` and give a `config`.

    Every check that applies to what the adapter declares becomes a test method of the subclass. The tests
    are plain functions with an event loop of their own, so they need pytest and no plugin.
    """

    adapter: ClassVar[type[StateAdapter]]

    def config(self, tmp_path: Path) -> Mapping[str, Any]:
        """Settings of a fresh, empty storage; called once for each test. Paths may be Path objects."""
        return {}

    def cleanup(self, settings: Mapping[str, Any]) -> None:
        """Remove what a test with these settings left behind and the adapter's `erase` did not remove."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        adapter = getattr(cls, "adapter", None)
        if adapter is None:
            return
        for check in checks_for(adapter):
            name = f"test_{check.name.replace('-', '_')}"
            if name not in cls.__dict__:
                setattr(cls, name, _method(check, name))


def _method(check: Check, name: str) -> Callable[[AdapterContract, Path], None]:
    def test(self: AdapterContract, tmp_path: Path) -> None:
        made: list[Mapping[str, Any]] = []

        def fresh(place: Path) -> Mapping[str, Any]:
            made.append(self.config(place))
            return made[-1]

        try:
            run_check(check, Subject(self.adapter, fresh(tmp_path), tmp_path, fresh=fresh))
        except Exception as error:
            error.add_note(f"The promise ({check.name}): {check.sentence}")
            raise
        finally:
            for settings in made:
                self.cleanup(settings)

    test.__name__ = name
    test.__qualname__ = f"AdapterContract.{name}"
    test.__doc__ = check.sentence
    return test
