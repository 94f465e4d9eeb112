"""Queues: jobs for functions and messages for subscribers that outlive worker and host."""

from __future__ import annotations

from collections.abc import Iterable

import iii_skill
from iii_skill.companion import Companion

from .companion import Queue

__all__ = ["Queue", "iii_companions"]


@iii_skill.hookimpl
def iii_companions() -> Iterable[type[Companion]]:
    """The companion `iii-queue`."""
    return [Queue]
