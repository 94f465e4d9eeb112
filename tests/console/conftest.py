"""Fixtures: one browser for a module, a fresh host and pages of it for a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser
from support.console import WIDE, ConsoleHost, Tab, chromium, console_host


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def host() -> Iterator[ConsoleHost]:
    with console_host() as opened:
        yield opened


@pytest.fixture
def new_tab(browser: Browser) -> Iterator[Callable[..., Tab]]:
    """Makes tabs, each a person with a browser of his own; none may break the page's rules."""
    tabs: list[Tab] = []

    def make(size: tuple[int, int] = WIDE, **options: Any) -> Tab:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        tabs.append(Tab(context))
        return tabs[-1]

    yield make
    faults = [fault for tab in tabs for fault in tab.faults]
    for tab in tabs:
        tab.context.close()
    assert faults == []


@pytest.fixture
def tab(new_tab: Callable[..., Tab]) -> Tab:
    return new_tab()
