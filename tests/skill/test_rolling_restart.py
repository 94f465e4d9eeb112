"""The worker of the page on running: the next copy takes over under load; own ids lose no request."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from support.markdown import blocks
from support.sdk import python_sdk
from support.skill_tools import PYTHON_SDK
from support.tree import ROOT
from support.workers import Site, becomes, running_site

OWN_ID = 'f"hits::add-{os.getpid()}"'
CLIENTS = 4


def page_worker() -> str:
    (block,) = (block for block in blocks(ROOT / "references" / "running.md") if block.language == "python")
    assert block.text.count(OWN_ID) == 1
    return block.text


class Copy:
    """One process of the worker, with a log of its own."""

    def __init__(self, folder: Path, site: Site) -> None:
        self._log = folder / "log"
        self._folder = folder
        self._site = site
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, text: str, *, routes: int) -> None:
        """Start it and wait until so many routes are registered."""
        self._folder.mkdir()
        (self._folder / "worker.py").write_text(text)
        with self._log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                str(python_sdk(PYTHON_SDK)),
                "worker.py",
                cwd=self._folder,
                env=self._site.environment,
                stderr=log,
            )

        async def registered() -> bool:
            rows = (await self._site.call("engine::registered-triggers::list", {}))["registered_triggers"]
            return sum("hits::add" in str(row) for row in rows) == routes

        await becomes(f"{routes} routes", registered)

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


@pytest.mark.parametrize("ids", ["ids of their own", "one id"])
async def test_the_next_copy_takes_over_under_load(ids: str, tmp_path: Path) -> None:
    text = page_worker() if ids == "ids of their own" else page_worker().replace(OWN_ID, '"hits::add"')
    stopped = asyncio.Event()
    answers: list[tuple[int, dict[str, int]]] = []

    async def client(site: Site) -> None:
        while not stopped.is_set():
            answers.append(await site.request("POST", "/hits", {}))

    async with running_site() as site:
        first, second = Copy(tmp_path / "first", site), Copy(tmp_path / "second", site)
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
