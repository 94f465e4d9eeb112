"""A host with a console in a thread of its own, and pages of it in Debian's Chromium."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import shutil
import threading
from collections.abc import Coroutine, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright
from support.host import WAIT_S, free_port
from support.skill_tools import npm

from iii_skill import Host, open_host

AXE = "4.14.1"
PATIENCE_MS = 1000 * WAIT_S
"""How long a page may take for what must come: load alone decides, and some parts ask every few seconds."""

DRAWN = "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30)))"
"""Calls `done` when the page has drawn what was done before, and its effects have run."""

WIDE, NARROW = (1280, 800), (375, 740)


class ConsoleHost:
    """A host in this process. Its calls wait for answers; `restart` keeps the ports and nothing else."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.port = free_port()
        self.worker_port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._over: asyncio.Event | None = None
        self._closed: Any = None
        self.host: Host
        self.url = ""
        self.start()

    def start(self) -> None:
        """Open it; `url` is the address of its console."""
        opened = threading.Event()

        async def run() -> None:
            self._over = asyncio.Event()
            try:
                async with open_host(**self.options) as host:
                    await host.serve(port=self.worker_port, http_port=0)
                    self.host, self.url = host, await host.serve_console(self.port)
                    opened.set()
                    await self._over.wait()
            finally:
                opened.set()

        self._closed = asyncio.run_coroutine_threadsafe(run(), self._loop)
        assert opened.wait(30)
        assert not self._closed.done(), self._closed.exception()

    def stop(self) -> None:
        """Close it."""
        assert self._over is not None
        self._loop.call_soon_threadsafe(self._over.set)
        self._closed.result(30)

    def restart(self) -> None:
        """Close it and open another one on the same ports."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Close it and end its thread."""
        with contextlib.suppress(BaseException):
            self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What a coroutine gives that runs where the host does."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def call(self, function_id: str, /, **payload: Any) -> Any:
        """Call a function."""
        return self.wait(self.host.trigger(function_id, payload))

    def set(self, scope: str, key: str, value: Any) -> None:
        """Store a value."""
        self.call("state::set", scope=scope, key=key, value=value)

    def text(self, scope: str, key: str) -> str:
        """A stored value as the store has it."""
        payload = json.dumps({"scope": scope, "key": key}).encode()
        value = self.wait(self.host.engine.trigger("state::get", payload))
        return "" if value is None else bytes(value).decode()

    def put(self, scope: str, key: str, text: str) -> None:
        """Store a value that is given as a text."""
        names = json.dumps({"scope": scope, "key": key})[1:-1]
        self.wait(self.host.engine.trigger("state::set", f'{{{names},"value":{text}}}'.encode()))

    def fill(self, scope: str, keys: list[str], value: Any = 1) -> None:
        """Store a value under many keys."""

        async def work() -> None:
            for key in keys:
                await self.host.trigger("state::set", {"scope": scope, "key": key, "value": value})

        self.wait(work())

    @property
    def address(self) -> str:
        """The address of its console without the token."""
        return self.url.split("#")[0].rstrip("/")

    @property
    def token(self) -> str:
        """The token of this start."""
        return self.url.split("#token=")[1]

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one request without a browser; the token goes along unless given."""
        given = {"authorization": f"Bearer {self.token}"} | {
            k.replace("_", "-"): v for k, v in headers.items()
        }
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=20)
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def ask(self, question: str, **fields: Any) -> Any:
        """The answer to a question of the page."""
        status, _, body = self.request("POST", f"/api/{question}", json.dumps(fields).encode())
        assert status == 200, body
        return json.loads(body)


@contextlib.contextmanager
def console_host(**options: Any) -> Iterator[ConsoleHost]:
    """A host with a console."""
    host = ConsoleHost(**options)
    try:
        yield host
    finally:
        host.close()


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The system's own Chromium; none is downloaded."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.fail("Chromium is missing: apt-get install chromium (scripts/test does it).")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def press(page: Page, key: str) -> None:
    """Press a key as a person does: after the page has drawn what was done before."""
    page.evaluate(f"() => new Promise(done => {DRAWN})")
    page.keyboard.press(key)


class Tab:
    """A page and what went wrong in it."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(f"{error}\n{error.stack}"))
        self.page.on("console", self._said)

    def _said(self, message: ConsoleMessage) -> None:
        # What the network refuses is told by the page itself.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.faults.append(message.text)

    def open(self, host: ConsoleHost, *parts: str) -> Page:
        """Open the console, at a place if one is given."""
        self.page.goto(host.url)
        self.page.wait_for_selector(".status.live")
        if parts:
            self.go(host, *parts)
        return self.page

    def go(self, host: ConsoleHost, *parts: str) -> None:
        """Go to a place of the page that is open; when it is drawn, nothing is left of the one before."""
        self.page.evaluate(
            f"""parts => new Promise(done => {{
              const where = "#/" + parts.map(encodeURIComponent).join("/");
              const drawn = () => {DRAWN};
              if (location.hash === where) return drawn();
              addEventListener("hashchange", drawn, {{ once: true }});
              location.hash = where;
            }})""",
            list(parts),
        )

    def look(self) -> None:
        """Wait until the page has drawn."""
        self.page.evaluate(f"() => new Promise(done => {DRAWN})")

    def violations(self) -> list[str]:
        """What axe finds, in both lights."""
        self.page.evaluate(axe())
        found = []
        for light in ("light", "dark"):
            self.page.emulate_media(color_scheme=light, reduced_motion="reduce")  # type: ignore[arg-type]
            self.look()
            result = self.page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
            for rule in result["violations"]:
                nodes = [f"{node['target']} {node['failureSummary']}" for node in rule["nodes"]]
                found.append(f"{light}: {rule['id']}: {nodes[:3]}")
        return found


_axe: list[str] = []


def axe() -> str:
    """The source of axe-core, the accessibility checker (MPL-2.0)."""
    if not _axe:
        _axe.append((npm("axe-core", AXE) / "axe.min.js").read_text("utf-8"))
    return _axe[0]
