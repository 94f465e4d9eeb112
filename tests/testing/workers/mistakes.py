"""The ledger with one mistake, that of the class whose name is given: what people write every day."""

import asyncio
import os
import sys
import threading
import time
import uuid

import iii as sdk
from ledger import Ledger

MISTAKES = {}


def mistake(kind):
    """It can be chosen."""
    MISTAKES[kind.__name__] = kind
    return kind


def counted(value, request):
    """The value with one more request."""
    value = value or {"requests": {}}
    return {"requests": {**value["requests"], request: True}}


@mistake
class ReadComputeWrite(Ledger):
    """Reads, adds, writes back."""

    async def add(self, key, request):
        value = counted(await self.state("get", scope="accounts", key=key), request)
        await self.state("set", scope="accounts", key=key, value=value)
        return len(value["requests"])


@mistake
class ComparesOnce(Ledger):
    """Does not look whether compare-and-set swapped."""

    async def add(self, key, request):
        old = await self.state("get", scope="accounts", key=key)
        value = counted(old, request)
        await self.state("compare-and-set", scope="accounts", key=key, expected=old, value=value)
        return len(value["requests"])


@mistake
class SharedCache(Ledger):
    """Reads once, and from then on goes on from its own copy."""

    cache: dict = {}  # noqa: RUF012 - the mistake

    async def add(self, key, request):
        if key not in self.cache:
            self.cache[key] = await self.state("get", scope="accounts", key=key) or {"requests": {}}
        self.cache[key]["requests"][request] = True
        await self.state("set", scope="accounts", key=key, value=self.cache[key])
        return len(self.cache[key]["requests"])


@mistake
class InMemory(Ledger):
    """Counts in the process, and stores a copy."""

    def __init__(self):
        super().__init__()
        self.counts = {}

    async def add(self, key, request):
        value = self.counts[key] = counted(self.counts.get(key), request)
        await self.state("set", scope="accounts", key=key, value=value)
        return len(value["requests"])


@mistake
class BlindRetry(Ledger):
    """Repeats an addition whose outcome it does not know."""

    async def add(self, key, request):
        for _ in range(3):
            try:
                return await super().add(key, uuid.uuid4().hex)
            except Exception:
                await asyncio.sleep(0.01)
        raise RuntimeError("the store is away")


@mistake
class LostRetry(Ledger):
    """Tries again later, in a task that nobody waits for and that gives up in silence."""

    async def add(self, key, request):
        try:
            return await super().add(key, request)
        except Exception:
            self.later = asyncio.create_task(self.again(key, request))
            return 0

    async def again(self, key, request):
        """One more try."""
        await asyncio.sleep(3600)
        await super().add(key, request)


@mistake
class SwallowedError(Ledger):
    """Logs the error and says that all is well."""

    async def add(self, key, request):
        try:
            return await super().add(key, request)
        except Exception as error:
            print("could not count", error, flush=True)
            return 0


@mistake
class FireAndForget(Ledger):
    """Answers before the write is made, and never hears that it was not."""

    async def add(self, key, request):
        ops = [{"type": "merge", "path": "requests", "value": {request: True}}]
        payload = {"scope": "accounts", "key": key, "ops": ops}
        call = {"function_id": "state::update", "payload": payload, "action": sdk.TriggerAction.Void()}
        await self.iii.trigger_async(call)
        return 1


@mistake
class IgnoredAnswer(Ledger):
    """Does not read `errors` of the answer: a path of an increment is text, so nothing was done."""

    async def add(self, key, request):
        await self.state("set", scope="names", key=key, value={"requests": "none"})
        ops = [{"type": "increment", "path": "requests", "by": 1}]
        await self.state("update", scope="names", key=key, ops=ops)
        return 1


@mistake
class ErrorIsMissing(Ledger):
    """Takes an error of the store for a key that is not there, and begins anew."""

    async def add(self, key, request):
        try:
            old = await self.state("get", scope="accounts", key=key)
        except Exception:
            old = None
        value = counted(old, request)
        await self.state("set", scope="accounts", key=key, value=value)
        return len(value["requests"])


@mistake
class EndlessRetry(Ledger):
    """Tries until it works, however long that is."""

    async def add(self, key, request):
        while True:
            try:
                return await super().add(key, request)
            except Exception:
                await asyncio.sleep(0.02)


@mistake
class DeletesFirst(Ledger):
    """Deletes the old value before it writes the new one."""

    async def add(self, key, request):
        value = counted(await self.state("delete", scope="accounts", key=key), request)
        await self.state("set", scope="accounts", key=key, value=value)
        return len(value["requests"])


@mistake
class HalfDone(Ledger):
    """Two writes that belong together; the second may not come."""

    async def add(self, key, request):
        ops = [{"type": "increment", "path": "n", "by": 1}]
        await self.state("update", scope="audit", key=key, ops=ops)
        return await super().add(key, request)


@mistake
class CountingHandler(Ledger):
    """Counts events: one that comes twice counts twice."""

    async def mirror(self, event):
        ops = [{"type": "increment", "path": "n", "by": 1}]
        await self.state("update", scope="mirror", key=event["key"], ops=ops)


@mistake
class FreshKeys(Ledger):
    """Stores something new for every event."""

    async def mirror(self, event):
        await super().mirror(event)
        await self.state("set", scope="notices", key=uuid.uuid4().hex, value={"for": event["key"]})


@mistake
class RememberedEvents(Ledger):
    """Knows in the process which events it had."""

    def __init__(self):
        super().__init__()
        self.had = set()

    async def mirror(self, event):
        if (mark := str(event["new_value"])) in self.had:
            return
        self.had.add(mark)
        ops = [{"type": "increment", "path": "n", "by": 1}]
        await self.state("update", scope="mirror", key=event["key"], ops=ops)


@mistake
class Feedback(Ledger):
    """Its handler writes into the scope that it listens to."""

    async def mirror(self, event):
        value = dict(event["new_value"], seen=event["new_value"].get("seen", 0) + 1)
        await self.state("set", scope="accounts", key=event["key"], value=value)


@mistake
class Quitter(Ledger):
    """Ends when the store is away for a moment."""

    async def add(self, key, request):
        try:
            return await super().add(key, request)
        except Exception:
            os._exit(3)


@mistake
class Watchdog(Ledger):
    """Ends when the connection breaks, and nobody starts it again."""

    def __init__(self):
        super().__init__()
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        """Look every few milliseconds."""
        time.sleep(0.2)
        while self.iii.get_connection_state() == "connected":
            time.sleep(0.005)
        os._exit(4)


@mistake
class CreatingRead(Ledger):
    """Makes what it was only asked for."""

    async def read(self, key):
        value = await self.state("get", scope="accounts", key=key)
        if value is None:
            await self.state("set", scope="accounts", key=key, value={"requests": {}})
            return None
        return len(value["requests"])


@mistake
class CrashesOnMissing(Ledger):
    """Takes every key to be there."""

    async def read(self, key):
        value = await self.state("get", scope="accounts", key=key)
        return len(value["requests"])


@mistake
class WrongMissingCheck(Ledger):
    """Asks whether the value is true, not whether it is there."""

    async def read(self, key):
        value = await self.state("get", scope="accounts", key=key)
        return len(value["requests"]) if value and value["requests"] else None


@mistake
class PathOfKeys(Ledger):
    """Keeps all keys in one value, and joins its path with dots."""

    async def add(self, key, request):
        ops = [{"type": "merge", "path": f"all.{key}".split("."), "value": {request: True}}]
        answer = await self.state("update", scope="accounts", key="all", ops=ops)
        if answer.get("errors"):
            raise RuntimeError(str(answer["errors"]))
        found = answer["new_value"]
        for part in f"all.{key}".split("."):
            found = found[part]
        value = {"requests": dict.fromkeys(found, True)}
        await self.state("set", scope="accounts", key=key, value=value)
        return len(found)


@mistake
class CutKeys(Ledger):
    """Has room for 64 characters."""

    async def add(self, key, request):
        return await super().add(key[:64], request)


@mistake
class TidyKeys(Ledger):
    """Trims keys and makes them lower case."""

    async def add(self, key, request):
        return await super().add(key.strip().lower(), request)


@mistake
class EmptyIsDefault(Ledger):
    """Takes an empty key for none."""

    async def add(self, key, request):
        return await super().add(key or "default", request)


@mistake
class LooksUpRequests(Ledger):
    """Looks up the id of a request first, and counts then."""

    async def add(self, key, request):
        if await self.state("get", scope="had", key=request) is None:
            await super().add(key, uuid.uuid4().hex)
            await self.state("set", scope="had", key=request, value=True)
        return 1


@mistake
class NoRequestIds(Ledger):
    """Counts a request again that came again."""

    async def add(self, key, request):
        return await super().add(key, uuid.uuid4().hex)


if __name__ == "__main__":
    MISTAKES[sys.argv[1]]().run()
