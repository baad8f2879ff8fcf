"""Limits, usage, keys and what was set aside in a browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from switchyard.events import subjects
from switchyard.events.vocabulary.ids import Seq
from switchyard.services.broker.quarantine import set_aside
from switchyard.services.broker.reader import Stored
from tests.gateway.rest import Gateway
from tests.monitor.browser import NEEDS_BROWSER, Watched, tab
from tests.monitor.work import HOSTILE, Hand, used

pytestmark = [NEEDS_BROWSER, pytest.mark.shared_gateway]


async def test_a_limit_is_set_and_shows_who_holds_its_places(
    browser: Browser, page: Watched, api: Gateway
) -> None:
    kind = f"l-{api.tenant}"
    await page.sign_in(api.token("operator", "submitter"), "limits")
    await page.page.get_by_role("button", name="Set a limit").click()
    dialog = page.page.get_by_role("dialog")
    await dialog.get_by_label("Name").fill("gpu")
    await dialog.get_by_label("run at once").fill("many")
    await dialog.get_by_role("button", name="Set it").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("a number over 0")
    await dialog.get_by_label("run at once").fill("1")
    await dialog.get_by_role("button", name="Set it").click()
    row = page.page.get_by_role("row").filter(has_text="gpu")
    await expect(row).to_contain_text("0 of 1")
    await expect(row).to_contain_text("Has room")
    job = await api.submit(kind=kind, limits=["gpu"])
    await api.submit(kind=kind, limits=["gpu"])
    await Hand.claim(api, kind)
    await expect(row).to_contain_text("Full")
    await row.get_by_role("link").click()
    await expect(page.page.locator(".now-line")).to_contain_text("1 of 1 place taken")
    await expect(page.page.locator(".now-line")).to_contain_text("1 waiting")
    holders = page.page.get_by_role("group", name="Jobs that hold places")
    await expect(holders.get_by_title(job["id"])).to_be_visible()
    async with tab(browser, api.url) as other:
        await other.sign_in(api.token("viewer"), "limits/gpu")
        await expect(other.page.locator(".now-line")).to_contain_text("Full")
        assert await other.page.get_by_role("button", name="Change").count() == 0
        other.check()
    await page.page.get_by_role("button", name="Change").click()
    await dialog.get_by_label("run at once").fill("3")
    await dialog.get_by_label("start a minute").fill("often")
    await dialog.get_by_role("button", name="Change it").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("a number over 0")
    await expect(dialog.get_by_label("run at once")).to_have_value("3")  # what was typed is still there
    await dialog.get_by_label("start a minute").fill("60")
    await dialog.get_by_role("button", name="Change it").click()
    await expect(page.page.locator(".now-line")).to_contain_text("1 of 3 places taken")
    assert (await api.get("/v1/limits/gpu")).json["per_minute"] == 60
    await page.page.get_by_role("button", name="Remove").click()
    await dialog.get_by_role("button", name="Remove").click()
    await expect(page.page.get_by_role("heading", name="There is no limit")).to_be_visible()
    page.check()


async def test_a_change_of_the_tenants_own_limit_loses_none_of_its_numbers(
    page: Watched, api: Gateway
) -> None:
    operator = api.token("operator")
    body = {"concurrency": 5, "requests_per_minute": 6000, "keep_s": 3600}
    assert (await api.call("PUT", "/v1/limits/all", body, token=operator)).status == 201
    await page.sign_in(operator, "limits/all")
    dialog = page.page.get_by_role("dialog")
    for opened, saved, places in (("Change", "Change it", "6"), ("Set a limit", "Set it", "7")):
        await page.page.get_by_role("button", name=opened).click()
        if opened != "Change":
            await dialog.get_by_label("Name").fill("all")
        await dialog.get_by_label("run at once").fill(places)
        await dialog.get_by_role("button", name=saved).click()
        await expect(dialog).to_have_count(0)
        found = (await api.get("/v1/limits/all")).json
        assert (found["concurrency"], found["requests_per_minute"], found["keep_s"]) == (
            int(places), 6000, 3600,
        )  # fmt: skip
        await page.go("limits")
    await api.call("DELETE", "/v1/limits/all", token=operator)
    page.check()


async def test_usage_is_added_up_by_what_is_asked_for_and_downloaded(
    page: Watched, api: Gateway, tmp_path: Path
) -> None:
    await page.sign_in(api.token("viewer"), "usage")
    await expect(page.page.get_by_role("heading", name="Nothing was used in these days")).to_be_visible()
    await used(api, 1, "convert", pages=1234567.5, **{HOSTILE: 1})
    await used(api, 2, "render", pages=2)
    rows = page.page.get_by_role("group", name="Usage", exact=True).get_by_role("row")
    while not await rows.filter(has_text="1,234,569.5").count():
        await page.page.reload()
        await expect(page.page.locator(".loading")).to_have_count(0)
    await expect(rows.filter(has_text=HOSTILE)).to_have_count(1)
    await page.page.get_by_label("Unit").select_option("pages")
    await page.page.get_by_role("button", name="Kind", exact=True).click()
    await page.page.get_by_role("button", name="Day", exact=True).click()
    await expect(rows).to_have_count(3)
    await expect(rows.filter(has_text="render")).to_contain_text("2")
    async with page.page.expect_download() as started:
        await page.page.get_by_role("button", name="Download CSV").click()
    file = tmp_path / "usage.csv"
    await (await started.value).save_as(file)
    lines = file.read_text().splitlines()
    assert lines[0] == "kind,unit,amount,attempts,cost_micro_cents"
    assert [line.split(",")[:3] for line in lines[1:]] == [
        ["convert", "pages", "1234567.5"], ["render", "pages", "2"],
    ]  # fmt: skip
    page.check()


async def test_a_key_is_made_shown_once_given_another_secret_and_revoked(page: Watched, api: Gateway) -> None:
    await page.sign_in(api.token("tenant-admin"), "keys")
    await expect(page.page.get_by_role("heading", name="There is no key")).to_be_visible()
    await page.page.get_by_role("button", name="Make a key").click()
    dialog = page.page.get_by_role("dialog")
    assert await dialog.get_by_label("operator").count() == 0  # nobody grants what they lack
    await dialog.get_by_label("Name").fill(HOSTILE)
    await dialog.get_by_role("button", name="Make it").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Choose what it may do")
    await dialog.get_by_role("checkbox", name="submitter").check()
    await dialog.get_by_label("Kinds of jobs").fill("convert, render")
    await dialog.get_by_label("Days").fill("30")
    await dialog.get_by_role("button", name="Make it").click()
    shown = page.page.locator(".secret")
    secret = await shown.locator("code").inner_text()
    who = (await api.get("/v1/whoami", token=secret)).json
    assert (who["tenant"], who["kinds"]) == (api.tenant, ["convert", "render"])
    await expect(shown.get_by_role("heading")).to_be_focused()
    assert secret not in await page.stored()
    await page.page.get_by_role("button", name="I have stored it").click()
    row = page.page.get_by_role("row").filter(has_text=HOSTILE)
    await expect(row).to_contain_text("Counts")
    assert secret not in await page.page.content()
    await row.get_by_role("button", name="Rotate").click()
    await dialog.get_by_label("Minutes").fill("0")
    await dialog.get_by_role("button", name="Make a new secret").click()
    another = await shown.locator("code").inner_text()
    assert another != secret
    assert (await api.get("/v1/whoami", token=secret)).status == 401
    await row.get_by_role("button", name="Revoke").click()
    await dialog.get_by_role("button", name="Revoke").click()
    await expect(page.page.get_by_role("heading", name="There is no key")).to_be_visible()
    await expect(shown).to_have_count(0)
    assert (await api.get("/v1/whoami", token=another)).status == 401
    page.check(secret, another)


async def test_what_was_set_aside_is_listed_with_its_reason_read_and_forgotten(
    browser: Browser, page: Watched, api: Gateway
) -> None:
    job = await api.submit()
    subject, body = f"job.{job['id']}.hello", HOSTILE.encode()
    headers = {subjects.H_TENANT: api.tenant, subjects.H_KIND: "noop"}
    seq = await api.publisher.publish(subject, body, headers)
    await set_aside(api.nc, "WORK", Stored("work.x", headers, body, Seq(7), 0), HOSTILE)
    name = re.compile(rf"^JOBS {seq} ")
    async with tab(browser, api.url) as other:
        await other.sign_in(api.token("viewer"), "quarantine")
        row = other.page.get_by_role("row", name=name)
        while not await row.count():  # the projector finds it by itself
            await other.page.reload()
            await expect(other.page.locator(".loading")).to_have_count(0)
        await expect(row).to_contain_text("no event named 'hello'")
        assert await row.get_by_role("button").count() == 0
        await expect(row.locator("a")).to_have_attribute("title", job["id"])
        await expect(other.page.get_by_role("row").filter(has_text=HOSTILE)).to_have_count(1)
        other.check()
    await page.sign_in(api.token("admin"), "quarantine")
    row = page.page.get_by_role("row", name=name)
    await row.get_by_role("button", name="Show").click()
    await expect(page.page.get_by_role("heading", name=f"Message {seq} of JOBS")).to_be_visible()
    await expect(page.page.locator("pre")).to_have_text(HOSTILE)
    await page.page.get_by_role("button", name="Base64").click()
    await expect(page.page.locator("pre")).not_to_contain_text("img")
    await row.get_by_role("button", name="Forget").click()
    dialog = page.page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Forget it").click()
    await expect(row).to_have_count(0)
    await page.page.get_by_role("button", name="Forget all").click()
    await dialog.get_by_role("button", name="Forget all").click()
    await expect(page.page.get_by_role("heading", name="Nothing was set aside")).to_be_visible()
    page.check()
