"""Every recorded case, played over the worker port of a host on each adapter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance.differences import named_cases
from conformance.player import play_all
from conformance.recorded import cases
from support import redis
from support.host import running_host


@pytest.fixture(params=["memory", "file", "redis"])
def adapter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(adapter: str, tmp_path: Path) -> Iterator[str]:
    options = ["--adapter", adapter]
    if adapter == "redis":
        for name, value in redis.settings().items():
            options += ["--adapter-config", f"{name}={value}"]
    with running_host(tmp_path, *options) as host:
        yield host.ws


@pytest.mark.timeout(400)  # some 700 cases: only the load of the machine makes it long
async def test_a_host_differs_from_the_engine_only_where_the_table_says_so(adapter: str, url: str) -> None:
    wrong = await play_all(url, cases(), told_later=adapter == "redis")
    unlisted = {case: found for case, found in wrong.items() if case not in named_cases()}
    assert not unlisted
    assert named_cases() - wrong.keys() == set(), "listed as different, but answered as the engine answers"
