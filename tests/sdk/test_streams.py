"""Streamed bodies and answers through the helpers of the SDKs, over the channels of the host."""

from __future__ import annotations

import http.client
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.host import running_host
from support.sdk_workers import running_worker

pytestmark = pytest.mark.timeout(400)

SDKS = ["python-0.10.0", "python-0.23.0", "python-0.25.0", "node-0.9.0", "node-0.11.2", "node-0.22.1"]
BODY = b"words in a row, " * 20_000


def shout(url: str) -> tuple[int, str | None, bytes]:
    """POST the body as plain text; status, a header of the worker, and the whole answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("POST", "/shout", BODY, {"content-type": "text/plain"})
        response = connection.getresponse()
        return response.status, response.getheader("x-from"), response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("sdk", SDKS)
def test_a_raw_body_streams_in_and_the_answer_streams_out(tmp_path: Path, sdk: str) -> None:
    with running_host(tmp_path) as host, running_worker(sdk, tmp_path / "worker", host.ws, program="stream"):
        deadline = time.monotonic() + 60
        while (answer := shout(host.http))[0] == 404 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert answer[:2] == (207, "stream")
        assert answer[2] == BODY.upper()
