"""After any op on any adapter, over the worker port's own path in process, the JSON is the model's JSON."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance.recorded import same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import op_model
from support.adapters import BUNDLED
from support.adapters import settings as adapter_settings
from support.json_values import documents, ops, spelled

from iii_skill import Host, open_host

_keys = itertools.count()


class Ground:
    """A host in process, and its event loop."""

    def __init__(self, runner: asyncio.Runner, host: Host) -> None:
        self._runner = runner
        self._host = host

    def call(self, function_id: str, payload: bytes) -> Any:
        """The decoded answer."""
        answer = self._runner.run(self._host.engine.trigger(function_id, payload, timeout=10))
        return None if answer is None else json.loads(answer)


@pytest.fixture(scope="module", params=BUNDLED)
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    where: Path = tmp_path_factory.mktemp("values")
    with asyncio.Runner() as runner:
        host = open_host(adapter=request.param, adapter_config=adapter_settings(request.param, where))
        yield Ground(runner, runner.run(host.__aenter__()))
        runner.run(host.__aexit__(None, None, None))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(document=documents, listed=ops, seed=st.integers(0, 2**32))
def test_json_is_equal_after_any_op(
    ground: Ground, document: Any, listed: list[dict[str, Any]], seed: int
) -> None:
    where = b'"scope":"s","key":"%d"' % next(_keys)
    ground.call("state::set", b'{%b,"value":%b}' % (where, spelled(document, seed)))
    assert same(ground.call("state::get", b"{%b}" % where), document)
    updated = ground.call("state::update", b'{%b,"ops":%b}' % (where, json.dumps(listed).encode()))
    expected, failed = op_model.run(document, listed)
    assert same(updated["old_value"], document)
    assert same(updated["new_value"], expected)
    assert [error["op_index"] for error in updated.get("errors", ())] == failed
    assert same(ground.call("state::get", b"{%b}" % where), expected)
    swap = b'{%b,"expected":%b,"value":1}' % (where, spelled(expected, seed + 1))
    assert ground.call("state::compare-and-set", swap) == {"swapped": True}
    assert ground.call("state::delete", b"{%b}" % where) == 1
