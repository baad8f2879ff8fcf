"""Batches, schedules and reviews in a browser: each is followed and decided without a command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Route, expect

from switchyard.projections.database import path_in
from switchyard.projections.reader import ReadModel
from tests.gateway.batches.site import Batches, jsonl
from tests.gateway.octopoid.client import Octopoid
from tests.gateway.rest import Gateway
from tests.monitor.browser import NEEDS_BROWSER, Watched
from tests.monitor.work import HOSTILE, Hand

pytestmark = [NEEDS_BROWSER, pytest.mark.shared_gateway]


async def test_a_batch_is_followed_cancelled_and_its_outputs_are_downloaded(
    page: Watched, api: Gateway, tmp_path: Path
) -> None:
    at, kind = Batches(api), f"b-{api.tenant}"
    await page.sign_in(api.token("submitter"), "batches")
    await expect(page.page.get_by_role("heading", name="There is no batch")).to_be_visible()
    await expect(page.page.get_by_text("switchyard batches submit")).to_be_visible()
    lines = [{"custom_id": f"c{n}", "kind": kind, "max_attempts": 1} for n in range(3)]
    async with api.keeper(ReadModel(path_in(api.settings.data_dir))):
        made = await at.make(jsonl(*lines, b"this is no JSON"), name=HOSTILE)
        await at.until(made["id"], "in_progress")
        row = page.page.get_by_role("row").filter(has_text=HOSTILE)
        await expect(row).to_contain_text("Running")
        await row.get_by_role("link").click()
        await expect(page.page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
        await expect(page.page.get_by_role("button", name="Download")).to_have_count(0)
        await expect(page.page.get_by_role("heading", name="Why it waits")).to_be_visible()
        good, bad = await Hand.claim(api, kind), await Hand.claim(api, kind)
        await good.call("succeed", {"result": {"n": 1}})
        await bad.call("fail", {"error": {"code": "broken", "message": HOSTILE, "retryable": False}})
        await expect(page.page.locator(".now-line")).to_contain_text("3 of 4 lines ended")
        failures = page.page.get_by_role("group", name="Failures")
        await expect(failures).to_contain_text(HOSTILE)
        await expect(page.page.get_by_text("1 line made no job")).to_be_visible()
        await page.page.get_by_role("button", name="Cancel batch").click()
        await page.page.get_by_role("dialog").get_by_role("button", name="Cancel batch").click()
        await expect(page.page.locator(".now-line")).to_contain_text("Cancelled")
        none = await at.make(b"\xff\n")
        await at.until(none["id"], "failed")
        await page.go(f"batches/{none['id']}")
        await expect(page.page.get_by_role("alert")).to_contain_text("The file makes no batch")
    await page.go(f"batches/{made['id']}")
    for which, of in (("results", ["c0"]), ("errors", ["c1", "c2", None])):
        async with page.page.expect_download() as started:
            await page.page.get_by_role("button", name=f"Download {which}").click()
        file = tmp_path / which
        await (await started.value).save_as(file)
        assert [json.loads(line)["custom_id"] for line in file.read_text().splitlines()] == of
    await page.page.get_by_role("button", name="Forget").click()
    await page.page.get_by_role("dialog").get_by_role("button", name="Forget it").click()
    await expect(page.page.get_by_role("row").filter(has_text="Failed")).to_be_visible()
    await expect(page.page.get_by_role("row").filter(has_text=HOSTILE)).to_have_count(0)
    page.check()


async def scheduled(api: Gateway, **fields: Any) -> dict[str, Any]:
    """A schedule; none of its ticks comes before the test is over."""
    body = {"name": "nightly", "cron": "30 2 * * *", "timezone": "Europe/Berlin", "job": {"kind": "noop"}}
    answer = await api.call("POST", "/v1/schedules", body | fields)
    assert answer.status == 201, answer
    found: dict[str, Any] = answer.json
    return found


async def test_a_schedule_shows_its_ticks_and_is_run_paused_resumed_and_deleted(
    page: Watched, api: Gateway
) -> None:
    await page.sign_in(api.token("submitter"), "schedules")
    await expect(page.page.get_by_text("switchyard schedule create")).to_be_visible()
    await scheduled(api, job={"kind": "noop", "payload": {HOSTILE: HOSTILE}})
    await page.page.reload()
    await page.page.get_by_role("row").filter(has_text="nightly").get_by_role("link").click()
    ticks = page.page.locator("section", has=page.page.get_by_role("heading", name="Next ticks"))
    await expect(ticks.get_by_role("listitem")).to_have_count(10)
    await expect(ticks.get_by_role("listitem").first).to_contain_text("02:30 in Europe/Berlin")
    dialog, line = page.page.get_by_role("dialog"), page.page.locator(".now-line")
    await page.page.get_by_role("button", name="Pause").click()
    await dialog.get_by_role("button", name="Pause").click()
    await expect(line).to_contain_text("Paused")
    assert (await api.get("/v1/schedules/nightly")).json["state"] == "paused"
    await expect(ticks).to_contain_text("None while it is paused")
    await page.page.get_by_role("button", name="Resume").click()
    await expect(line).to_contain_text("Active")
    await page.page.get_by_role("button", name="Run now").click()
    await dialog.get_by_role("button", name="Run now").click()
    await expect(page.page.get_by_role("heading", name="noop", level=1)).to_be_visible()
    assert (await api.get("/v1/schedules/nightly")).json["runs_by_hand"] == 1
    await page.go("schedules/nightly")
    await page.page.get_by_role("button", name="Delete").click()
    await dialog.get_by_role("button", name="Delete").click()
    await expect(page.page.get_by_role("heading", name="There is no schedule")).to_be_visible()
    assert (await api.get("/v1/schedules/nightly")).status == 404
    page.check()


async def proposed(api: Gateway, kind: str, result: Any, **more: Any) -> None:
    """A proposal of the next job of a kind."""
    hand = await Hand.claim(api, kind)
    await hand.call("propose", {"result": result, **more})


async def test_a_proposal_is_sent_back_compared_with_the_next_and_accepted(
    page: Watched, api: Gateway
) -> None:
    kind, reviewer = f"r-{api.tenant}", api.minted(
        tenant=api.tenant, roles=("reviewer", "submitter"), ttl_s=600, subject="rita"
    )  # fmt: skip
    await page.sign_in(reviewer, "reviews")
    await expect(page.page.get_by_role("heading", name="Nothing waits for a review")).to_be_visible()
    job = await api.submit(kind=kind, payload={"task": HOSTILE})
    text = "\n".join(f"line {n}" for n in range(40))
    await proposed(api, kind, {"text": text, "n": 1}, checks={"tests": False, "lint": True})
    row = page.page.get_by_role("row").filter(has_text=kind)
    await expect(row).to_contain_text("1 of 2 failed")
    await row.get_by_role("link").click()
    await expect(page.page.get_by_role("heading", name="What is proposed")).to_be_visible()
    await expect(page.page.get_by_role("heading", name="Difference")).to_have_count(0)
    await page.page.get_by_role("button", name="Keep it for me").click()
    await expect(page.page.locator(".now-line")).to_contain_text("Kept for you")
    await page.page.get_by_role("button", name="Send back").click()
    dialog = page.page.get_by_role("dialog")
    await dialog.get_by_label("Reason").fill("line 7 is wrong")
    await dialog.get_by_label("What to change").fill('{"line": 7}')
    await dialog.get_by_role("button", name="Send back").click()
    await expect(page.page.get_by_role("heading", name="Nothing waits for a review")).to_be_visible()
    found = (await api.get(f"/v1/jobs/{job['id']}")).json
    assert (found["state"], found["rejections"], found["feedback"]) == ("queued", 1, {"line": 7})

    await proposed(api, kind, {"text": text.replace("line 7", HOSTILE), "n": 1})
    await page.go(f"jobs/{job['id']}")
    await page.page.get_by_role("link", name="Judge it").click()
    difference = page.page.get_by_role("group", name="Difference")
    await expect(difference.locator("del")).to_have_text("removed:   line 7")
    await expect(difference.locator("ins")).to_contain_text(HOSTILE)
    await expect(difference).to_contain_text("lines the same")
    await expect(page.page.get_by_text("line 7 is wrong")).to_be_visible()
    await page.page.get_by_role("button", name="Accept").click()
    await dialog.get_by_role("button", name="Accept").click()
    await expect(page.page.get_by_role("heading", name="Nothing waits for a review")).to_be_visible()
    assert (await api.get(f"/v1/jobs/{job['id']}")).json["state"] == "succeeded"
    await page.go(f"reviews/{job['id']}")
    await expect(page.page.get_by_text("It is not in review any more")).to_be_visible()
    page.check()


async def test_a_result_that_was_replaced_while_somebody_reads_it_is_not_accepted(
    page: Watched, api: Gateway
) -> None:
    kind = f"r-{api.tenant}"
    job = await api.submit(kind=kind)
    await proposed(api, kind, {"n": 1})
    reviewer = api.minted(tenant=api.tenant, roles=("reviewer",), ttl_s=600, subject="rita")
    await page.sign_in(reviewer, f"reviews/{job['id']}")
    await page.page.get_by_role("button", name="Accept").click()
    other = api.minted(tenant=api.tenant, roles=("reviewer",), ttl_s=600, subject="rob")
    await api.call("POST", f"/v1/reviews/{job['id']}/reject", {"reason": "no"}, token=other)
    await proposed(api, kind, {"n": 2})
    dialog = page.page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Accept").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Another result was proposed meanwhile")
    assert (await api.get(f"/v1/jobs/{job['id']}")).json["state"] == "review"
    page.check()


async def test_a_result_that_is_replaced_while_the_verdict_is_on_its_way_is_not_accepted(
    page: Watched, api: Gateway
) -> None:
    kind = f"r-{api.tenant}"
    job = await api.submit(kind=kind)
    await proposed(api, kind, {"n": 1})
    other = api.minted(tenant=api.tenant, roles=("reviewer",), ttl_s=600, subject="rob")
    reviewer = api.minted(tenant=api.tenant, roles=("reviewer",), ttl_s=600, subject="rita")

    async def replaces(route: Route) -> None:
        answer = await api.call("POST", f"/v1/reviews/{job['id']}/reject", {"reason": "no"}, token=other)
        assert answer.status == 200, answer
        await proposed(api, kind, {"n": 2})
        await route.continue_()

    await page.page.route("**/accept", replaces, times=1)
    await page.sign_in(reviewer, f"reviews/{job['id']}")
    await page.page.get_by_role("button", name="Accept").click()
    dialog = page.page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Accept").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Another result was proposed meanwhile")
    assert (await api.get(f"/v1/jobs/{job['id']}")).json["state"] == "review"
    await dialog.get_by_role("button", name="Leave it").click()
    await expect(page.page.get_by_role("heading", name="Difference")).to_be_visible()  # the new one is shown
    await page.page.get_by_role("button", name="Accept").click()
    await dialog.get_by_role("button", name="Accept").click()
    await expect(page.page.get_by_role("heading", name="Nothing waits for a review")).to_be_visible()
    assert (await api.get(f"/v1/jobs/{job['id']}")).json["result"] == {"n": 2}
    page.check()


async def test_an_octopoid_task_is_judged_as_its_own_clients_would(page: Watched, api: Gateway) -> None:
    octo = Octopoid(api)
    await octo.register()
    task = await octo.create("t", title=HOSTILE)
    await octo.claim()
    await octo.submit("t", commits=1)
    await page.sign_in(octo.key, f"reviews/{task['job_id']}")
    dialog = page.page.get_by_role("dialog")
    await page.page.get_by_role("button", name="Send back").click()
    await dialog.get_by_label("Reason").fill("no tests")
    await dialog.get_by_role("button", name="Send back").click()
    await expect(page.page.get_by_role("heading", name="Nothing waits for a review")).to_be_visible()
    assert (await octo.get("t"))["queue"] == "incoming"
    await octo.claim()
    await octo.submit("t", commits=2)
    await page.page.get_by_role("row").filter(has_text="agent").get_by_role("link").click()
    await expect(page.page.get_by_role("group", name="Difference").locator("ins")).to_contain_text("2")
    await page.page.get_by_role("button", name="Accept").click()
    await dialog.get_by_role("button", name="Accept").click()
    await expect(page.page.get_by_role("heading", name="Nothing waits for a review")).to_be_visible()
    assert (await octo.get("t"))["queue"] == "done"
    page.check(octo.key)
