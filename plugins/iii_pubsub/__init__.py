"""Publish and subscribe: `publish` and the trigger type `subscribe`; nothing is stored or repeated."""

from __future__ import annotations

from collections.abc import Iterable

import iii_skill
from iii_skill.companion import Companion

from .companion import PubSub

__all__ = ["PubSub", "iii_companions"]


@iii_skill.hookimpl
def iii_companions() -> Iterable[type[Companion]]:
    """The companion `iii-pubsub`."""
    return [PubSub]
