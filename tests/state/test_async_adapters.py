"""Adapters that answer later: futures, coroutines, errors, and stores that other hosts write to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from iii_state_memory import MemoryAdapter
from support.calls import Asking

from iii_skill.adapter import Deferred, Health
from iii_skill.errors import AdapterTimeout, AdapterUnavailable, InvocationError
from iii_skill.values import Change

PAYLOAD = {"scope": "s", "key": "k", "value": 1, "ops": []}
FUNCTIONS = ("set", "get", "delete", "update", "list", "list_groups", "compare-and-set", "list_keys")


class Later(MemoryAdapter):
    """Answers with coroutines, each after as many turns of the loop as it is told next."""

    turns: int = 3

    async def _wait(self) -> None:
        turns, self.turns = self.turns, max(0, self.turns - 1)
        for _ in range(turns):
            await asyncio.sleep(0)

    async def get(self, scope: str, key: str) -> bytes | None:  # type: ignore[override]
        await self._wait()
        return super().get(scope, key)

    async def list(self, scope: str) -> Any:
        await self._wait()
        return super().list(scope)

    async def keys(self, scope: str) -> Any:
        await self._wait()
        return super().keys(scope)

    async def scopes(self) -> Any:
        await self._wait()
        return super().scopes()

    async def set(self, scope: str, key: str, value: bytes) -> Change:  # type: ignore[override]
        await self._wait()
        return super().update(scope, key, lambda _old: value)

    async def delete(self, scope: str, key: str) -> Change:  # type: ignore[override]
        await self._wait()
        return super().update(scope, key, lambda _old: None)

    async def update(self, scope: str, key: str, change: Any) -> Change:  # type: ignore[override]
        await self._wait()
        return super().update(scope, key, change)


class Batched(MemoryAdapter):
    """Answers writes with futures that `commit` resolves in order."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[asyncio.Future[Change], Change]] = []

    def update(self, scope: str, key: str, change: Any) -> Any:
        future: asyncio.Future[Change] = asyncio.get_running_loop().create_future()
        self.waiting.append((future, super().update(scope, key, change)))
        return future

    def commit(self) -> None:
        for future, change in self.waiting:
            future.set_result(change)
        self.waiting.clear()


async def test_every_function_works_over_coroutines() -> None:
    ask = Asking(Later())
    for name in (*FUNCTIONS, "list_entries"):
        await ask(name, PAYLOAD)
    await ask.worker.close()


async def test_calls_for_one_key_run_in_order_even_when_the_first_is_slow() -> None:
    adapter = Later()
    adapter.turns = 20
    ask = Asking(adapter)
    answers = [ask.start("set", {**PAYLOAD, "value": number}) for number in range(10)]
    read = ask.start("get", PAYLOAD)
    await asyncio.gather(*answers)
    assert await read == b"9"
    assert [event.new for event in ask.events] == [b"%d" % number for number in range(10)]
    assert ask.log[:4:2] == ["answered", "answered"]


async def test_a_slow_key_does_not_hold_back_another() -> None:
    adapter = Later()
    adapter.turns = 50
    ask = Asking(adapter)
    slow = ask.start("set", PAYLOAD)
    await asyncio.sleep(0)
    adapter.turns = 0
    await ask("set", {**PAYLOAD, "key": "other"})
    assert not slow.done()
    await slow


async def test_futures_are_answered_and_told_in_the_order_of_their_commit() -> None:
    adapter = Batched()
    ask = Asking(adapter)
    answers = [ask.start("set", {**PAYLOAD, "key": str(number)}) for number in range(3)]
    await asyncio.sleep(0)
    assert ask.log == []
    adapter.commit()
    await asyncio.gather(*answers)
    assert [event.key for event in ask.events] == ["0", "1", "2"]
    assert ask.log[::2] == ["answered"] * 3


async def test_a_cancelled_future_is_answered() -> None:
    adapter = Batched()
    ask = Asking(adapter)
    answer = ask.start("set", PAYLOAD)
    adapter.waiting[0][0].cancel()
    with pytest.raises(InvocationError) as caught:
        await answer
    assert caught.value.code == "SET_ERROR"


class Misanswering(MemoryAdapter):
    """Answers with what the contract does not allow, in every way in which an answer may come later."""

    how: ClassVar[str]

    def _wrong(self, *_: Any) -> Any:
        loop = asyncio.get_running_loop()
        if self.how == "coroutine":
            return asyncio.sleep(0, result=7)
        answer: Any = Deferred() if self.how == "deferred" else loop.create_future()
        loop.call_soon(answer.set_result, 7)
        return answer

    get = list = keys = page = scopes = set = delete = update = _wrong


@pytest.mark.parametrize("how", ["coroutine", "deferred", "future"])
@pytest.mark.parametrize("name", [*FUNCTIONS, "list_entries"])
async def test_an_answer_that_breaks_the_contract_leaves_no_caller_waiting(
    name: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Misanswering, "how", how, raising=False)
    ask = Asking(Misanswering())
    answers = [ask.start(name, PAYLOAD) for _ in range(2)]
    for answer in answers:
        with pytest.raises(InvocationError, match="Error") as caught:
            await asyncio.wait_for(answer, 60)
        assert caught.value.code.endswith("_ERROR")


class Broken(MemoryAdapter):
    """Raises the same error everywhere, at once or later."""

    error: ClassVar[Exception]

    def _fail(self, *_: Any) -> Any:
        raise self.error

    get = list = keys = page = scopes = set = delete = update = _fail


class BrokenLater(Broken):
    async def _fail_later(self, *_: Any) -> Any:
        raise self.error

    get = list = keys = page = scopes = set = delete = update = _fail_later


LEADS = {
    "set": ("SET_ERROR", "Failed to set value: "),
    "get": ("GET_ERROR", "Failed to get value: "),
    "delete": ("DELETE_ERROR", "Failed to delete value: "),
    "update": ("UPDATE_ERROR", "Failed to update value: "),
    "list": ("LIST_ERROR", "Failed to list values: "),
    "list_groups": ("LIST_GROUPS_ERROR", "Failed to list groups: "),
    "compare-and-set": ("CAS_ERROR", "CAS_ERROR: "),
    "list_keys": ("LIST_KEYS_ERROR", "LIST_KEYS_ERROR: Failed to list keys: "),
    "list_entries": ("LIST_ENTRIES_ERROR", "LIST_ENTRIES_ERROR: snapshot capture failed: "),
}


@pytest.mark.parametrize("base", [Broken, BrokenLater])
@pytest.mark.parametrize("name", sorted(LEADS))
async def test_adapter_errors_carry_the_code_of_the_function(base: type[Broken], name: str) -> None:
    class Away(base):  # type: ignore[misc,valid-type]
        error = AdapterUnavailable("the store is away.")

    ask = Asking(Away())
    with pytest.raises(InvocationError) as caught:
        await ask(name, PAYLOAD)
    code, lead = LEADS[name]
    assert (caught.value.code, str(caught.value)) == (code, f"{lead}the store is away.")
    assert ask.events == []


@pytest.mark.parametrize("name", ["set", "delete", "update", "compare-and-set"])
async def test_a_timed_out_write_says_that_its_fate_is_unknown(name: str) -> None:
    class Slow(Broken):
        error = AdapterTimeout("no answer in 0.5 s.")

    with pytest.raises(InvocationError, match="it is unknown whether the write happened"):
        await Asking(Slow())(name, PAYLOAD)


@pytest.mark.parametrize("base", [Broken, BrokenLater])
async def test_unexpected_errors_are_answered_and_logged(
    base: type[Broken], caplog: pytest.LogCaptureFixture
) -> None:
    class Buggy(base):  # type: ignore[misc,valid-type]
        error = KeyError("oops")

    ask = Asking(Buggy())
    with caplog.at_level(logging.ERROR), pytest.raises(InvocationError) as caught:
        await ask("set", PAYLOAD)
    assert (caught.value.code, str(caught.value)) == ("SET_ERROR", "Failed to set value: KeyError: 'oops'")
    assert caplog.records[0].exc_info


async def test_a_failed_write_does_not_stop_the_lane_of_its_key() -> None:
    class Once(Later):
        failed = False

        async def set(self, scope: str, key: str, value: bytes) -> Change:
            if not self.failed:
                self.failed = True
                raise AdapterUnavailable("away")
            return await super().set(scope, key, value)

    ask = Asking(Once())
    first, second = ask.start("set", PAYLOAD), ask.start("set", PAYLOAD)
    with pytest.raises(InvocationError):
        await first
    await second


# Shared stores


class Shared(MemoryAdapter):
    """A store with other writers: `changes` yields what is put into `stream`, an exception breaks it."""

    shared: ClassVar[bool] = True
    checked: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.stream: asyncio.Queue[Change | Exception] = asyncio.Queue()
        self.followed = 0

    def update(self, scope: str, key: str, change: Any) -> Change:
        done = super().update(scope, key, change)
        self.stream.put_nowait(done)
        return done

    async def changes(self) -> AsyncIterator[Change]:
        self.followed += 1
        while True:
            change = await self.stream.get()
            if isinstance(change, Exception):
                raise change
            yield change

    def plant(self, key: str, value: bytes) -> None:
        """What another program wrote."""
        self._scopes.setdefault("s", {})[key] = value


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_shared_store_tells_each_change_once() -> None:
    adapter = Shared()
    ask = Asking(adapter)
    await ask.worker.start()
    await ask("set", PAYLOAD)
    adapter.stream.put_nowait(Change("s", "other", None, b"2", 5))
    await until(lambda: len(ask.events) == 2)
    assert [(event.key, event.new) for event in ask.events] == [("k", b"1"), ("other", b"2")]
    await ask.worker.close()
    await ask.worker.close()


async def test_a_broken_change_stream_is_followed_again(caplog: pytest.LogCaptureFixture) -> None:
    adapter = Shared()
    ask = Asking(adapter)
    await ask.worker.start()
    adapter.stream.put_nowait(ConnectionError("gone"))
    with caplog.at_level(logging.ERROR):
        await until(lambda: adapter.followed == 2)
    assert "following the adapter's changes failed" in caplog.text
    await ask("set", PAYLOAD)
    await until(lambda: len(ask.events) == 1)
    await ask.worker.close()


async def test_foreign_garbage_harms_its_own_key_only(caplog: pytest.LogCaptureFixture) -> None:
    adapter = Shared()
    ask = Asking(adapter)
    await ask("set", PAYLOAD)
    adapter.plant("bad", b"{not json")
    bad = {**PAYLOAD, "key": "bad"}
    with caplog.at_level(logging.WARNING):
        assert await ask("list", {"scope": "s"}) == [1]
        assert (await ask("list_entries", {"scope": "s"}))["entries"] == [["k", 1]]
    assert "not JSON" in caplog.text
    for name in ("get", "update", "compare-and-set"):
        with pytest.raises(InvocationError, match="not JSON"):
            await ask(name, bad)
    assert await ask("set", bad) == {"new_value": 1, "old_value": None}
    assert await ask("get", bad) == 1


class EditedByHand(MemoryAdapter):
    """A store of this host alone in which a person wrote something that is no JSON."""

    checked: ClassVar[bool] = False

    def edit(self, key: str) -> None:
        self._scopes.setdefault("s", {})[key] = b"{no json"


async def test_a_value_that_somebody_broke_in_a_store_of_one_host_is_an_error_of_its_call() -> None:
    adapter = EditedByHand()
    ask = Asking(adapter)
    await ask("set", {"scope": "s", "key": "good", "value": 1})
    adapter.edit("bad")
    with pytest.raises(InvocationError) as caught:
        await ask("get", {"scope": "s", "key": "bad"})
    assert caught.value.code == "GET_ERROR"
    assert await ask("list", {"scope": "s"}) == [1]
    assert (await ask("list_entries", {"scope": "s"}))["entries"] == [["good", 1]]
    answer = await ask("set", {"scope": "s", "key": "bad", "value": 2})
    assert answer == {"new_value": 2, "old_value": None}
    assert await ask("get", {"scope": "s", "key": "bad"}) == 2


class Kept(MemoryAdapter):
    """Counts its maintenance, which fails the first time."""

    maintenance_seconds: ClassVar[float | None] = 0.001

    def __init__(self) -> None:
        super().__init__()
        self.times = 0
        self.thrice = asyncio.Event()

    async def maintain(self) -> None:
        self.times += 1
        if self.times == 1:
            raise AdapterUnavailable("The server is away.")
        if self.times == 3:
            self.thrice.set()


async def test_an_adapter_is_maintained_as_often_as_it_asks_also_after_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    adapter = Kept()
    worker = Asking(adapter).worker
    await worker.start()
    await asyncio.wait_for(adapter.thrice.wait(), 60)
    await worker.close()
    assert "maintenance of the adapter 'memory' failed: The server is away." in caplog.text
    times = adapter.times
    await asyncio.sleep(0.02)
    assert adapter.times == times


class Ailing(MemoryAdapter):
    """Tells a health that is set, or fails to."""

    state: ClassVar[Health | Exception]

    async def health(self) -> Health:
        if isinstance(self.state, Exception):
            raise self.state
        return self.state


@pytest.mark.parametrize(
    ("state", "sentences"),
    [
        (Health(), []),
        (Health(warnings=["Set noeviction.", "Flush."]), ["'memory': Set noeviction.", "'memory': Flush."]),
        (Health(ok=False, message="The server is away."), ["adapter 'memory': The server is away."]),
        (RuntimeError("no idea"), ["the health of the adapter 'memory' is not known: no idea"]),
    ],
    ids=["well", "warnings", "away", "unknown"],
)
async def test_what_is_wrong_with_the_store_is_told_at_the_start(
    state: Any, sentences: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ailing, "state", state, raising=False)
    worker = Asking(Ailing()).worker
    await worker.start()
    for _ in range(10):
        await asyncio.sleep(0)
    await worker.close()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(sentences)
    assert all(sentence in line for sentence, line in zip(sentences, told, strict=True))
