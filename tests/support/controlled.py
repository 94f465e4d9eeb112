"""A host of engines for tests, `iii-skill serve --control`, and its control port asked by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

FREE_PORTS = ("--port", "0", "--http-port", "0")


class Control:
    """The process and its port; each request has a connection of its own."""

    def __init__(self, process: subprocess.Popen[str], ready: dict[str, Any]) -> None:
        self.process = process
        self.ready = ready
        self.token: str = ready["control"]["token"]
        parts = urlsplit(ready["control"]["url"])
        self.address = (str(parts.hostname), int(parts.port or 0))

    def raw(
        self,
        path: str,
        body: bytes = b"{}",
        *,
        method: str = "POST",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Status and body of one request."""
        connection = HTTPConnection(*self.address, timeout=60)
        try:
            sent = {"authorization": f"Bearer {self.token}"} if headers is None else headers
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def head(self, path: str, length: str = "content-length: 2") -> bytes:
        """The head of a request that is sent by hand."""
        lines = [f"POST /engines{path} HTTP/1.1", "host: 127.0.0.1", f"authorization: Bearer {self.token}"]
        return "\r\n".join([*lines, length, "", ""]).encode()

    def ask(self, path: str, **asked: Any) -> Any:
        """The result of a request that is answered; None also where there is none."""
        status, body = self.raw(f"/engines{path}", json.dumps(asked).encode())
        assert status == 200, body
        return json.loads(body).get("result")

    def refused(self, path: str, **asked: Any) -> tuple[int, str, str]:
        """Status, code and message of a request that is not."""
        status, body = self.raw(f"/engines{path}", json.dumps(asked).encode())
        error = json.loads(body)["error"]
        return status, error["code"], error["message"]

    def open(self, **wanted: Any) -> str:
        """The path of a new engine."""
        return f"/{self.ask('', **wanted)['engine']}"


@contextmanager
def controlled(
    *options: str, cwd: Path, adapter: Sequence[str] = ("--adapter", "memory")
) -> Iterator[Control]:
    """A host that ends with the block."""
    command = [sys.executable, "-m", "iii_skill", "serve", "--control", *adapter, *FREE_PORTS, *options]
    with subprocess.Popen(
        [*command, "--ready-json", "--until-eof"],
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Control(process, json.loads(process.stdout.readline()))
            process.stdin.close()
            assert process.wait(30) == 0
        finally:
            process.kill()
