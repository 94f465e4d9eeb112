"""Schedules: the trigger type `cron`, in the engine's grammar of six or seven fields."""

from __future__ import annotations

from collections.abc import Iterable

import iii_skill
from iii_skill.companion import Companion

from .companion import Cron
from .expression import CronExpression, InvalidExpression

__all__ = ["Cron", "CronExpression", "InvalidExpression", "iii_companions"]


@iii_skill.hookimpl
def iii_companions() -> Iterable[type[Companion]]:
    """The companion `iii-cron`."""
    return [Cron]
