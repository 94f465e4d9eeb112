"""TLS by the URL, over a real server with a certificate of the test's own authority."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.certificates import Authority
from support.postgres import PostgresServer, owner

from iii_skill.errors import StoreRefused

from .conftest import OpenAdapter


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signed the server's certificate."""
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Iterator[PostgresServer]:
    """A server that takes connections with TLS only; its certificate is for `localhost`."""
    server = PostgresServer("ssl=on", "listen_addresses=localhost,127.0.0.1").create()
    try:
        for name, source in zip(
            ("server.crt", "server.key"), authority.issue("localhost", "DNS:localhost"), strict=True
        ):
            shutil.copy(source, server.data / name)
            (server.data / name).chmod(0o600)
            if (user := owner()) is not None:
                shutil.chown(server.data / name, user)
        rules = server.data / "pg_hba.conf"
        rules.write_text("".join(f"hostssl all all {net} trust\n" for net in ("127.0.0.1/32", "::1/128")))
        yield server.start()
    finally:
        server.stop()


async def uses_tls(open_adapter: OpenAdapter, url: str) -> bool:
    """True when an adapter over this URL works and its connections are encrypted."""
    async with open_adapter(database_url=url) as adapter:
        assert (await adapter.set("s", "k", b"1")).new == b"1"
        assert await adapter.get("s", "k") == b"1"
        session = await adapter.connect()
        try:
            rows = await session.fetch("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        finally:
            await adapter.disconnect(session)
    return bool(rows[0][0])


@pytest.mark.parametrize(
    ("host", "query"),
    [
        ("localhost", ""),
        ("localhost", "sslmode=require"),
        ("127.0.0.1", "sslmode=require"),
        ("localhost", "sslmode=verify-ca&sslrootcert={ca}"),
        # Its name is not in the certificate, and need not be.
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert={ca}"),
        ("localhost", "sslmode=verify-full&sslrootcert={ca}"),
    ],
)
async def test_a_connection_is_encrypted_and_the_server_looked_at_as_the_url_says(
    host: str, query: str, secure: PostgresServer, authority: Authority, open_adapter: OpenAdapter
) -> None:
    query = query.format(ca=authority.certificate)
    assert await uses_tls(open_adapter, f"postgresql://test@{host}:{secure.port}/postgres?{query}")


@pytest.mark.parametrize(
    ("host", "query", "words"),
    [
        (
            "localhost",
            "sslmode=verify-full&sslrootcert={other}",
            "is not trusted: unable to get local issuer",
        ),
        ("localhost", "sslmode=verify-ca&sslrootcert={other}", "is not trusted: unable to get local issuer"),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert={ca}", "is not trusted: IP address mismatch"),
        ("localhost", "sslmode=verify-full&sslrootcert={home}/none.pem", "none.pem cannot be read"),
        ("localhost", "sslmode=verify-full&sslrootcert={home}/empty.pem", "holds no certificate or key"),
        ("127.0.0.1", "sslmode=disable", "no encryption"),
    ],
)
async def test_a_server_that_cannot_be_trusted_is_refused_in_one_sentence(
    host: str,
    query: str,
    words: str,
    secure: PostgresServer,
    authority: Authority,
    open_adapter: OpenAdapter,
    tmp_path: Path,
) -> None:
    other = Authority(tmp_path, "other")
    (tmp_path / "empty.pem").write_text("nothing")
    query = query.format(ca=authority.certificate, other=other.certificate, home=tmp_path)
    with pytest.raises(StoreRefused, match=words) as caught:
        async with open_adapter(database_url=f"postgresql://test:word@{host}:{secure.port}/postgres?{query}"):
            pass
    assert "\n" not in caught.value.message
    assert "word@" not in caught.value.message


@pytest.mark.parametrize("mode", ["require", "verify-full&sslrootcert={ca}"])
async def test_tls_is_not_given_up_where_the_server_has_none(
    mode: str, server: PostgresServer, authority: Authority, open_adapter: OpenAdapter
) -> None:
    mode = mode.format(ca=authority.certificate)
    with pytest.raises(StoreRefused, match="does not speak TLS, which sslmode demands"):
        async with open_adapter(database_url=f"{server.url}?sslmode={mode}"):
            pass
