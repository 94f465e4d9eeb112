"""Turn the free-form settings of an adapter into its own typed configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from iii_skill.errors import ConfigurationError


def adapter_settings(
    config_type: type[msgspec.Struct],
    settings: Mapping[str, Any],
    *,
    where: str,
    from_text: bool = False,
) -> msgspec.Struct:
    """The checked `config_type`; ConfigurationError names `where` and the key.

    `from_text` is for settings of the command line, where every value is a string: then `"5"` is a number
    where a number is wanted. Settings of a file are never coerced.
    """
    known = [field.encode_name for field in msgspec.structs.fields(config_type)]
    for key in settings:
        if key not in known:
            listed = f"known keys: {', '.join(known)}" if known else "this adapter has no settings"
            raise ConfigurationError(f"{where}: unknown key '{key}'; {listed}.")
    try:
        return msgspec.convert(dict(settings), config_type, strict=not from_text)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$")
        raise ConfigurationError(f"{where}{place.rstrip('`')}: {reason}.") from None
