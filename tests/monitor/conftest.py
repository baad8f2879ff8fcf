"""Gateways and browsers for the tests of the monitor page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser

from tests.gateway.conftest import api as api  # noqa: PLC0414 - of the tests here
from tests.gateway.conftest import shared_gateway as shared_gateway  # noqa: PLC0414
from tests.gateway.rest import Gateway
from tests.monitor.browser import Chromium, Watched, tab


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One browser for the tests of a module."""
    started = Chromium(tmp_path_factory.mktemp("chromium"))
    yield started
    started.stop()


@pytest.fixture
async def browser(chromium: Chromium) -> AsyncIterator[Browser]:
    async with chromium.connected() as found:
        yield found


@pytest.fixture
async def page(browser: Browser, api: Gateway) -> AsyncIterator[Watched]:
    """A tab that nobody has signed in to."""
    async with tab(browser, api.url) as found:
        yield found
