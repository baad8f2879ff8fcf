"""What people set off with a button does what it says, to all that it says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.gateway.rest import DEADLINE_S, Gateway
from tests.monitor.browser import NEEDS_BROWSER, Watched, tab
from tests.monitor.work import HOSTILE, Hand

pytestmark = [NEEDS_BROWSER, pytest.mark.shared_gateway]

PAYLOAD = "Payload"


async def state(api: Gateway, job: dict[str, Any]) -> str:
    found: str = (await api.get(f"/v1/jobs/{job['id']}")).json["state"]
    return found


async def dead(api: Gateway, kind: str, **fields: Any) -> dict[str, Any]:
    """A job that will not be tried again."""
    job = await api.submit(kind=kind, **fields)
    hand = await Hand.claim(api, kind)
    await hand.call("fail", {"error": {"code": "broken", "message": HOSTILE, "retryable": False}})
    return job


async def test_those_that_are_chosen_are_cancelled_or_redriven_and_no_others(
    page: Watched, api: Gateway
) -> None:
    waiting = [await api.submit(kind="waits") for _ in range(3)]
    gone = await dead(api, "dies")
    await page.sign_in(api.token("submitter"), "jobs")
    for job in (waiting[0], waiting[2], gone):
        await page.page.get_by_label(f"Choose job {job['id']}").check()
    chosen, dialog = page.page.get_by_role("region", name="Chosen jobs"), page.page.get_by_role("dialog")
    await expect(chosen).to_contain_text("3 jobs chosen")
    await chosen.get_by_role("button", name="Cancel 2").click()
    await dialog.get_by_role("button", name="Cancel 2 jobs").click()
    await expect(page.page.locator(".toast")).to_contain_text("2 jobs cancelled")
    await expect(chosen).to_have_count(0)
    assert [await state(api, job) for job in waiting] == ["cancelled", "queued", "cancelled"]
    await page.page.get_by_label(f"Choose job {gone['id']}").check()
    await chosen.get_by_role("button", name="Choose all shown").click()
    await expect(chosen).to_contain_text("4 jobs chosen")
    await chosen.get_by_role("button", name="Redrive 1").click()
    await dialog.get_by_role("button", name="Redrive 1 job").click()
    await expect(chosen).to_have_count(0)
    assert await state(api, gone) == "queued"
    page.check()


async def test_dead_letters_that_filters_select_are_redriven_and_discarded(
    page: Watched, api: Gateway
) -> None:
    first, second = await dead(api, "one"), await dead(api, "two")
    await page.sign_in(api.token("submitter"), "dead-letters")
    dialog, rows = page.page.get_by_role("dialog"), page.page.get_by_role("row")
    await expect(rows).to_have_count(3)
    await page.page.get_by_label("Kind").select_option("one")
    await expect(rows).to_have_count(2)
    await page.page.get_by_role("button", name="Redrive all").click()
    await dialog.get_by_role("button", name="Redrive").click()
    await expect(page.page.get_by_role("heading", name="Nothing is dead")).to_be_visible()
    assert [await state(api, job) for job in (first, second)] == ["queued", "dead"]
    await page.page.get_by_role("link", name="Show all dead letters").click()
    await page.page.get_by_role("button", name="Discard all").click()
    await dialog.get_by_role("button", name="Discard").click()
    await expect(page.page.get_by_role("heading", name="Nothing is dead")).to_be_visible()
    assert await state(api, second) == "archived"
    page.check()


async def test_a_job_is_run_again_as_it_was_and_with_another_payload(page: Watched, api: Gateway) -> None:
    job = await dead(api, "again", payload={"n": 1}, priority=70)
    await page.sign_in(api.token("submitter"), f"jobs/{job['id']}")
    dialog, title = page.page.get_by_role("dialog"), page.page.locator(".job-head code")
    made = []
    for payload in (None, '{"n": 2}'):
        await page.go(f"jobs/{job['id']}")
        await expect(title).to_have_text(job["id"])
        await page.page.get_by_role("button", name="Run again").click()
        if payload is not None:
            await dialog.get_by_label(PAYLOAD).fill(payload)
        await dialog.get_by_role("button", name="Submit").click()
        await expect(title).not_to_have_text(job["id"])
        made.append((await api.get(f"/v1/jobs/{await title.inner_text()}")).json)
    assert [one["payload"] for one in made] == [{"n": 1}, {"n": 2}]
    assert {(one["kind"], one["priority"]) for one in made} == {("again", 70)}
    page.check()


async def test_a_worker_is_paused_resumed_and_drained(page: Watched, api: Gateway) -> None:
    await api.submit(kind="held")
    await Hand.claim(api, "held")
    await page.sign_in(api.token("admin"), f"workers/rest.{api.tenant}.hand")
    dialog, line = page.page.get_by_role("dialog"), page.page.locator(".now-line")
    await expect(line).to_contain_text("Busy")
    hears = {"worker": "hand", "kinds": ["held"]}
    for action, asked, words in (
        ("Pause", "Asked to pause", "Paused"),
        ("Resume", "", "Busy"),
        ("Drain", "Asked to drain", "Draining"),
    ):
        await page.page.get_by_role("button", name=action, exact=True).click()
        await dialog.get_by_role("button", name=action, exact=True).click()
        await expect(line).to_contain_text(asked)
        async with asyncio.timeout(DEADLINE_S):
            while words not in (said := await line.inner_text()) or "Asked" in said:
                await api.call("POST", "/v1/leases", hears, token=api.token("worker"))
                await asyncio.sleep(0.1)
    assert await page.page.get_by_role("button", name="Resume").count() == 0
    page.check()


async def test_a_lane_is_paused_and_resumed(page: Watched, api: Gateway) -> None:
    kind = f"k-{api.tenant}"
    await api.submit(kind=kind)
    await page.sign_in(api.token("admin"), "lanes")
    dialog = page.page.get_by_role("dialog")
    row = page.page.get_by_role("row").filter(has_text=kind)
    await row.get_by_role("button", name="Pause").click()
    await dialog.get_by_role("button", name="Pause").click()
    await expect(row).to_contain_text("Paused")
    ask = {"worker": "other", "kinds": [kind]}
    assert (await api.call("POST", "/v1/leases", ask, token=api.token("worker"))).status == 204
    await page.page.get_by_role("region", name="Paused").get_by_role("button", name="Resume").click()
    await dialog.get_by_role("button", name="Resume").click()
    await expect(row).not_to_contain_text("Paused")
    await Hand.claim(api, kind)
    page.check()


async def test_a_push_server_is_taken_into_maintenance_and_back(page: Watched, api: Gateway) -> None:
    body = {"id": "s1", "name": HOSTILE, "endpoints": {"predict": "http://192.0.1.1/p"}, "kinds": ["a"]}
    owner = api.token("tenant-admin")
    assert (await api.call("POST", "/v1/servers", body, token=owner)).status == 201
    await page.sign_in(owner, "servers")
    dialog, row = page.page.get_by_role("dialog"), page.page.get_by_role("row").filter(has_text=HOSTILE)
    await row.get_by_role("button", name="Maintenance").click()
    await dialog.get_by_role("button", name="Begin maintenance").click()
    await row.get_by_role("button", name="End maintenance").click()
    assert (await api.get("/v1/servers/s1")).json["maintenance"]
    await dialog.get_by_role("button", name="End maintenance").click()
    await expect(row.get_by_role("button", name="Maintenance", exact=False)).to_be_visible()
    await expect(row).not_to_contain_text("End maintenance")
    assert not (await api.get("/v1/servers/s1")).json["maintenance"]
    page.check()


async def test_the_menu_opens_on_a_phone_and_colours_and_tenant_are_chosen(
    browser: Browser, api: Gateway
) -> None:
    await api.call("POST", "/v1/jobs", {"kind": "theirs"}, token=api.token(tenant=api.stranger))
    async with tab(browser, api.url, width=360, height=740) as page:
        await page.sign_in(api.token("admin"), "jobs")
        menu, ground = page.page.get_by_role("button", name="Menu"), "getComputedStyle(document.body).color"
        await expect(page.page.get_by_role("link", name="Limits")).to_be_hidden()
        await menu.click()
        await expect(menu).to_have_attribute("aria-expanded", "true")
        light = await page.page.evaluate(ground)
        await page.page.get_by_label("Colours").select_option("dark")
        assert await page.page.evaluate(ground) != light
        await page.page.get_by_label("Tenant").fill(api.stranger)
        await page.page.get_by_role("button", name="Show", exact=True).click()
        await expect(page.page.get_by_role("row").filter(has_text="theirs")).to_be_visible()
        await menu.click()
        await page.page.get_by_label("Tenant").fill("*")
        await page.page.get_by_role("button", name="Show", exact=True).click()
        await page.go("schedules?tenant=*")
        await expect(page.page.get_by_role("heading", name="Choose one tenant")).to_be_visible()
        await menu.click()
        await page.page.get_by_role("button", name="Sign out").click()
        await expect(page.page.get_by_label("Token or API key")).to_be_visible()
        assert await page.stored() == '[{},{"switchyard.theme":"dark"},""]'
        page.check()
