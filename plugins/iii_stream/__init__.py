"""Streams: items in groups, the events of their changes, and subscriptions over a WebSocket."""

from __future__ import annotations

from collections.abc import Iterable

import iii_skill
from iii_skill.companion import Companion

from .companion import Stream

__all__ = ["Stream", "iii_companions"]


@iii_skill.hookimpl
def iii_companions() -> Iterable[type[Companion]]:
    """The companion `iii-stream`."""
    return [Stream]
