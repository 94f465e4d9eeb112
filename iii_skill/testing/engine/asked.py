"""Asked: what a store was asked for and has not answered yet, whoever asked."""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any, cast

from iii_skill.adapter import Deferred, StateAdapter

_METHODS = ("get", "list", "keys", "page", "scopes", "update", "set", "delete", "expire", "sweep")


class Asked:
    """The calls of one store that are open. Companions and what the host does beside make some, too."""

    def __init__(self) -> None:
        self._open: dict[int, str] = {}
        self._numbers = itertools.count(1)
        self.last = 0
        """The number of the last call that was not answered at once."""

    @property
    def open(self) -> list[str]:
        """What is not answered, for people."""
        return list(self._open.values())

    def after(self, number: int) -> set[int]:
        """The numbers of the open calls that came after that one."""
        return {one for one in self._open if one > number}

    def any_of(self, numbers: set[int]) -> bool:
        """True while one of these is open."""
        return not numbers.isdisjoint(self._open)

    def around(self, kind: type[StateAdapter]) -> type[StateAdapter]:
        """The same adapter, whose calls are counted."""
        methods = {name: self._method(kind, name) for name in _METHODS}
        return cast(type[StateAdapter], type(kind.__name__, (kind,), methods))

    def _method(self, kind: type[StateAdapter], name: str) -> Callable[..., Any]:
        inner = getattr(kind, name)

        if inspect.iscoroutinefunction(inner):

            @functools.wraps(inner)
            async def awaited(adapter: StateAdapter, *arguments: Any) -> Any:
                number = self._begun(name, arguments)
                try:
                    return await inner(adapter, *arguments)
                finally:
                    del self._open[number]

            return awaited

        @functools.wraps(inner)
        def method(adapter: StateAdapter, *arguments: Any) -> Any:
            answer = inner(adapter, *arguments)
            if type(answer) is Deferred:
                if not answer.done():
                    answer.listen(self._begun(name, arguments), self._ended, self._ended)
            elif asyncio.isfuture(answer):
                number = self._begun(name, arguments)
                answer.add_done_callback(lambda _answer: self._ended(number, None))
            return answer

        return method

    def _begun(self, name: str, arguments: tuple[Any, ...]) -> int:
        self.last = next(self._numbers)
        place = " / ".join(one for one in arguments[:2] if isinstance(one, str))
        self._open[self.last] = f"{name} of {place}" if place else name
        return self.last

    def _ended(self, number: int, _outcome: object) -> None:
        del self._open[number]
