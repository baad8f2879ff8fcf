"""A gateway is killed while the page is open: what happens meanwhile is shown afterwards, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.monitor.browser import NEEDS_BROWSER, tab
from tests.ports import free_port
from tests.system.deployment import Deployment

pytestmark = [NEEDS_BROWSER, pytest.mark.system]


async def claimed(site: Deployment, worker: str) -> tuple[str, dict[str, str]]:
    """The path of a lease, and the headers of what is called there."""
    ask = {"worker": worker, "kinds": ["held"], "wait_s": 20, "tenant": "acme"}
    status, found = await site.request("POST", "/v1/leases", json=ask)
    assert status == 201, found
    lease = found["lease"]
    return f"/v1/leases/{lease['id']}", {"Switchyard-Lease-Token": lease["token"]}


async def report(site: Deployment, path: str, headers: dict[str, str], body: Any) -> None:
    """Something that a worker reports."""
    status, found = await site.request("POST", path, json=body, headers=headers)
    assert status == 200, found


async def test_no_transition_is_missing_or_doubled_when_the_gateway_is_killed(
    tmp_path: Path, browser: Browser
) -> None:
    async with Deployment(tmp_path) as site:
        await site.start("projector", "projector")
        await site.start("keeper", "keeper")
        port = free_port()
        await site.start_gateway("gateway", port)
        address = site.url
        job = await site.submit(kind="held", retry={"base_s": 0.1, "max_s": 0.1})
        async with tab(browser, address) as page:
            await page.sign_in(site.token, f"jobs/{job}")
            line = page.page.locator(".now-line")
            path, lease = await claimed(site, "first")
            await expect(line).to_contain_text("Running")
            await site.start_gateway("other")
            await site.parts["gateway"].kill()
            await page.connection("Reconnecting")
            await report(site, f"{path}/fail", lease, {"error": {"code": "x", "retryable": True}})
            path, lease = await claimed(site, "second")
            await site.start_gateway("gateway", port)
            await page.connection("Live")
            await expect(line).to_contain_text("attempt 2")
            await report(site, f"{path}/succeed", lease, {"result": {}})
            await expect(line).to_contain_text("Succeeded")
            await page.page.locator(".events > summary").click()
            shown = await page.sequences()
            _, found = await site.request("GET", f"/v1/jobs/{job}/events")
            assert shown == [event["seq"] for event in found["events"]]
            assert [event["type"] for event in found["events"]].count("claimed") == 2
            assert page.strangers == []
