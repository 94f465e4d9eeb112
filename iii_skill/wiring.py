"""Put the state worker and the configuration entries onto an engine: functions, trigger types, fan-out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from iii_skill.adapter import StateAdapter
from iii_skill.calls import Call, FunctionInfo
from iii_skill.configuration import functions as configuration_functions
from iii_skill.configuration.entries import ConfigurationEvent, Configurations
from iii_skill.configuration.state_entry import ON_CONFIG_CHANGE, on_config_change, state_entry
from iii_skill.configuration.triggers import ConfigurationTriggers
from iii_skill.engine.engine import Engine
from iii_skill.engine.fanout import Fanout
from iii_skill.state.events import event_payload
from iii_skill.state.functions import WORKER_NAME
from iii_skill.state.settings import LiveSettings
from iii_skill.state.triggers import StateTriggers
from iii_skill.state.worker import StateWorker
from iii_skill.values import Change

Handlers: TypeAlias = Mapping[str, Callable[[Call], None]]


def add_configuration(engine: Engine, environment: Mapping[str, str]) -> Configurations:
    """`configuration::*` and the trigger type `configuration`."""
    triggers: ConfigurationTriggers = ConfigurationTriggers()

    def publish(event: ConfigurationEvent) -> None:
        for match in triggers.matching(event):
            engine.fanout.fire(match.trigger, event.id, event.payload, match.condition_function_id)

    configurations = Configurations(publish, environment=environment)
    _add(
        engine,
        configuration_functions.FUNCTIONS,
        configurations.functions,
        worker_name=configuration_functions.WORKER_NAME,
    )
    engine.add_provider(triggers)
    return configurations


def add_state(
    engine: Engine, adapter: StateAdapter, settings: LiveSettings, configurations: Configurations
) -> StateWorker:
    """`state::*` out of the adapter, the trigger type `state`, and the entry `iii-state`."""
    triggers: StateTriggers = StateTriggers()

    def publish(change: Change) -> None:
        fire_state_event(engine.fanout, triggers, change)

    worker = StateWorker(adapter, settings=settings, publish=publish, listeners=triggers.filters)
    triggers.on_register = worker.listen
    _add(engine, worker.descriptions, worker.functions, worker_name=WORKER_NAME)
    _add(engine, [ON_CONFIG_CHANGE], {ON_CONFIG_CHANGE.id: on_config_change}, worker_name=WORKER_NAME)
    configurations.add(state_entry(settings))
    engine.functions.reserve("state::")
    engine.add_provider(triggers)
    return worker


def fire_state_event(fanout: Fanout, triggers: StateTriggers, change: Change) -> None:
    """Fire every trigger that wants the event of the change, in one lane per trigger and key."""
    matches = triggers.matching(change)
    if not matches:
        return
    payload, lane = event_payload(change), (change.scope, change.key)
    for match in matches:
        fanout.fire(match.trigger, lane, payload, match.condition_function_id)


def _add(engine: Engine, infos: Iterable[FunctionInfo], handlers: Handlers, *, worker_name: str) -> None:
    for info in infos:
        engine.add_function(
            info.id,
            handlers[info.id],
            description=info.description,
            request_schema=info.request_schema,
            response_schema=info.response_schema,
            worker_name=worker_name,
        )
