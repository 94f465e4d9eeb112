"""Play recorded cases over a worker connection, several connections at once where that is safe.

But for the pauses of queues nothing sleeps for a fixed time: expected events are waited for, then a round
trip on the same connection shows that no other is on its way. A store that tells of writes later, through its
change stream, has told of all of them when it tells of one more.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from conformance.recorded import (
    Answer,
    Case,
    canonical,
    differences,
    expand,
    map_text,
    project,
    shrink,
)
from conformance.wire import Wire, connected

EVENT_SECONDS = 30.0
FENCE = "conformance-fence"
"""The scope of writes that show that those before them are done with."""
SILENCE_SECONDS = 0.05
CONNECTIONS = 8


def must_be_alone(case: Case) -> bool:
    """True for cases that change settings, or whose triggers hear of the writes of other cases."""
    triggers = [step["register_trigger"] for step in case.steps if "register_trigger" in step]
    return (
        "configuration" in case.tags
        or case.theme == "introspection"
        or any("{scope}" not in canonical(trigger.get("config")) for trigger in triggers)
    )


async def play_all(url: str, cases: Iterable[Case], *, told_later: bool) -> dict[str, list[str]]:
    """The differing cases by id, each with what differs; `told_later`: events may come behind the answer."""
    cases = list(cases)
    wrong: dict[str, list[str]] = {}
    together = iter([case for case in cases if not must_be_alone(case)])

    async def run(some: Iterable[Case]) -> None:
        async with connected(url) as wire:
            for case in some:
                found = await _Play(wire, case, told_later=told_later).run()
                if found:
                    wrong[case.id] = found

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(run(together))
    await run([case for case in cases if must_be_alone(case)])
    return wrong


_numbers = itertools.count(1)


class _Play:
    """One case on one connection."""

    def __init__(self, wire: Wire, case: Case, *, told_later: bool) -> None:
        self._wire = wire
        self._case = case
        self._told_later = told_later
        tag = f"{uuid.uuid4().hex[:6]}x{next(_numbers)}"
        self._scope = f"v{tag}_"
        self._ids = {name: f"rec{tag}::{name}" for name in case.functions}
        self._triggers: set[str] = set()

    async def run(self) -> list[str]:
        """What differs, step by step."""
        wire = self._wire
        for name, spec in self._case.functions.items():
            wire.handlers[self._ids[name]] = (name, expand(spec, self._filled))
            await wire.send({"type": "registerfunction", "id": self._ids[name]})
        found = []
        try:
            for index, step in enumerate(self._case.steps):
                wire.calls.clear()
                answer = await self._answer(step)
                if self._case.functions:
                    await self._settle(len(step["recorded"].get("events", ())))
                    self._add_events(answer)
                if difference := differences(step, answer):
                    found.append(f"step {index}: {', '.join(difference)}: {canonical(answer)[:300]}")
        finally:
            for trigger_id in self._triggers:
                await wire.send({"type": "unregistertrigger", "id": trigger_id, "trigger_type": "state"})
            for function_id in self._ids.values():
                await wire.send({"type": "unregisterfunction", "id": function_id})
        return found

    async def _answer(self, step: Mapping[str, Any]) -> Answer:
        if "sleep_ms" in step:
            # Settings apply before `configuration::set` answers; a queue has pauses of its own.
            if "companions" in self._case.tags:
                await asyncio.sleep(step["sleep_ms"] / 1000)
            return {"done": True}
        if "register_trigger" in step:
            return await self._register(step["register_trigger"])
        if "unregister_trigger" in step:
            trigger_id = self._trigger_id(step["unregister_trigger"])
            await self._wire.send({"type": "unregistertrigger", "id": trigger_id, "trigger_type": "state"})
            await self._round_trip()
            return {"done": True}
        answer = await self._call(step)
        if "result" in answer:
            answer["result"] = project(step, answer["result"], self._scope)
        answer = map_text(answer, self._emptied)
        if "result" in answer:
            answer["result"] = shrink(answer["result"])
        return answer

    async def _call(self, step: Mapping[str, Any]) -> Answer:
        wire = self._wire
        message: Any
        if "raw" in step:
            invocation_id = str(uuid.uuid4())
            message = self._filled(step["raw"]).replace("{invocation_id}", invocation_id)
        else:
            more = {name: step[name] for name in ("action", "namespace") if name in step}
            payload = expand(step.get("payload"), self._filled)
            invocation_id, message = wire.begin(step["function_id"], payload, **more)
        if not step.get("no_reply_ok"):
            return await wire.answer_to(invocation_id, message)
        future = wire.expect(invocation_id)
        await wire.send(message)
        # A later write on the same connection is answered after an earlier one.
        await wire.call("state::set", {"scope": FENCE, "key": self._scope, "value": 1})
        await asyncio.wait([future], timeout=SILENCE_SECONDS)
        return future.result() if future.done() else {"no_reply": True}

    async def _register(self, spec: Mapping[str, Any]) -> Answer:
        trigger_id = self._trigger_id(spec)
        self._triggers.add(trigger_id)
        message = {
            "type": "registertrigger",
            "id": trigger_id,
            "trigger_type": spec.get("type", "state"),
            "function_id": self._ids.get(spec.get("function"), spec.get("function")),
            "config": expand(spec.get("config", {}), self._filled),
        }
        if "metadata" in spec:
            message["metadata"] = expand(spec["metadata"], self._filled)
        self._wire.refused.pop(trigger_id, None)
        await self._wire.send(message)
        await self._round_trip()
        error = self._wire.refused.pop(trigger_id, None)
        if error is None:
            return {"accepted": True}
        said = {key: text for key, text in error.items() if key != "stacktrace"}
        return {"trigger_error": map_text(said, self._emptied)}

    async def _settle(self, expected: int) -> None:
        wire = self._wire
        deadline = asyncio.get_running_loop().time() + EVENT_SECONDS
        while len(wire.calls) < expected and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.001)
        seen = -1
        while seen != self._heard or wire.busy:
            seen = self._heard
            if self._told_later:
                await self._told()
            await self._round_trip()

    async def _told(self) -> None:
        """Wait until the host is told of all that was written: of a later write it is."""
        changes, where = "iii-skill::state::changes", {"scope": FENCE, "key": self._scope}
        after = (await self._wire.call(changes, {}))["result"]["next"]
        await self._wire.call("state::set", {**where, "value": next(_numbers)})
        told = await self._wire.call(changes, {**where, "after": after, "wait_ms": 15_000})
        assert told["result"]["changes"], "the store does not tell of a write"

    def _add_events(self, answer: Answer) -> None:
        events = [map_text(call, self._emptied) for call in self._wire.calls if not _is_of_a_fence(call)]
        for event in events:
            event["payload"] = shrink(event["payload"])
        if events:
            answer["events"] = sorted(events, key=canonical)

    @property
    def _heard(self) -> int:
        """How many calls came, but for those that only a fence leads to."""
        return sum(not _is_of_a_fence(call) for call in self._wire.calls)

    async def _round_trip(self) -> None:
        await self._wire.call("state::get", {"scope": f"{self._scope}none", "key": "none"})

    def _trigger_id(self, spec: Mapping[str, Any]) -> str:
        return f"{self._scope}trigger-{spec['id']}"

    @property
    def _filled(self) -> Callable[[str], str]:
        def fill(text: str) -> str:
            text = text.replace("{scope}", self._scope)
            for name, full in self._ids.items():
                text = text.replace(f"{{fn:{name}}}", full)
            return text

        return fill

    @property
    def _emptied(self) -> Callable[[str], str]:
        def empty(text: str) -> str:
            text = text.replace(self._scope, "{scope}")
            for name, full in self._ids.items():
                text = text.replace(full, f"{{fn:{name}}}")
            return text

        return empty


def _is_of_a_fence(call: Mapping[str, Any]) -> bool:
    payload = call["payload"]
    return isinstance(payload, dict) and payload.get("scope") == FENCE
