"""The monitor page in a real browser, which is watched for all that it should not do."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Page, Request, Response, async_playwright, expect

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
DEADLINE_MS: Final = 60_000
NEEDS_BROWSER: Final = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium: apt-get install chromium, or tools/setup.sh --test"
)
EXPECTED: Final = ("Failed to load resource", "WebSocket connection to")
"""What a browser writes by itself when an answer is an error, or a gateway is away."""
expect.set_options(timeout=DEADLINE_MS)


class Watched:
    """A tab of its own, and what it did.

    Args:
        page: the tab.
        url: the gateway's.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.faults: list[str] = []
        self.strangers: list[str] = []
        self.addresses: list[str] = []
        page.set_default_timeout(DEADLINE_MS)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", self._asked)
        page.on("response", self._answered)
        page.on("websocket", lambda socket: self.addresses.append(socket.url))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(EXPECTED):
            self.faults.append(message.text)

    def _asked(self, request: Request) -> None:
        self.addresses.append(request.url)
        parts = urlsplit(request.url)
        if parts.scheme not in ("blob", "data") and parts.netloc != urlsplit(self.url).netloc:
            self.strangers.append(request.url)

    def _answered(self, response: Response) -> None:
        if response.status >= 500 and urlsplit(response.url).path != "/readyz":
            self.faults.append(f"{response.status} {response.url}")

    async def sign_in(self, token: str, view: str = "") -> None:
        """Open a view and sign in."""
        await self.page.goto(f"{self.url}/#/{view}")
        await self.page.get_by_label("Token or API key").fill(token)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.connection("Live")

    async def go(self, view: str) -> None:
        """Another view of the same page, without loading it again."""
        await self.page.evaluate("view => { location.hash = `#/${view}` }", view)
        await expect(self.page.locator("main h1").first).to_be_attached()

    async def sequences(self) -> list[int]:
        """Those of the events that are shown of a job."""
        read = "all => all.map(one => Number(one.dataset.seq))"
        found: list[int] = await self.page.locator("[data-seq]").evaluate_all(read)
        return found

    async def connection(self, words: str) -> None:
        """Wait until the page says so of its live connection."""
        await expect(self.page.locator(".connection")).to_contain_text(words)

    async def stored(self) -> str:
        """All that the tab has in its storage."""
        found: str = await self.page.evaluate(
            "JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie])"
        )
        return found

    async def is_too_wide(self) -> bool:
        """Whether it scrolls to the side."""
        found: bool = await self.page.evaluate("document.documentElement.scrollWidth > innerWidth")
        return found

    async def firsts(self) -> int:
        """How many buttons stand out as the first thing to do."""
        return await self.page.locator("main button.primary:visible").count()

    async def barriers(self) -> list[Any]:
        """What axe finds that keeps people out: serious and critical."""
        found = await Axe().run(self.page)
        return [
            (one["id"], [node["html"][:200] for node in one["nodes"][:3]])
            for one in found.response["violations"]
            if one["impact"] in ("serious", "critical")
        ]

    def check(self, *secrets: str) -> None:
        """Nothing broke, nobody else was asked, and no address had a secret in it."""
        assert self.faults == []
        assert self.strangers == []
        assert not [one for one in self.addresses for secret in secrets if secret in one]


class Chromium:
    """A browser that the tests of a module share: a process, to which each test's event loop connects.

    Args:
        home: a directory for what it stores.
    """

    def __init__(self, home: Path) -> None:
        assert CHROMIUM is not None
        sandboxed = [] if os.geteuid() else ["--no-sandbox"]  # Chromium has none for root
        quiet = [
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-startup-window",  # a window that opens while somebody connects may hold that up for ever
            "--disable-background-networking",
        ]
        self._process = subprocess.Popen(
            [CHROMIUM, "--headless", "--remote-debugging-port=0", f"--user-data-dir={home}", *sandboxed,
             *quiet],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.address = self._listens()
        self._drain = threading.Thread(target=self._read, name="chromium's words", daemon=True)
        self._drain.start()

    def _listens(self) -> str:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(r"DevTools listening on (ws://\S+)", line):
                return found[1]
        raise RuntimeError(f"chromium ended with {self._process.wait()} before it listened")

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as said:
            for _ in said:
                pass

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Browser]:
        """The browser for one event loop; what was opened by it is closed with the block."""
        async with async_playwright() as started:
            browser = await started.chromium.connect_over_cdp(self.address, timeout=DEADLINE_MS)
            try:
                yield browser
            finally:
                await browser.close()

    def stop(self) -> None:
        """End it, with all that it has started."""
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._drain.join(timeout=30)


@contextlib.asynccontextmanager
async def tab(
    browser: Browser, url: str, *, width: int = 1280, height: int = 800, scheme: Any = "light"
) -> AsyncIterator[Watched]:
    """A tab that shares nothing with another."""
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        reduced_motion="reduce",
        timezone_id="UTC",
    )
    try:
        yield Watched(await context.new_page(), url)
    finally:
        await context.close()


async def picture(page: Page, place: Path, *, full: bool) -> None:
    """Write what the page looks like."""
    place.parent.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=place, full_page=full)
