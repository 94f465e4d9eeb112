"""Who reaches the two ports of a host, and by which name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from support.site import read_reply
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from iii_skill import open_host
from iii_skill.config import Config, HttpSettings
from iii_skill.config.settings import WorkerListener
from iii_skill.errors import ConfigurationError
from iii_skill.server.ports import Servers

NAMES = ["iii", "iii.default.svc.cluster.local", "host.docker.internal", "192.168.1.5"]
TOKEN = "s3cret"


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Servers]:
    """A host on free ports."""
    async with open_host(adapter="memory") as host:
        yield await host.serve(port=0, http_port=0, **options)


async def status(url: str, *lines: bytes) -> int:
    """The status of a GET with these header lines, on whichever port."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    writer.write(b"".join(line + b"\r\n" for line in (b"GET / HTTP/1.1", *lines, b"")))
    try:
        return (await read_reply(reader)).status
    finally:
        writer.close()
        await writer.wait_closed()


UPGRADE = (
    b"connection: Upgrade",
    b"upgrade: websocket",
    b"sec-websocket-version: 13",
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
)


async def greeted(servers: Servers, name: str, query: str = "", **headers: str) -> bool:
    """True when a worker that calls the host by that name is let in."""
    port = urlsplit(servers.ws_url).port
    url = f"ws://{name}:{port}/{query}"
    try:
        async with connect(
            url, host="127.0.0.1", port=port, additional_headers=headers, proxy=None
        ) as worker:
            return "workerregistered" in str(await worker.recv())
    except InvalidStatus as refused:
        if refused.response.status_code != 403:
            raise
        return False


async def by_name(servers: Servers, name: str, *lines: bytes) -> int:
    assert servers.http_url is not None
    return await status(servers.http_url, f"host: {name}:3111".encode(), *lines)


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_beyond_loopback_is_refused_with_one_line_that_says_what_to_do(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as servers:
        for _ in range(2):
            assert await by_name(servers, name) == 403
        assert not await greeted(servers, name)
    lines = [record.getMessage() for record in caplog.records if name in record.getMessage()]
    assert len(lines) == 2  # one for each port
    assert all("--allowed-host" in line for line in lines)


@pytest.mark.parametrize("name", NAMES)
async def test_an_allowed_name_reaches_both_ports(name: str) -> None:
    async with serving(allowed_hosts=NAMES) as servers:
        assert await by_name(servers, name) == 404
        assert await greeted(servers, name)
        assert await by_name(servers, "evil.example") == 403
        assert not await greeted(servers, "evil.example")


@pytest.mark.parametrize("section", ["worker", "http"])
async def test_a_name_that_a_section_of_the_configuration_allows_reaches_both_ports(section: str) -> None:
    parts = {"worker": WorkerListener(), "http": HttpSettings()}
    parts[section] = msgspec.structs.replace(parts[section], allowed_hosts=("iii",))
    config = Config(worker=parts["worker"], http=parts["http"], state=None)
    async with open_host(config=config) as host:
        servers = await host.serve(port=0, http_port=0)
        assert await by_name(servers, "iii") == 404
        assert await greeted(servers, "iii")


@pytest.mark.parametrize("name", NAMES)
async def test_whoever_presents_the_token_reaches_both_ports_by_any_name(name: str) -> None:
    async with serving(token=TOKEN) as servers:
        assert await by_name(servers, name, b"authorization: Bearer s3cret") == 404
        assert await by_name(servers, name, b"authorization: Bearer s3cret2") == 403
        assert await by_name(servers, "localhost") == 404
        assert await greeted(servers, name, f"?token={TOKEN}")
        assert await greeted(servers, name, authorization=f"Bearer {TOKEN}")
        assert not await greeted(servers, name, "?token=wrong")


@pytest.mark.parametrize(
    "given", [b"Bearer \xe9", b"\xff\xfe", b"Bearer \xc3\xa9", b"Bearer", b"Bearer s3cret\xa0", b"Basic czM="]
)
async def test_a_wrong_token_of_any_bytes_is_just_refused(given: bytes) -> None:
    async with serving(token=TOKEN) as servers:
        line = b"authorization: " + given
        assert await status(servers.ws_url, b"host: localhost", line, *UPGRADE) == 401
        assert await by_name(servers, "localhost", line) == 404
        assert await by_name(servers, "iii", line) == 403


@pytest.mark.parametrize("name", ["", "http://iii", "iii:3111", "a b"])
async def test_what_is_no_name_cannot_be_allowed(name: str) -> None:
    async with open_host(adapter="memory") as host:
        with pytest.raises(ConfigurationError, match="--allowed-host and `allowed_hosts` take a name"):
            await host.serve(port=0, http_port=0, allowed_hosts=[name])


async def test_an_image_of_another_site_is_refused_and_a_link_is_followed() -> None:
    image = (b"sec-fetch-site: cross-site", b"sec-fetch-mode: no-cors", b"sec-fetch-dest: image")
    link = (b"sec-fetch-site: cross-site", b"sec-fetch-mode: navigate", b"sec-fetch-dest: document")
    async with serving() as servers:
        assert await by_name(servers, "localhost", *image) == 403
        assert await by_name(servers, "localhost", *link) == 404
