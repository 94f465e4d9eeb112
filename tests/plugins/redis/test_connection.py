"""Ways to reach a server: TLS, a Unix socket, settings in the URL, and no redis-py at all."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from iii_state_redis import RedisAdapter, RedisConfig
from support.redis import RedisServer, free_port, redis_server

from iii_skill.errors import StoreRefused


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    directory = tmp_path_factory.mktemp("tls")
    crt, key = directory / "server.crt", directory / "server.key"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-keyout", str(key), "-out", str(crt), "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "keyUsage=digitalSignature,keyCertSign"]
    subprocess.run(command, check=True, capture_output=True)
    return crt, key


@pytest.fixture(scope="module")
def secure(certificate: tuple[Path, Path]) -> Iterator[tuple[RedisServer, int]]:
    """A server that also listens with TLS, and that port."""
    crt, key = certificate
    port = free_port()
    settings = ("--tls-port", str(port), "--tls-cert-file", str(crt), "--tls-key-file", str(key))
    with redis_server(*settings, "--tls-ca-cert-file", str(crt), "--tls-auth-clients", "no") as server:
        yield server, port


async def round_trip(url: str) -> None:
    """Write and read through an adapter at this URL, large values included."""
    adapter = RedisAdapter()
    try:
        await adapter.open(RedisConfig(redis_url=url))
        changes = adapter.changes()
        large = b'"' + b"x" * 1_000_000 + b'"'
        assert (await adapter.set("s", "large", large)).new == large
        assert await adapter.get("s", "large") == large
        assert (await adapter.update("s", "large", lambda _old: b"1")).old == large
        assert (await anext(changes)).new == large
        assert (await anext(changes)).new == b"1"
        await adapter.delete("s", "large")
    finally:
        await adapter.close()


async def test_tls_with_a_trusted_certificate_works(
    secure: tuple[RedisServer, int], certificate: tuple[Path, Path]
) -> None:
    await round_trip(f"rediss://127.0.0.1:{secure[1]}?ssl_ca_certs={quote(str(certificate[0]))}")


async def test_a_certificate_that_is_not_trusted_is_refused(secure: tuple[RedisServer, int]) -> None:
    adapter = RedisAdapter()
    with pytest.raises(StoreRefused, match="not trusted"):
        await adapter.open(RedisConfig(redis_url=f"rediss://127.0.0.1:{secure[1]}"))
    await adapter.close()


async def refusal(url: str, caplog: pytest.LogCaptureFixture, timeout: float = 5.0) -> str:
    """What is logged of a server that cannot be used yet."""
    adapter = RedisAdapter()
    try:
        await adapter.open(RedisConfig(redis_url=url, timeout=timeout, connect_timeout=timeout))
    finally:
        await adapter.close()
    return caplog.text


async def test_a_server_without_tls_that_is_asked_for_it_is_told_as_such(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    told = await refusal(f"rediss://127.0.0.1:{server.port}", caplog, timeout=0.5)
    assert "cannot be used yet: it did not answer within 0.5 s; rediss:// needs a port that" in told


async def test_a_tls_port_that_is_asked_without_tls_is_told_as_such(
    secure: tuple[RedisServer, int], caplog: pytest.LogCaptureFixture
) -> None:
    told = await refusal(f"redis://127.0.0.1:{secure[1]}", caplog)
    assert re.search(r"yet: Connection [a-z ]+; a port that speaks TLS takes rediss://", told)


async def test_what_fails_in_tls_is_said_in_its_own_words(caplog: pytest.LogCaptureFixture) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 this port greets first, without TLS\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        told = await refusal(f"rediss://127.0.0.1:{port}", caplog)
    assert "cannot be used yet: [SSL: " in told


async def test_a_unix_socket_works(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("s") / "redis.sock"
    with redis_server("--unixsocket", str(path)):
        await round_trip(f"unix://{path}?db=2")


async def test_settings_of_redis_py_in_the_url_do_no_harm() -> None:
    with redis_server() as server:
        await round_trip(f"{server.url}?decode_responses=True&protocol=3&max_connections=1&client_name=mine")


def test_the_plugin_loads_without_redis_py_and_says_what_to_install() -> None:
    script = """
import asyncio, sys
sys.modules["redis"] = sys.modules["hiredis"] = None
from iii_skill.errors import StoreRefused
from iii_skill.plugins import load_plugins
adapter = load_plugins().adapter("redis")()
try:
    asyncio.run(adapter.open(adapter.config_type()))
except StoreRefused as error:
    print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'redis[hiredis]>=5.2'" in done.stdout


def test_redis_py_is_not_imported_before_an_adapter_opens() -> None:
    script = "import sys, iii_state_redis; print('redis' in sys.modules, 'hiredis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
