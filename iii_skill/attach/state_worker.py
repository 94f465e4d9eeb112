"""Attach: our state worker as a worker of a running iii engine, serving `state::*` out of any adapter.

The engine needs no change: the worker registers the functions and the trigger type `state`, the engine
routes calls and hands triggers over; one that knows of observers gets `state::on-changed` too, and is told
of the changes that somebody observes. A second owner of `state::*` is refused before anything is
registered. After a lost connection it comes back with back-off, takes its names over and registers again;
the engine then delivers triggers and observers anew.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
from msgspec import UNSET, Raw
from picows import WSError

from iii_skill import __version__
from iii_skill.adapter import StateAdapter
from iii_skill.attach.owners import refuse_second_owner, second_owner
from iii_skill.calls import Call, Failure, Outcome, Result
from iii_skill.engine.fanout import DEFAULT_TIMEOUT_S, Fanout
from iii_skill.engine.ids import fresh_id
from iii_skill.engine.workers import TOO_LARGE
from iii_skill.engine_link import FunctionName, Link, connect
from iii_skill.errors import TriggerRefused
from iii_skill.filters.filter import Filter
from iii_skill.protocol import client
from iii_skill.protocol.codec import encode
from iii_skill.protocol.limits import MESSAGE_LIMIT
from iii_skill.protocol.messages import ErrorBody, Outcomes, TriggerRegistrationResult
from iii_skill.protocol.outgoing import InvocationReply, ObserverView, WithdrawTrigger
from iii_skill.protocol.unreached import Refused
from iii_skill.sources import Event
from iii_skill.state.settings import LiveSettings, StateSettings
from iii_skill.state.triggers import EVENT_SCHEMA, StateTriggers, state_changed, state_source
from iii_skill.state.worker import StateWorker
from iii_skill.triggers import Trigger

logger = logging.getLogger(__name__)

NAME = "iii-skill-state"
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 10.0
HANDOVER_S = 20.0
"""How long names of our own former connection are asked for again; the engine holds them for 5 s."""

_ENTRIES = "state::list_entries"


class _Stamp(msgspec.Struct):
    _caller_worker_id: str | None = None


class Attached:
    """The attached state worker. `run` serves until it is cancelled."""

    def __init__(
        self,
        url: str,
        adapter: StateAdapter,
        *,
        max_value_bytes: int | None = None,
        token: str | None = None,
        handler_timeout_s: float = DEFAULT_TIMEOUT_S,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.url = url
        self._token = token
        self._on_ready = on_ready
        self._link: Link | None = None
        self._fanout = Fanout(self._invoke, abandon=self._abandon, timeout_s=handler_timeout_s)
        self._source = state_source()
        self._triggers = StateTriggers(self._source, self._fanout.fire)
        self._former: tuple[str, str] | None = None
        self.worker = StateWorker(
            adapter,
            settings=LiveSettings(StateSettings(max_value_bytes=max_value_bytes)),
            publish=lambda change: state_changed(self._source, change),
            listeners=self._source.listeners.entries,
        )
        self._source.on_listen = self.worker.listen

    async def run(self) -> None:
        """Serve for ever; raises Refused when state::* has another owner or the engine refuses us."""
        await self.worker.start()
        wait = FIRST_WAIT_S
        while True:
            link: Link | None = None
            try:
                link = await connect(self, token=self._token)
                await self._register(link)
                wait = FIRST_WAIT_S
                self._link = link
                logger.info("serving state::* and the trigger type state on %s", self.url)
                self._on_ready()
                await link.lost.wait()
                if link.refusal is not None:
                    raise Refused(link.refusal)
                logger.warning("the connection to %s is lost; coming back", self.url)
            except (OSError, WSError, TimeoutError) as error:
                logger.warning("no engine at %s (%s); trying again in %.2f s", self.url, error, wait)
                await asyncio.sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT_S)
            finally:
                self._link = None
                self._source.clear()
                self._fanout.close()
                if link is not None:
                    link.leave()

    async def close(self) -> None:
        """Answer what was accepted, then leave."""
        await self.worker.close()
        if self._link is not None:
            self._link.leave()

    async def _register(self, link: Link) -> None:
        """Identify, look for another owner, then take the names; what our former self holds is waited for."""
        if self._former is not None:
            link.send(client.reattach(*self._former))
        observable = client.OBSERVERS in link.features
        link.send(client.identify(NAME, __version__, ["observe.v1", client.OBSERVERS] if observable else []))
        await refuse_second_owner(link, besides=None if self._former is None else NAME)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HANDOVER_S
        while True:
            link.rejected.clear()
            for info in self.worker.descriptions:
                link.send(
                    client.register_function(
                        info.id, info.description, info.request_schema, info.response_schema
                    )
                )
            if observable:
                source = self._source
                link.send(
                    client.register_function(
                        source.function_id, source.description, EVENT_SCHEMA, EVENT_SCHEMA, private=True
                    )
                )
            # A round trip on the same socket orders us behind every refusal.
            await link.ask("engine::functions::list", {"prefix": "state::"})
            if not link.rejected:
                break
            owners = set(link.rejected.values())
            ours = self._former is not None and owners == {self._former[0]}
            if not ours or loop.time() > deadline:
                raise second_owner(", ".join(sorted(link.rejected)), sorted(owners))
            await asyncio.sleep(0.5)
        self._former = link.identity
        kinds = self._triggers
        link.send(
            client.register_trigger_type(
                kinds.trigger_type, kinds.description, kinds.configuration_schema, kinds.request_schema
            )
        )

    # What the link hands over.

    def called(self, link: Link, message: client.Invoked) -> None:
        """The engine calls one of our functions."""
        data = bytes(message.data)

        def reply(outcome: Outcome) -> None:
            text = encode(_answer(message, outcome))
            if len(text) > MESSAGE_LIMIT:
                text = encode(_answer(message, _shortened(outcome, len(text))))
            link.send(text)

        handler = self.worker.functions.get(message.function_id)
        if handler is None:
            reply(Failure("function_not_found", f"Function {message.function_id} is not served here."))
            return
        # Only pages are kept for each caller; nothing else looks at who calls.
        caller_id = _caller(data) if message.function_id == _ENTRIES else None
        try:
            handler(Call(message.function_id, data, reply, None, caller_id))
        except Exception as error:
            logger.exception("function %s failed", message.function_id)
            reply(Failure("internal_error", f"{message.function_id} failed inside its worker: {error}"))

    def delivered(self, link: Link, message: client.TriggerDelivered) -> None:
        """The engine hands us a trigger."""
        trigger = Trigger(
            message.id,
            message.trigger_type,
            message.function_id,
            bytes(message.config),
            None if bytes(message.metadata) == b"null" else bytes(message.metadata),
            message.namespace,
        )
        error = None
        try:
            self._triggers.register(trigger)
        except TriggerRefused as refused:
            error = ErrorBody(refused.code, refused.message)
        result = TriggerRegistrationResult(trigger.id, trigger.trigger_type, trigger.function_id, error)
        link.send(encode(result))

    def withdrawn(self, message: WithdrawTrigger) -> None:
        """The engine takes a trigger back."""
        self._triggers.unregister(Trigger(message.id, message.trigger_type, ""))
        self._fanout.forget(message.id)

    def observed(
        self, link: Link, function: FunctionName, revision: int, views: Sequence[ObserverView]
    ) -> None:
        """Take the observers; those of changes are told of every change that their filter lets through."""
        for view in views:
            if function.function_id == self._source.function_id and view.on is not Outcomes.ERROR:
                filter_ = Filter(view.filters, written=False)
                self._source.listen(_listener(view.id), filter_, partial(self._tell, link, view.id))
            link.send(client.acknowledge(*function, view.id, revision))

    def unobserved(self, observer_id: str) -> None:
        """An observer has ended."""
        self._source.leave(_listener(observer_id))

    def _tell(self, link: Link, observer_id: str, event: Event) -> None:
        now_ms = time.time_ns() // 1_000_000
        link.send(client.report(self._source.function_id, observer_id, fresh_id(), event.payload, now_ms))

    def _invoke(self, call: Call) -> None:
        if self._link is None:
            call.reply(Failure("not_connected", "The engine is not connected."))
        else:
            self._link.call(call)

    def _abandon(self, call: Call) -> None:
        if self._link is not None:
            self._link.abandon(call)


def _caller(data: bytes) -> str | None:
    """Who called, as the engine stamped it into the payload."""
    try:
        return msgspec.json.decode(data, type=_Stamp)._caller_worker_id
    except msgspec.DecodeError:
        return None


def _shortened(outcome: Outcome, size: int) -> Outcome:
    """What takes the place of an answer that no engine takes: a write that was made says so."""
    if isinstance(outcome, Result) and outcome.brief is not None:
        return Result(outcome.brief)
    return Failure(
        TOO_LARGE, f"The answer has {size} bytes, more than the {MESSAGE_LIMIT} bytes of a message."
    )


def _answer(message: client.Invoked, outcome: Outcome) -> InvocationReply:
    if isinstance(outcome, Result):
        result = UNSET if outcome.value is None else Raw(outcome.value)
        return InvocationReply(message.invocation_id, message.function_id, result)
    error = ErrorBody(outcome.code, outcome.message, outcome.stacktrace)
    return InvocationReply(message.invocation_id, message.function_id, UNSET, error)


def _listener(observer_id: str) -> str:
    """The name under which an observer listens; a trigger may have the same id."""
    return f"observer {observer_id}"
