"""The worker of the page on running: the next copy takes over under load; own ids lose no request."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from support.markdown import blocks
from support.sdk import link_node_modules, python_sdk, rust_binary, tool
from support.skill_tools import NODE_SDK, PYTHON_SDK, RUST_SDK
from support.tree import ROOT
from support.workers import Site, becomes, running_site

OWN_ID = {
    "python": 'f"hits::add-{os.getpid()}"',
    "js": "`hits::add-${process.pid}`",
    "rust": 'format!("hits::add-{}", std::process::id())',
}
ONE_ID = {"python": '"hits::add"', "js": '"hits::add"', "rust": 'String::from("hits::add")'}
CLIENTS = 4


def page_worker(language: str) -> str:
    (block,) = (block for block in blocks(ROOT / "references" / "running.md") if block.language == language)
    assert block.text.count(OWN_ID[language]) == 1
    return block.text


class Copy:
    """One process of the worker, with a log of its own."""

    def __init__(self, language: str, folder: Path, site: Site) -> None:
        self._language = language
        self._log = folder / "log"
        self._folder = folder
        self._site = site
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, text: str, *, routes: int) -> None:
        """Start it and wait until so many routes are registered."""
        self._folder.mkdir()
        command = await asyncio.to_thread(self._command, text)
        with self._log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, cwd=self._folder, env=self._site.environment, stdout=log, stderr=log
            )

        async def registered() -> bool:
            rows = (await self._site.call("engine::registered-triggers::list", {}))["registered_triggers"]
            return sum("hits::add" in str(row) for row in rows) == routes

        await becomes(f"{routes} routes", registered)

    def _command(self, text: str) -> list[str]:
        if self._language == "rust":
            (self._folder / "main.rs").write_text(text)
            name = "page-running" if OWN_ID["rust"] in text else "page-running-one-id"
            return [str(rust_binary(RUST_SDK, self._folder / "main.rs", name=name))]
        program, name = str(python_sdk(PYTHON_SDK)), "worker.py"
        if self._language == "js":
            link_node_modules(self._folder, NODE_SDK)
            program, name = tool("node"), "worker.mjs"
        (self._folder / name).write_text(text)
        return [program, name]

    async def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        code = await asyncio.wait_for(self.process.wait(), 15)
        assert code == 0, self._log.read_text()

    def close(self) -> None:
        """End it if it is still there."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()

    def counted(self) -> list[int]:
        """The numbers of the hits that it counted, as its log says."""
        return [int(number) for number in re.findall(r"hit (\d+) counted", self._log.read_text())]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("language", ["python", "js", "rust"])
@pytest.mark.parametrize("ids", ["ids of their own", "one id"])
async def test_the_next_copy_takes_over_under_load(ids: str, language: str, tmp_path: Path) -> None:
    text = page_worker(language)
    if ids == "one id":
        text = text.replace(OWN_ID[language], ONE_ID[language])
    stopped = asyncio.Event()
    answers: list[tuple[int, dict[str, int]]] = []

    async def client(site: Site) -> None:
        while not stopped.is_set():
            answers.append(await site.request("POST", "/hits", {}))

    async with running_site() as site:
        first, second = (Copy(language, tmp_path / name, site) for name in ("first", "second"))
        try:
            await first.start(text, routes=1)
            clients = [asyncio.create_task(client(site)) for _ in range(CLIENTS)]
            await second.start(text, routes=2)
            await first.stop()

            async def taken_over() -> bool:
                return len(second.counted()) > CLIENTS

            await becomes("the second copy to serve", taken_over)
            stopped.set()
            await asyncio.gather(*clients)
            await second.stop()
        finally:
            stopped.set()
            first.close()
            second.close()
    good = sorted(body["n"] for status, body in answers if status == 200)
    lost = [answer for answer in answers if answer[0] != 200]
    if ids == "ids of their own":
        assert lost == []
        assert good == list(range(1, len(answers) + 1))
    else:  # only what was on its way when the owner went
        assert len(lost) <= CLIENTS
        assert {status for status, _ in lost} <= {500}
    assert first.counted()
    assert second.counted()
    assert set(good) <= set(first.counted() + second.counted())
