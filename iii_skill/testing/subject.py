"""Subject: the adapter under test with its settings, and OpenedAdapter: one opened instance of it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from iii_skill.adapter import ChangeFunction, Expiry, Page, StateAdapter, settled
from iii_skill.clock import Clock
from iii_skill.testing.address import address_in, addressed, shown
from iii_skill.testing.proxy import Proxy
from iii_skill.values import Answer, Change, Durability, Keep

T = TypeVar("T")

Pairs: TypeAlias = list[tuple[str, bytes]]
"""What `list` answers, as the kit compares it."""

Names: TypeAlias = list[str]
"""What `keys` and `scopes` answer, as the kit compares it."""


class ContractBroken(AssertionError):
    """An adapter does not keep a promise of the contract; the message says which and how."""


def expect(condition: object, sentence: str) -> None:
    """Raise ContractBroken with the sentence unless the condition holds."""
    if not condition:
        raise ContractBroken(sentence)


def begin(answer: Answer[T]) -> asyncio.Future[T]:
    """An adapter's answer as a future, so that many calls can be under way."""
    if inspect.isawaitable(answer):
        return asyncio.ensure_future(answer)
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    done.set_result(answer)
    return done


class OpenedAdapter:
    """One opened adapter; every answer is awaited and its type is checked."""

    def __init__(self, adapter: StateAdapter) -> None:
        self.adapter = adapter

    async def get(self, scope: str, key: str) -> bytes | None:
        """What the adapter's `get` answers."""
        return _bytes_or_none("get", await settled(self.adapter.get(scope, key)))

    async def list(self, scope: str) -> Pairs:
        """What the adapter's `list` answers."""
        return _pairs(await settled(self.adapter.list(scope)))

    async def keys(self, scope: str) -> Names:
        """What the adapter's `keys` answers."""
        return list(await settled(self.adapter.keys(scope)))

    async def page(self, scope: str, after: str | None, limit: int) -> Page:
        """What the adapter's `page` answers."""
        page = await settled(self.adapter.page(scope, after, limit))
        expect(isinstance(page, Page), f"`page` answered {type(page).__name__}, not a Page.")
        expect(page.after is None or type(page.after) is str, "`page` gave an `after` that is no string.")
        return Page(_pairs(page.pairs), page.after, page.total)

    async def scopes(self) -> Names:
        """What the adapter's `scopes` answers."""
        return list(await settled(self.adapter.scopes()))

    async def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        """What the adapter's `update` answers."""
        return _change("update", await settled(self.adapter.update(scope, key, change)))

    async def set(self, scope: str, key: str, value: bytes) -> Change:
        """What the adapter's `set` answers."""
        return _change("set", await settled(self.adapter.set(scope, key, value)))

    async def delete(self, scope: str, key: str) -> Change:
        """What the adapter's `delete` answers."""
        return _change("delete", await settled(self.adapter.delete(scope, key)))

    async def expire(self, scope: str, key: str, at_ms: int | Literal[Keep.KEEP] | None) -> Expiry:
        """What the adapter's `expire` answers."""
        expiry = await settled(self.adapter.expire(scope, key, at_ms))
        expect(isinstance(expiry, Expiry), f"`expire` answered {type(expiry).__name__}, not an Expiry.")
        return expiry

    async def sweep(self) -> int | None:
        """What the adapter's `sweep` answers."""
        following = await settled(self.adapter.sweep())
        expect(following is None or type(following) is int, "`sweep` gave neither milliseconds nor None.")
        return following

    def begin_update(self, scope: str, key: str, change: ChangeFunction) -> asyncio.Future[Change]:
        """Call `update` now and await the answer later."""
        return begin(self.adapter.update(scope, key, change))


class Subject:
    """An adapter class and the settings of one fresh storage; opens instances and closes them all."""

    def __init__(
        self,
        adapter_type: type[StateAdapter],
        settings: Mapping[str, Any],
        place: Path,
        *,
        fresh: Callable[[Path], Mapping[str, Any]] | None = None,
    ) -> None:
        """`fresh` makes the settings of a further storage out of a directory of its own."""
        self.adapter_type = adapter_type
        self.settings = {key: _plain(value) for key, value in settings.items()}
        self.place = place
        self.clock = Clock()
        """The time of all instances that are opened here; a check moves it forward."""
        self._fresh = fresh
        self._opened: list[StateAdapter] = []
        self._others: list[Subject] = []

    def config(self, *, through: Proxy | None = None) -> Any:
        """The settings as the adapter's `config_type`; `through`: with the proxy in place of the server."""
        settings = self.settings
        if through is not None:
            settings = {**settings, **self._server()[1](through.host, through.port)}
        return msgspec.convert(settings, self.adapter_type.config_type, strict=False)

    def proxy(self, *, seconds: float | None = None) -> Proxy:
        """A proxy in front of the server that the settings name."""
        return Proxy(*self._server()[0], seconds=seconds)

    def _server(self) -> tuple[tuple[str, int], Callable[[str, int], dict[str, Any]]]:
        """The address in the settings, and the settings that name another one."""
        given = {**_defaults(self.adapter_type.config_type), **self.settings}
        named = self.adapter_type.server_setting
        if named is None:
            urls = [key for key, value in given.items() if "://" in str(value)]
            named = urls[0] if len(urls) == 1 else ("host", "port") if "port" in given else None
        expect(
            named is not None
            and all(name in given for name in ([named] if isinstance(named, str) else named)),
            "The kit does not know which setting names the server: declare `server_setting`.",
        )
        assert named is not None
        if not isinstance(named, str):
            host, port = named
            return (str(given[host]), int(given[port])), lambda *address: dict(
                zip((host, port), address, strict=True)
            )
        setting, text = named, str(given[named])
        found = address_in(text)
        expect(
            found is not None,
            f"The kit puts a proxy before the server, but '{setting}' names no TCP address: {shown(text)}.",
        )
        assert found is not None
        return found, lambda host, port: {setting: addressed(text, f"{host}:{port}")}

    def other(self) -> Subject:
        """A second storage, beside this one wherever that lies."""
        assert self._fresh is not None, "A further storage needs `fresh`."
        place = self.place / f"other-{len(self._others)}"
        place.mkdir()
        other = Subject(self.adapter_type, self._fresh(place), place)
        self._others.append(other)
        return other

    def make(self) -> StateAdapter:
        """A new instance that is closed at the end, opened or not."""
        adapter = self.adapter_type()
        adapter.clock = self.clock
        self._opened.append(adapter)
        return adapter

    async def open(self, *, through: Proxy | None = None) -> OpenedAdapter:
        """Open a new instance on the storage."""
        adapter = self.make()
        await adapter.open(self.config(through=through))
        return OpenedAdapter(adapter)

    async def reopen(self, store: OpenedAdapter) -> OpenedAdapter:
        """Close the instance and open another one on the same storage."""
        await store.adapter.close()
        return await self.open()

    async def close(self) -> None:
        """Close every instance, also those that are closed already."""
        for other in self._others:
            await other.close()
        while self._opened:
            await self._opened.pop().close()

    async def erase(self) -> None:
        """Remove what the checks left in stores that do not lie in directories of the kit."""
        for other in self._others:
            await other.erase()
        if self.adapter_type.shared or self.adapter_type.durability is Durability.REMOTE:
            store = await self.open()
            await store.adapter.erase()
            await self.close()


async def gather(answers: Sequence[Awaitable[T]]) -> list[T]:
    """All the answers; the first failure is raised after all have ended."""
    results = await asyncio.gather(*answers, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _bytes_or_none(method: str, value: Any) -> bytes | None:
    expect(
        value is None or type(value) is bytes, f"`{method}` gave {type(value).__name__}, not bytes or None."
    )
    return value if value is None else bytes(value)


def _pairs(answer: Any) -> Pairs:
    expect(isinstance(answer, Sequence), f"`list` gave {type(answer).__name__}, not a sequence of pairs.")
    for pair in answer:
        whole = isinstance(pair, tuple) and len(pair) == 2
        expect(
            whole and type(pair[0]) is str and type(pair[1]) is bytes, f"`list` gave {pair!r:.80} as a pair."
        )
    return list(answer)


def _change(method: str, answer: Any) -> Change:
    expect(isinstance(answer, Change), f"`{method}` answered {type(answer).__name__}, not a Change.")
    assert isinstance(answer, Change)
    _bytes_or_none(f"{method}().old", answer.old)
    _bytes_or_none(f"{method}().new", answer.new)
    expect(
        type(answer.revision) is int, f"`{method}` gave a revision of type {type(answer.revision).__name__}."
    )
    return answer


def _defaults(config_type: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        field.encode_name: field.default
        for field in msgspec.structs.fields(config_type)
        if field.default is not msgspec.NODEFAULT
    }
