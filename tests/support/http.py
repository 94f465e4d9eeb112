"""A small HTTP client for tests: JSON in, status and JSON out, never an exception for a status."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any


def post(
    url: str,
    body: Any = None,
    *,
    timeout: float = 30.0,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    """Send JSON; the status and the decoded body (None when it is empty)."""
    request = urllib.request.Request(
        url,
        None if method == "GET" else json.dumps(body).encode(),
        {"content-type": "application/json", **(headers or {})},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, _decoded(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _decoded(error.read())


def post_until(url: str, body: Any, *, status: int = 200, timeout: float = 60.0) -> Any:
    """Send JSON again and again until the answer has that status; its body.

    What is refused or has no route yet is asked again: a worker registers its routes a moment after it
    starts, or reconnects a while after the host is back.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            last: Any = post(url, body)
        except OSError as error:
            last = (0, repr(error))
        if last[0] == status:
            return last[1]
        if time.monotonic() > deadline:
            raise AssertionError(f"POST {url}: no answer with {status} in {timeout} s, the last was {last}")
        time.sleep(0.05)


def _decoded(raw: bytes) -> Any:
    return json.loads(raw) if raw else None
