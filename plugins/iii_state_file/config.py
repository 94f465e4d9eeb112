"""FileConfig: the settings of the adapter `file`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from iii_skill.adapter import HistorySettings


class FileConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the data lies and how much of it may stay in memory."""

    data_dir: Annotated[str, msgspec.Meta(min_length=1)] = ".iii/state"
    """The directory of the store; a relative one counts from the working directory at start."""
    cache_bytes: Annotated[int, msgspec.Meta(ge=0)] = 64 * 1024 * 1024
    """Memory for current values, least recently used first out; uncommitted writes come on top."""
    history: HistorySettings | None = None
    """Keep earlier versions of keys (`keep` of each, for `days`); without it none are."""
    accept_data_loss: bool = False
    """Open a store whose log is damaged or missing with what can be read; the changes it held are lost."""
    allow_network_fs: bool = False
    """Accept a directory on a network file system, where locks and flushes may not hold."""
