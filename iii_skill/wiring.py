"""Put the state worker and the configuration entries onto an engine: functions, trigger types, fan-out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from iii_skill.adapter import StateAdapter
from iii_skill.calls import Call, FunctionInfo
from iii_skill.configuration import functions as configuration_functions
from iii_skill.configuration.entries import Configurations
from iii_skill.configuration.state_entry import ON_CONFIG_CHANGE, on_config_change, state_entry
from iii_skill.configuration.triggers import (
    ConfigurationTriggers,
    configuration_changed,
    configuration_source,
)
from iii_skill.engine.engine import Engine
from iii_skill.state.functions import EXTRA, WORKER_NAME
from iii_skill.state.settings import LiveSettings
from iii_skill.state.triggers import StateTriggers, state_changed, state_source
from iii_skill.state.worker import StateWorker

Handlers: TypeAlias = Mapping[str, Callable[[Call], None]]


def add_configuration(engine: Engine, environment: Mapping[str, str]) -> Configurations:
    """`configuration::*`, the source `configuration::on-updated` and the trigger type `configuration`."""
    source = configuration_source()
    configurations = Configurations(
        lambda event: configuration_changed(source, event), environment=environment
    )
    _add(
        engine,
        configuration_functions.FUNCTIONS,
        configurations.functions,
        worker_name=configuration_functions.WORKER_NAME,
    )
    engine.add_source(source)
    engine.add_provider(ConfigurationTriggers(source, engine.fanout.fire))
    return configurations


def add_state(
    engine: Engine,
    adapter: StateAdapter,
    settings: LiveSettings,
    configurations: Configurations,
    *,
    engine_functions_only: bool = False,
) -> StateWorker:
    """`state::*` out of the adapter, its source, the trigger type `state`, and the entry `iii-state`."""
    source = state_source()
    worker = StateWorker(
        adapter,
        settings=settings,
        publish=lambda change: state_changed(source, change),
        listeners=source.listeners.entries,
    )
    source.on_listen = worker.listen
    hidden = EXTRA if engine_functions_only else frozenset()
    engine.functions.hide(hidden)
    offered = [info for info in worker.descriptions if info.id not in hidden]
    _add(engine, offered, worker.functions, worker_name=WORKER_NAME)
    _add(engine, [ON_CONFIG_CHANGE], {ON_CONFIG_CHANGE.id: on_config_change}, worker_name=WORKER_NAME)
    configurations.add(state_entry(settings))
    engine.functions.reserve("state::")
    engine.add_source(source)
    engine.add_provider(StateTriggers(source, engine.fanout.fire))
    return worker


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
