"""Who owns which function: those of the host answer everywhere, those of workers in their namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from iii_skill.calls import Failure, Handler
from iii_skill.engine.claims import Claims
from iii_skill.engine.workers import Worker
from iii_skill.protocol.connection import DEFAULT_NAMESPACE
from iii_skill.served import WORKER_OF, missing_worker

NOT_FOUND = "function_not_found"


class Function(msgspec.Struct, frozen=True):
    """A registered function: either a worker's (`owner`) or one inside the host (`handler`)."""

    id: str
    namespace: str
    owner: Worker | None = None
    handler: Handler | None = None
    description: str | None = None
    request_schema: Any = None
    response_schema: Any = None
    metadata: Any = None
    worker_name: str | None = None
    args_format: Any = None
    """A schema of what its observers may say; None: they say nothing."""
    private: bool = False
    """True: only its own worker, or the host, calls it."""
    observable: bool = True
    own_delivery: bool = False
    """True: its worker tells the host which observers to call, also for calls that the host routed."""
    legacy_trigger_type: str | None = None
    """Triggers of that type become observers of it."""
    in_process: bool = False
    """True: its worker may call it without the host."""
    calls: list[int] = msgspec.field(default_factory=lambda: [0])
    """One number: how often it was called, in an engine that counts."""

    @property
    def shown_worker_name(self) -> str:
        """The worker's name, else the first segment of the id."""
        if self.worker_name is not None:
            return self.worker_name
        if self.owner is not None and self.owner.name:
            return self.owner.name
        return self.id.split("::", 1)[0]

    @property
    def internal(self) -> bool:
        """True for what listings hide unless asked."""
        if self.id.startswith("engine::"):
            return True
        return isinstance(self.metadata, dict) and self.metadata.get("internal") is True


def private_call(function_id: str, owner: str) -> Failure:
    """The answer to a call of a function that only its owner may call."""
    return Failure(
        "FORBIDDEN", f"Function {function_id} is private: only {owner} calls it. Observe it instead."
    )


class Functions:
    """The functions of the host and of all workers."""

    def __init__(self) -> None:
        self.builtins: dict[str, Function] = {}
        self.state: set[str] = set()
        """Those of them whose answers may be large: `state::*`."""
        self._by_name: dict[tuple[str, str], Function] = {}
        self._reserved: list[str] = ["engine::"]
        self._hidden: set[str] = set()
        self._open: tuple[str, ...] = ("engine::queue::",)
        self._claims: Claims[tuple[str, str], Function] = Claims()
        self.on_handover: Callable[[Function], None] = lambda _function: None
        """Called with a function that its new owner was refused before."""

    def hide(self, function_ids: Iterable[str]) -> None:
        """Functions of the host that nobody is offered, because an engine does not have them."""
        self._hidden.update(function_ids)

    def reserve(self, prefix: str) -> None:
        """No worker may claim an id that starts with `prefix`."""
        self._reserved.append(prefix)

    def is_reserved(self, function_id: str) -> bool:
        """True when the id belongs to the host."""
        if function_id in self.builtins:
            return True
        if function_id.startswith(self._open):
            return False
        return any(function_id.startswith(prefix) for prefix in self._reserved)

    def add_builtin(self, function: Function) -> None:
        """Add, or replace, a function of the host."""
        self.builtins[function.id] = function
        if function.id.startswith("state::"):
            self.state.add(function.id)

    def remove_builtin(self, function_id: str) -> None:
        """Remove a function of the host; unknown ids are fine."""
        self.builtins.pop(function_id, None)
        self.state.discard(function_id)

    def add(self, function: Function) -> Function | None:
        """Add a worker's function; gives the one of another live worker that stands in the way, or None.

        What is refused waits until that worker is gone, or takes its function back.
        """
        key = (function.namespace, function.id)
        held = self._by_name.get(key)
        if held is not None and held.owner is not function.owner and held.owner and held.owner.live:
            if function.owner is not None:
                self._claims.add(key, function.owner, function)
            return held
        self._by_name[key] = function
        return None

    def remove(self, namespace: str, function_id: str, owner: Worker) -> Function | None:
        """Remove a function if this worker owns it; gives it, or None."""
        key = (namespace, function_id)
        held = self._by_name.get(key)
        if held is None or held.owner is not owner:
            self._claims.withdraw(key, owner)
            return None
        del self._by_name[key]
        self._hand_over(key)
        return held

    def remove_worker(self, owner: Worker) -> list[Function]:
        """Remove everything that a worker owns or waits for; gives what it owned."""
        self._claims.leave(owner)
        gone = [function for function in self._by_name.values() if function.owner is owner]
        for function in gone:
            key = (function.namespace, function.id)
            del self._by_name[key]
            self._hand_over(key)
        return gone

    def prefer(self, heir: Worker, owner: Worker) -> None:
        """What a worker owns goes to its own next connection, whoever else waits for it."""
        for function in self.owned_by(owner):
            key = (function.namespace, function.id)
            self._claims.put_first(key, heir, msgspec.structs.replace(function, owner=heir))

    def _hand_over(self, key: tuple[str, str]) -> None:
        claim = self._claims.next(key)
        if claim is not None:
            self._by_name[key] = claim[1]
            self.on_handover(claim[1])

    def find(self, function_id: str, namespace: str | None) -> Function | Failure:
        """The function that a call of this id and namespace reaches, or why there is none."""
        builtin = self.builtins.get(function_id)
        if namespace is not None and not namespace.strip():
            return Failure(
                "INVALID_NAMESPACE",
                "`namespace` is empty: it was named and left blank. "
                "Give it a name, or omit it to use `default`.",
            )
        if builtin is not None:
            return builtin
        wanted = namespace or DEFAULT_NAMESPACE
        function = self._by_name.get((wanted, function_id))
        if function is not None:
            return function
        return Failure(NOT_FOUND, self._missing(function_id, wanted))

    def lookup(self, function_id: str, namespace: str | None) -> Function | None:
        """As `find`, None when there is none: without the sentence that looks through all functions."""
        if namespace is not None and not namespace.strip():
            return None
        builtin = self.builtins.get(function_id)
        return (
            self._by_name.get((namespace or DEFAULT_NAMESPACE, function_id)) if builtin is None else builtin
        )

    def owned_by(self, owner: Worker) -> list[Function]:
        """The functions of one worker."""
        return [function for function in self._by_name.values() if function.owner is owner]

    def __iter__(self) -> Iterator[Function]:
        yield from self.builtins.values()
        yield from self._by_name.values()

    def _missing(self, function_id: str, namespace: str) -> str:
        text = f"Function {function_id} not found in namespace {namespace}."
        elsewhere = sorted(ns for ns, name in self._by_name if name == function_id)
        if elsewhere:
            return f"{text} It is registered in namespace(s): {', '.join(elsewhere)}."
        if function_id in self._hidden:
            return f"{text} An engine has none, and this host was started with --engine-functions-only."
        worker = WORKER_OF.get(function_id)
        return text if worker is None else f"{text} {missing_worker(worker)}"
