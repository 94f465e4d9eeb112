"""Take the pictures of the console: sample data in a host in memory, Chromium, `docs/console/*.webp`."""

from __future__ import annotations

import asyncio
import base64
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import Page, async_playwright

from iii_skill import Host, open_host

TARGET = Path(__file__).resolve().parent.parent / "docs" / "console"
QUALITY = 82
CHAIRS = ("Oak chair", "Walnut table", "Reading lamp", "Linen sofa", "Ash bench", "Wall shelf")

Light = Literal["light", "dark"]


async def fill(host: Host) -> None:
    """A small shop."""

    async def put(scope: str, key: str, value: Any) -> None:
        await host.trigger("state::set", {"scope": scope, "key": key, "value": value})

    for number, name in enumerate(CHAIRS):
        product = {
            "name": name,
            "price": 129.5 + number * 40,
            "stock": 3 + number,
            "tags": ["wood", "new"],
            "sku": 9007199254740993 + number,
            "sizes": {"width": 45, "depth": 48.5, "height": 82},
        }
        await put("shop", f"product:{1001 + number}", product)
    for day in range(3):
        for number in range(14):
            await put("shop", f"order/2026-11-{27 + day}/{number:04}", {"total": 10.5 * number, "paid": True})
    for number in range(9):
        await put("sessions", f"user:{number % 4}:{number}", {"seen": number})
    for number in range(1, 40):
        await put("imports", f"run:{number}", {"rows": number * 1000})
    for name in ("ann", "bob", "eve"):
        await put("visits", name, {"n": len(name)})


def offer(host: Host) -> None:
    """Functions of a shop."""

    host.register_function("shop::on-order", lambda event: None, description="Books an order.")
    host.register_function("shop::restock", lambda event: None, description="Orders what is running out.")


async def live(host: Host) -> None:
    """Some changes."""
    for number in range(1, 7):
        key = f"order/2026-11-30/{number:04}"
        await host.trigger(
            "state::set", {"scope": "shop", "key": key, "value": {"total": 64.5 * number, "paid": True}}
        )
        ops = [{"type": "increment", "path": "n", "by": 1}]
        await host.trigger("state::update", {"scope": "visits", "key": "ann", "ops": ops})
        await host.trigger(
            "state::set", {"scope": "sessions", "key": f"user:{number}:7", "value": {"seen": number}}
        )
    await host.trigger("state::delete", {"scope": "sessions", "key": "user:3:7"})
    ops = [{"type": "decrement", "path": "stock", "by": 1}]
    await host.trigger("state::update", {"scope": "shop", "key": "product:1001", "ops": ops})


async def value(page: Page, host: Host) -> None:
    """A value, between its keys."""
    await page.evaluate("location.hash = '#/state/shop/product%3A1001'")
    branch = page.get_by_text("product:", exact=True).first
    if await branch.is_visible():
        await branch.click()
    await page.wait_for_selector(".editor .ink span")


async def history(page: Page, host: Host) -> None:
    """What a value held before."""
    await value(page, host)
    ops = [
        {"type": "set", "path": "price", "value": 119.0},
        {"type": "append", "path": "tags", "value": "sale"},
    ]
    await host.trigger("state::update", {"scope": "shop", "key": "product:1001", "ops": ops})
    await live(host)
    await page.keyboard.press("h")
    await page.wait_for_selector("[data-list=versions]:focus .row")
    await page.keyboard.press("End")
    await page.get_by_role("button", name="Revert to this").wait_for()


async def conflict(page: Page, host: Host) -> None:
    """Two edits of one value."""
    await value(page, host)
    await page.locator("[data-edit]").click()
    area = page.locator(".pane.value textarea")
    text = await area.input_value()
    await area.fill(text.replace("129.5", "119.0"))
    await live(host)
    await page.get_by_role("button", name="Save", exact=True).click()
    await page.get_by_role("button", name="Save merged").wait_for()


async def tail(page: Page, host: Host) -> None:
    """Changes as they happen."""
    await page.evaluate("location.hash = '#/tail'")
    await live(host)
    await page.wait_for_function("() => document.querySelectorAll('[data-list=tail] .row').length > 15")


async def function(page: Page, host: Host) -> None:
    """A function, called."""
    await page.evaluate("location.hash = '#/functions/state%3A%3Aget'")
    await page.get_by_label("scope").fill("shop")
    await page.get_by_label("key").fill("product:1002")
    await page.get_by_role("button", name="Invoke").click()
    await page.get_by_role("region", name="Answer").wait_for()


Show = Callable[[Page, Host], Awaitable[None]]

PICTURES: list[tuple[str, Light, tuple[int, int], Show]] = [
    ("value-light", "light", (1280, 720), value),
    ("conflict-dark", "dark", (1280, 720), conflict),
    ("history-light", "light", (1280, 720), history),
    ("tail-light", "light", (1280, 720), tail),
    ("value-narrow", "light", (375, 700), value),
    ("function-narrow", "dark", (375, 700), function),
]


async def main() -> None:
    chromium = shutil.which("chromium") or sys.exit("Chromium is missing: apt-get install chromium.")
    TARGET.mkdir(parents=True, exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, light, (width, height), show in PICTURES:
            async with open_host(adapter_config={"history": {"keep": 20}}) as host:
                url = await host.serve_console(0)
                await fill(host)
                offer(host)
                context = await browser.new_context(
                    viewport={"width": width, "height": height},
                    color_scheme=light,
                    device_scale_factor=2 if width < 500 else 1.5,
                    reduced_motion="reduce",
                )
                page = await context.new_page()
                await page.goto(url)
                await page.wait_for_selector("[data-list=scopes] .row")
                await show(page, host)
                await page.wait_for_timeout(600)
                session = await context.new_cdp_session(page)
                taken = await session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
                (TARGET / f"{name}.webp").write_bytes(base64.b64decode(taken["data"]))
                await context.close()
            print(f"{name}: {(TARGET / f'{name}.webp').stat().st_size / 1000:.0f} kB")
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
