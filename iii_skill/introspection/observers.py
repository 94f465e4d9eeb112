"""What `engine::observers::*` answer."""

from __future__ import annotations

from typing import Any

import msgspec

from iii_skill.calls import Call
from iii_skill.engine.engine import Engine
from iii_skill.errors import CallerError
from iii_skill.introspection.requests import IdRequest, ObserversRequest
from iii_skill.introspection.rows import Row, present
from iii_skill.observers.observer import Observer
from iii_skill.observers.table import Observers


class ObserverNotFound(CallerError):
    """There is no observer of that id, or it has ended."""

    code = "OBSERVER_NOT_FOUND"


class ObserverAnswers:
    """The answers; each takes the call and its decoded request."""

    def __init__(self, engine: Engine, observers: Observers) -> None:
        self._engine = engine
        self._observers = observers

    def get(self, _call: Call, request: IdRequest) -> Any:
        found = self._observers.get(request.id)
        if found is None:
            raise ObserverNotFound(f"There is no observer {request.id}.")
        return {"observer": self._row(found)}

    def list(self, _call: Call, request: ObserversRequest) -> Any:
        """Those that are asked for, in the order in which they came."""
        rows = [
            self._row(observer)
            for observer in self._observers
            if request.function_id in (None, observer.definition.source.function_id)
            and request.target in (None, observer.definition.target.function_id)
            and request.worker in (None, observer.owner_name)
            and request.state in (None, observer.state.value)
        ]
        return {"observers": rows}

    def _row(self, observer: Observer) -> Row:
        made = observer.definition
        out, waiting = self._engine.fanout.load(observer.id)
        reason = observer.reason
        return present(
            {
                "id": observer.id,
                "state": observer.state.value,
                "reason": None if reason is None else {"code": reason.code, "message": reason.message},
                "function_id": made.source.function_id,
                "namespace": made.source.namespace,
                "target": {"function_id": made.target.function_id, "namespace": made.target.namespace},
                "args": made.args,
                "filters": made.filter.normal,
                "capture": list(made.capture),
                "on": made.on.value,
                "deliver": made.deliver.value,
                "metadata": None if made.metadata is None else msgspec.json.decode(made.metadata),
                "worker_id": observer.owner_id,
                "worker_name": observer.owner_name,
                "max_fires": made.max_fires,
                "expires_at_ms": observer.expires_at_ms,
                "max_in_flight": made.max_in_flight,
                "fires": observer.fires,
                "in_flight": out,
                "queued": waiting,
                "dropped": observer.dropped,
            }
        )
