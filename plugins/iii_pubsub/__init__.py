"""Publish and subscribe: `publish` and the trigger type `subscribe`; nothing is stored or repeated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import iii_skill

if TYPE_CHECKING:
    from iii_skill.companion import Companion

__all__ = ["iii_companions"]


@iii_skill.hookimpl
def iii_companions() -> Iterable[type[Companion]]:
    """The companion `iii-pubsub`; only a host that runs it loads it."""
    from .companion import PubSub

    return [PubSub]
