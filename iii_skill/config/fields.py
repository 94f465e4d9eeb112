"""Read one mapping of a configuration file strictly: known keys only, right types only, no coercion."""

from __future__ import annotations

from typing import Any

from iii_skill.errors import ConfigurationError

MAX_MS = 2**53


class Fields:
    """One mapping with its place (`file: workers[1].config`); every error names the place and the key."""

    def __init__(self, data: Any, where: str, *, joint: str = ".") -> None:
        if data is None:
            data = {}
        if not isinstance(data, dict):
            raise ConfigurationError(f"{where}: expected a mapping, not {described(data)}.")
        self.data: dict[str, Any] = data
        self.where = where
        self._joint = joint

    def only(self, *known: str) -> Fields:
        """Refuse any key that is not one of `known`."""
        for key in self.data:
            if key not in known:
                raise ConfigurationError(
                    f"{self.where}: unknown key '{key}'; known keys: {', '.join(known)}."
                )
        return self

    def text(self, key: str, default: str) -> str:
        """A string that is not empty; null and absent give the default."""
        found = self.optional_text(key)
        return default if found is None else found

    def optional_text(self, key: str) -> str | None:
        """A string that is not empty, or None when it is null or absent."""
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self._wrong(key, "text", value)
        if not value:
            raise ConfigurationError(f"{self._at(key)}: must not be empty.")
        return value

    def whole(self, key: str, default: int, *, low: int = 0, high: int = MAX_MS) -> int:
        """A whole number from `low` to `high`; null and absent give the default."""
        found = self.optional_whole(key, low=low, high=high)
        return default if found is None else found

    def optional_whole(self, key: str, *, low: int = 0, high: int = MAX_MS) -> int | None:
        """A whole number from `low` to `high`, or None when it is null or absent."""
        value = self.data.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, "a whole number", value)
        if not low <= value <= high:
            bounds = f"at least {low}" if high == MAX_MS else f"from {low} to {high}"
            raise ConfigurationError(f"{self._at(key)}: must be {bounds}, not {value}.")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false; null and absent give the default."""
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def one_of(self, key: str, default: str, *choices: str) -> str:
        """One of the given words; null and absent give the default."""
        value = self.text(key, default)
        if value not in choices:
            raise ConfigurationError(
                f"{self._at(key)}: must be {' or '.join(choices)}, not {described(value)}."
            )
        return value

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of strings, or None when it is null or absent."""
        if self.data.get(key) is None:
            return None
        found: list[str] = []
        for index, value in enumerate(self.items(key)):
            if not isinstance(value, str):
                raise self._wrong(f"{key}[{index}]", "text", value)
            found.append(value)
        return tuple(found)

    def items(self, key: str) -> list[Any]:
        """A list; null and absent give an empty one."""
        value = self.data.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(key, "a list", value)
        return value

    def inner(self, key: str) -> Fields:
        """The mapping under `key`; null and absent give an empty one."""
        return Fields(self.data.get(key), self._at(key))

    def _at(self, key: str) -> str:
        return f"{self.where}{self._joint}{key}"

    def _wrong(self, key: str, expected: str, value: Any) -> ConfigurationError:
        return ConfigurationError(f"{self._at(key)}: expected {expected}, not {described(value)}.")


def described(value: Any) -> str:
    """A value of the file as an error names it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text '{value}'"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    return "null" if value is None else f"the number {value}"
