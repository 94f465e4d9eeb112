"""HostedObserver: an observer that the host itself owns, as `Host.observe` gives it."""

from __future__ import annotations

from iii_skill.observers.observer import Observer, ObserverState, Reason
from iii_skill.observers.table import Observers


class HostedObserver:
    """It lives until `unobserve`, its limits or the end of the host.

    `warnings` say what of its filter could not be verified.
    """

    def __init__(self, observers: Observers, observer: Observer, warnings: list[str]) -> None:
        self._observers = observers
        self._observer = observer
        self.id = observer.id
        self.warnings = warnings

    @property
    def state(self) -> ObserverState:
        """`pending` until source and target are there, `active`, `suspended`, `error`, or `disposed`."""
        return self._observer.state

    @property
    def reason(self) -> Reason | None:
        """Why it is in its state: code and sentence."""
        return self._observer.reason

    @property
    def fires(self) -> int:
        """How often the target was called."""
        return self._observer.fires

    @property
    def dropped(self) -> dict[str, int]:
        """How often it was not, by code."""
        return dict(self._observer.dropped)

    def unobserve(self) -> bool:
        """End it; False when it has ended."""
        return self._observers.unobserve(None, self.id)
