"""The settings of the state worker, and the holder through which they change while it runs."""

from __future__ import annotations

import msgspec


class StateSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`triggers_enabled` and `max_value_bytes` (None: no limit) as in `iii-config.yaml`."""

    triggers_enabled: bool = True
    max_value_bytes: int | None = None


class LiveSettings:
    """Holds the settings that apply from now on."""

    __slots__ = ("current",)

    def __init__(self, current: StateSettings | None = None) -> None:
        self.current = current or StateSettings()
