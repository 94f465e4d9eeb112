"""Which trigger types there are, who provides them, and which triggers wait for a provider.

A trigger whose type nobody provides is parked until somebody does. A provider inside the host cannot be
claimed by a worker. Nobody takes what another live worker holds, neither its types nor the ids of its
triggers: whoever wants it waits. Only the worker that registered a trigger may remove it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec
from msgspec import Raw

from iii_skill.engine.claims import Claims
from iii_skill.engine.workers import Worker
from iii_skill.errors import TriggerRefused
from iii_skill.protocol.connection import DEFAULT_NAMESPACE
from iii_skill.protocol.outgoing import DeliverTrigger, WithdrawTrigger
from iii_skill.readable import WHY_UNREADABLE, listable
from iii_skill.served import WORKER_OF_TRIGGER, missing_worker
from iii_skill.triggers import Trigger, TriggerProvider

logger = logging.getLogger(__name__)


MOST_BYTES = 64 * 1024 * 1024
"""Bytes of the settings and names of all triggers."""

_AROUND = 256


class TriggerType(msgspec.Struct, frozen=True):
    """A trigger type that a worker provides."""

    id: str
    namespace: str
    owner: Worker
    description: str
    configuration_schema: Any = None
    request_schema: Any = None
    response_schema: Any = None


Provider: TypeAlias = TriggerProvider | TriggerType


class TriggerTable:
    """All triggers and trigger types of the host."""

    def __init__(self) -> None:
        self.builtin_types: dict[str, TriggerProvider] = {}
        self.types: dict[tuple[str, str], TriggerType] = {}
        self.substitutes: dict[str, TriggerProvider] = {}
        """What takes the triggers of a type as long as nobody provides it."""
        self.triggers: dict[str, Trigger] = {}
        self._placed: dict[str, Provider] = {}
        self._bytes = 0
        self._type_claims: Claims[tuple[str, str], TriggerType] = Claims()
        self._trigger_claims: Claims[str, Trigger] = Claims()

    def add(self, trigger: Trigger, owner: Worker | None) -> None:
        """Start a trigger, replace the one of its id, or park it; TriggerRefused leaves the old one.

        A trigger whose id somebody else holds waits until that one has ended.
        """
        for label, name in (
            ("namespace", trigger.namespace),
            ("trigger_namespace", trigger.trigger_namespace),
        ):
            if name is not None and not name.strip():
                raise TriggerRefused(
                    f"`{label}` is empty: it was named and left blank. "
                    "Give it a name, or omit it to use `default`.",
                    code="INVALID_NAMESPACE",
                )
        for label, encoded in (("config", trigger.config), ("metadata", trigger.metadata)):
            # Who lists triggers or handles an event must be able to read it.
            if encoded is not None and not listable(encoded):
                raise TriggerRefused(f"The {label} of the trigger cannot be taken: {WHY_UNREADABLE}")
        held = self.triggers.get(trigger.id)
        if held is not None and held.owner_id != trigger.owner_id:
            if owner is not None:
                self._trigger_claims.add(trigger.id, owner, trigger)
            if _same_target(held, trigger):
                # A reconnected worker replays its triggers before its old connection is known to be dead.
                return
            raise TriggerRefused(
                f"The trigger id '{trigger.id}' belongs to another worker; this trigger waits for its end."
            )
        size = self._bytes + _size(trigger) - (0 if held is None else _size(held))
        if size > MOST_BYTES:
            raise TriggerRefused(f"All triggers of this host together may have {MOST_BYTES} bytes.")
        provider = self.provider(trigger.trigger_type, trigger.trigger_namespace, owner)
        if isinstance(provider, TriggerType):
            provider.owner.send(_delivery(trigger))
        elif provider is not None:
            provider.register(trigger)
        before = self._placed.pop(trigger.id, None)
        if held is not None and before is not None and before is not provider:
            _withdraw(held, before)
        self.triggers[trigger.id] = trigger
        self._bytes = size
        if provider is not None:
            self._placed[trigger.id] = provider
        elif trigger.trigger_type in WORKER_OF_TRIGGER:
            worker = WORKER_OF_TRIGGER[trigger.trigger_type]
            text = f"The trigger type '{trigger.trigger_type}' is not provided. {missing_worker(worker)}"
            raise TriggerRefused(f"{text} The trigger waits until a worker provides the type.")

    def remove(self, trigger_id: str, owner_id: str | None) -> bool:
        """End a trigger if `owner_id` registered it; unknown ids and those of others are left alone."""
        trigger = self.triggers.get(trigger_id)
        if trigger is None or trigger.owner_id != owner_id:
            return False
        self._drop(trigger)
        return True

    def withdraw(self, trigger_id: str, owner: Worker) -> None:
        """A worker wants its trigger no more that waits for another one's end."""
        self._trigger_claims.withdraw(trigger_id, owner)

    def add_builtin_type(self, provider: TriggerProvider) -> None:
        """Provide a type inside the host; parked triggers of it start now."""
        self.builtin_types[provider.trigger_type] = provider
        for trigger in list(self.triggers.values()):
            if trigger.trigger_type == provider.trigger_type and trigger.id not in self._placed:
                self._place(trigger, provider)

    def add_substitute(self, provider: TriggerProvider) -> None:
        """Take the triggers of a type that nobody provides."""
        self.substitutes[provider.trigger_type] = provider
        for trigger in list(self.triggers.values()):
            if trigger.trigger_type == provider.trigger_type and trigger.id not in self._placed:
                self._place(trigger, provider)

    def remove_substitute(self, trigger_type: str) -> None:
        """Take them no more: they are parked."""
        provider = self.substitutes.pop(trigger_type, None)
        for trigger_id, placed in list(self._placed.items()):
            if placed is provider:
                del self._placed[trigger_id]
                provider.unregister(self.triggers[trigger_id])

    def add_type(self, new: TriggerType) -> TriggerType | None:
        """A worker provides a type now: every trigger of it is delivered (again).

        Gives the type of another live worker that stands in the way; the new one waits for its end. Whoever
        provides a type sees the settings of its triggers.
        """
        key = (new.namespace, new.id)
        old = self.types.get(key)
        if old is not None and old.owner is not new.owner and old.owner.live:
            self._type_claims.add(key, new.owner, new)
            return old
        self.types[key] = new
        for trigger in list(self.triggers.values()):
            placed = self._placed.get(trigger.id)
            substitute = self.substitutes.get(trigger.trigger_type)
            if placed is not None and placed is substitute and _fits(trigger, new):
                substitute.unregister(trigger)
                placed = None
            if (placed is old and old is not None) or (placed is None and _fits(trigger, new)):
                self._place(trigger, new)
        return None

    def remove_type(self, type_id: str, namespace: str, owner: Worker) -> bool:
        """A worker provides a type no more: its triggers are parked."""
        key = (namespace, type_id)
        held = self.types.get(key)
        if held is None or held.owner is not owner:
            self._type_claims.withdraw(key, owner)
            return False
        del self.types[key]
        for trigger_id, provider in list(self._placed.items()):
            if provider is held:
                del self._placed[trigger_id]
        claim = self._type_claims.next(key)
        if claim is not None:
            logger.warning("%s provides the trigger type '%s' now", claim[0].label, type_id)
            self.add_type(claim[1])
        elif type_id in self.substitutes:
            self.add_substitute(self.substitutes[type_id])
        return True

    def prefer(self, heir: Worker, owner: Worker) -> None:
        """The types of a worker go to its own next connection, whoever else waits for them."""
        for key, kind in self.types.items():
            if kind.owner is owner:
                self._type_claims.put_first(key, heir, msgspec.structs.replace(kind, owner=heir))

    def rejected(self, trigger_id: str, by: Worker) -> Trigger | None:
        """A provider refused a trigger: park it; None unless `by` is its current provider."""
        placed = self._placed.get(trigger_id)
        if not isinstance(placed, TriggerType) or placed.owner is not by:
            return None
        del self._placed[trigger_id]
        return self.triggers.get(trigger_id)

    def remove_worker(self, worker: Worker) -> None:
        """A worker left: its triggers end, and those of the types it provided are parked."""
        self._type_claims.leave(worker)
        self._trigger_claims.leave(worker)
        for trigger in [t for t in self.triggers.values() if t.owner_id == worker.id]:
            self._drop(trigger)
        for kind in [kind for kind in self.types.values() if kind.owner is worker]:
            self.remove_type(kind.id, kind.namespace, worker)

    def provider(self, trigger_type: str, namespace: str | None, owner: Worker | None) -> Provider | None:
        """Who provides a type: in the named namespace strictly, else in the owner's, then in `default`."""
        builtin = self.builtin_types.get(trigger_type)
        if builtin is not None:
            return builtin
        substitute = self.substitutes.get(trigger_type)
        if namespace is not None:
            return self.types.get((namespace, trigger_type)) or substitute
        own = owner.namespace if owner is not None else DEFAULT_NAMESPACE
        found = self.types.get((own, trigger_type)) or self.types.get((DEFAULT_NAMESPACE, trigger_type))
        return found or substitute

    @property
    def lasting(self) -> int:
        """How many triggers no worker owns."""
        return sum(1 for trigger in self.triggers.values() if trigger.owner_id is None)

    def placed(self) -> Iterator[Trigger]:
        """The triggers that have a provider."""
        return (self.triggers[trigger_id] for trigger_id in self._placed)

    def owned_by(self, worker: Worker) -> list[Trigger]:
        """The triggers that a worker registered."""
        return [trigger for trigger in self.triggers.values() if trigger.owner_id == worker.id]

    def _place(self, trigger: Trigger, provider: Provider) -> None:
        self._placed[trigger.id] = provider
        if isinstance(provider, TriggerType):
            provider.owner.send(_delivery(trigger))
            return
        try:
            provider.register(trigger)
        except TriggerRefused as error:
            del self._placed[trigger.id]
            logger.warning("trigger %s of type %s: %s", trigger.id, trigger.trigger_type, error.message)

    def _drop(self, trigger: Trigger) -> None:
        del self.triggers[trigger.id]
        self._bytes -= _size(trigger)
        provider = self._placed.pop(trigger.id, None)
        if provider is not None:
            _withdraw(trigger, provider)
        claim = self._trigger_claims.next(trigger.id)
        if claim is not None:
            owner, following = claim
            logger.warning("the trigger '%s' is the one of %s now", trigger.id, owner.label)
            try:
                self.add(following, owner)
            except TriggerRefused as error:
                logger.warning("%s: trigger of type %s: %s", owner.label, trigger.trigger_type, error.message)


def _size(trigger: Trigger) -> int:
    """About the bytes that a trigger takes."""
    return (
        _AROUND
        + len(trigger.config)
        + len(trigger.metadata or b"")
        + len(trigger.id)
        + len(trigger.function_id)
    )


def _same_target(held: Trigger, new: Trigger) -> bool:
    """True for what a reconnected worker registers again."""
    return (held.trigger_type, held.function_id, held.namespace) == (
        new.trigger_type,
        new.function_id,
        new.namespace,
    )


def _fits(trigger: Trigger, kind: TriggerType) -> bool:
    if trigger.trigger_type != kind.id:
        return False
    named = trigger.trigger_namespace
    return named == kind.namespace or (named is None and kind.namespace in (DEFAULT_NAMESPACE, trigger.home))


def _delivery(trigger: Trigger) -> DeliverTrigger:
    return DeliverTrigger(
        trigger.id,
        trigger.trigger_type,
        trigger.function_id,
        Raw(trigger.config),
        None if trigger.metadata is None else Raw(trigger.metadata),
        _named(trigger.namespace),
        _named(trigger.trigger_namespace),
    )


def _named(namespace: str | None) -> str | None:
    """Providers are told a namespace only when it is not `default`."""
    return None if namespace == DEFAULT_NAMESPACE else namespace


def _withdraw(trigger: Trigger, provider: Provider) -> None:
    if isinstance(provider, TriggerType):
        provider.owner.send(WithdrawTrigger(trigger.id, trigger.trigger_type))
    else:
        provider.unregister(trigger)
