"""A trigger registration, and what a trigger type inside the host provides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

import msgspec


class Subscriber(Protocol):
    """Whose function is called when something happens: a trigger, or an observer."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def function_id(self) -> str:
        """What is called."""

    @property
    def namespace(self) -> str | None:
        """Where that function is."""

    @property
    def metadata(self) -> bytes | None:
        """Encoded JSON that goes with every call."""

    @property
    def max_in_flight(self) -> int | None:
        """How many calls may be out at once; None: one for each lane."""


class Trigger(msgspec.Struct, frozen=True):
    """A registration: when the event of `trigger_type` that `config` describes happens, call the function.

    `config` and `metadata` are encoded JSON (`config` is b"null" when absent). `owner_id` is the worker that
    registered it, None for a durable or in-process one.
    """

    id: str
    trigger_type: str
    function_id: str
    config: bytes = b"null"
    metadata: bytes | None = None
    namespace: str | None = None
    trigger_namespace: str | None = None
    owner_id: str | None = None
    home: str = "default"
    """The namespace of the worker that registered it."""
    max_in_flight: ClassVar[int | None] = None

    def settings(self) -> Any:
        """The decoded `config`."""
        return msgspec.json.decode(self.config)


class Match(msgspec.Struct, frozen=True):
    """A trigger that wants an event, and its condition: None is none, "" is one that nobody serves."""

    trigger: Trigger
    condition_function_id: str | None


class TriggerProvider(ABC):
    """A trigger type that lives in the host (`state`, `http`), and what introspection says of it."""

    trigger_type: str
    description: str
    worker_name: ClassVar[str | None] = None
    """None: `iii-` and the trigger type."""
    configuration_schema: ClassVar[Any] = None
    request_schema: ClassVar[Any] = None
    response_schema: ClassVar[Any] = None

    @abstractmethod
    def register(self, trigger: Trigger) -> None:
        """Start it, or replace the trigger of that id; TriggerRefused leaves all as it was."""

    @abstractmethod
    def unregister(self, trigger: Trigger) -> None:
        """Stop it; unknown ids are fine."""
