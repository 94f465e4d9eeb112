"""Providers: functions of workers that keep the items of a stream, as `stream::get(orders)` for `orders`."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import msgspec

from iii_skill.companion import Call, CompanionHost, Failure, Result
from iii_skill.errors import CallerError

_decode = msgspec.json.decode


class ProviderFailed(CallerError):
    """The function that provides a stream did not do what it was asked."""


class Providers:
    """Asks those that there are now."""

    def __init__(self, host: CompanionHost) -> None:
        self._host = host

    def has(self, verb: str, stream: str) -> bool:
        """Whether a worker does this for the stream."""
        return self._host.serves(f"stream::{verb}({stream})")

    async def ask(self, verb: str, call: Call, stream: str) -> bytes | None:
        """What the provider answers, as it is."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        asked = Call(f"stream::{verb}({stream})", call.data, done.set_result, invocation_id=str(uuid.uuid4()))
        self._host.invoke(asked)
        outcome = await done
        if isinstance(outcome, Failure):
            raise ProviderFailed(outcome.message, code=outcome.code)
        assert isinstance(outcome, Result)
        return outcome.value

    async def change(
        self, verb: str, call: Call, stream: str, needed: tuple[str, ...]
    ) -> tuple[bytes, dict[str, msgspec.Raw]]:
        """What it answers to a change, and its members, of which `needed` are there."""
        code, what = f"STREAM_{verb.upper()}_ERROR", f"Failed to {verb} value"
        try:
            value = await self.ask(verb, call, stream)
        except ProviderFailed as error:
            text = f"{what}: Failed to invoke function: {error.code}: {error.message}"
            raise ProviderFailed(text, code=code) from None
        if value is None:
            raise ProviderFailed(f"{what}: Function returned no result", code=code)
        try:
            found = _decode(value, type=dict[str, msgspec.Raw])
        except msgspec.ValidationError as error:
            text = f"Failed to convert result to value: {error}"
            raise ProviderFailed(text, code="JSON_ERROR") from None
        for field in needed:
            if field not in found:
                text = f"Failed to convert result to value: missing field `{field}`"
                raise ProviderFailed(text, code="JSON_ERROR")
        return value, found
