"""Pictures of every view at three widths, light and dark, for people to look at: `.tools/monitor`."""

from __future__ import annotations

import asyncio
import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from switchyard.events import subjects
from switchyard.events.vocabulary.ids import Seq
from switchyard.projections.database import path_in
from switchyard.projections.reader import ReadModel
from switchyard.services.broker.quarantine import set_aside
from switchyard.services.broker.reader import Stored
from tests.gateway.batches.site import Batches, jsonl
from tests.gateway.rest import Gateway
from tests.monitor.browser import NEEDS_BROWSER, picture, tab
from tests.monitor.work import MARKDOWN, Hand, lived, png, used

pytestmark = [NEEDS_BROWSER, pytest.mark.drill]

PLACE = Path(__file__).parents[2] / ".tools" / "monitor"
WIDTHS = (360, 800, 1280)
CHOSEN_DEAD = 2
QUESTIONS = (
    ("make-key", "keys", "Make a key"), ("rotate-key", "keys", "Rotate ci"),
    ("revoke-key", "keys", "Revoke ci"),
    ("set-limit", "limits", "Set a limit"), ("change-limit", "limits/database", "Change"),
    ("remove-limit", "limits/database", "Remove"),
    ("accept", "reviews/{review}", "Accept"), ("send-back", "reviews/{review}", "Send back"),
    ("cancel", "jobs/{runs}", "Cancel job"), ("again", "jobs/{done}", "Run again"),
    ("redrive", "jobs/{dead}", "Redrive"), ("redrive-all", "dead-letters", "Redrive all"),
    ("discard-all", "dead-letters?kind=translate", "Discard all"),
    ("cancel-chosen", "jobs?state=waiting", "Cancel 3"), ("redrive-chosen", "jobs?state=dead", "Redrive 2"),
    ("pause-lane", "lanes", "Pause"), ("pause-worker", "workers/{worker}", "Pause"),
    ("drain-worker", "workers/{worker}", "Drain"), ("maintenance", "servers", "Maintenance"),
    ("run-schedule", "schedules/nightly-report", "Run now"),
    ("pause-schedule", "schedules/hourly-sync", "Pause"),
    ("delete-schedule", "schedules/nightly-report", "Delete"),
    ("cancel-batch", "batches/{batch}", "Cancel batch"), ("forget-batch", "batches/{ended}", "Forget"),
    ("forget-message", "quarantine", "Forget(?! all)"), ("forget-messages", "quarantine", "Forget all"),
)  # fmt: skip
"""All questions: the picture's name, the view, and how the button begins that asks, as a pattern."""
CHOSEN = {"cancel-chosen": 3, "redrive-chosen": 2}
"""Rows that are chosen before, for those that are about such."""
REFUSED = {"make-key": "Make it", "change-limit": "Change it", "again": "Submit"}
"""What is asked for with fields that are wrong, to see what is said then: by the button that does it."""


async def fill(api: Gateway) -> dict[str, str]:
    """Jobs of every state; the ids of some."""
    for minute in range(1, 58):
        for number in range(1 + round(3 * (1 + math.sin(minute / 9)))):
            at = datetime.now(UTC) - timedelta(minutes=minute, seconds=7 * number)
            wait_s, run_s = 0.4 + 3 * abs(math.sin(minute / 5)), 2 + 9 * abs(math.cos(minute / 11)) + number
            await lived(api, "convert", at, wait_s, run_s, dies=(minute * 7 + number) % 23 == 0)
    lines: list[dict[str, Any]] = [
        {"kind": "convert", "payload": {"file": "f"}, "labels": {"team": team}, "priority": priority}
        for team in ("vision", "search", "billing")
        for priority in (20, 50, 80)
    ]
    lines += [{"kind": "render", "requires": {"gpu.memory_gb": {"$gte": 24}}} for _ in range(6)]
    lines += [{"kind": "report", "delay_s": 3600} for _ in range(3)]
    await api.bulk(*({**line, "payload": {}, "kind": f"{line['kind']}-x"} for line in lines))
    for number in range(6):
        await api.submit(kind="translate", payload={"pages": number})
        hand = await Hand.claim(api, "translate")
        if number % 3 == 0:
            error = {"code": "no_model", "message": "the model de-en is not there", "retryable": False}
            await hand.call("fail", {"error": error})
        else:
            await hand.call("succeed", {"result": {"pages": number}})
    done = await api.submit(kind="summarise", payload={"text": "…", "options": {"length": 200}})
    hand = await Hand.claim(api, "summarise")
    await hand.call("logs", {"lines": [f"page {page} of 40" for page in range(1, 41)]})
    files = [
        await hand.leave("cover.png", "image/png", png(480, 300)),
        await hand.leave("broken.png", "image/png", b"no picture"),
        await hand.leave("notes.md", "text/markdown", MARKDOWN.encode()),
    ]
    await hand.call("succeed", {"result": {"markdown": MARKDOWN, "pages": 40}, "artifacts": files})
    runs = await api.submit(kind="train", labels={"team": "vision"})
    hand = await Hand.claim(api, "train")
    await hand.call("progress", {"fraction": 0.42, "message": "epoch 21 of 50", "eta_s": 340})
    return {"done": done["id"], "runs": runs["id"], **await filled(api)}


async def filled(api: Gateway) -> dict[str, str]:
    """Batches, schedules, limits, reviews, usage, keys and what was set aside."""
    operator, owner, at = api.token("operator"), api.token("tenant-admin"), Batches(api)
    for name, body in (("all", {"concurrency": 50, "keep_s": 604800}), ("database", {"concurrency": 2})):
        await api.call("PUT", f"/v1/limits/{name}", body, token=operator)
    for name, cron, job in (
        ("nightly-report", "30 2 * * *", {"kind": "report"}),
        ("hourly-sync", "0 * * * *", {"kind": "sync", "limits": ["database"]}),
        ("clean-up", "15 4 * * SUN", {"kind": "clean"}),
    ):
        zone = {"timezone": "Europe/Berlin"}
        await api.call("POST", "/v1/schedules", {"name": name, "cron": cron, "job": job, **zone})
    await api.call("POST", "/v1/schedules/clean-up/pause")
    for _ in range(3):
        await api.submit(kind="sync", limits=["database"])
    for _ in range(2):
        await Hand.claim(api, "sync")
    for name, roles, more in (
        ("ci pipeline", ["submitter"], {"kinds": ["convert"], "rate": {"per_minute": 600}}),
        ("gpu rack 3", ["worker"], {"expires_s": 86400 * 5}),
        ("dashboard", ["viewer"], {}),
    ):
        await api.call("POST", "/v1/keys", {"name": name, "roles": roles, **more}, token=owner)
    review = await api.submit(kind="patch", payload={"task": "make the parser faster", "files": ["parse.py"]})
    text = [f"    line_{number} = read(source)" for number in range(30)]
    for attempt in range(2):
        hand = await Hand.claim(api, "patch")
        result = {"summary": "reads once" if attempt else "reads twice", "diff": "\n".join(text)}
        await hand.call("propose", {"result": result, "checks": {"tests": bool(attempt), "lint": True}})
        text[7:9] = ["    lines = [*map(read, source)]"]
        if not attempt:
            said: dict[str, Any] = {
                "reason": "The tests fail, and line 7 reads twice",
                "feedback": {"look at": ["parse.py:7"]},
            }
            await api.call("POST", f"/v1/reviews/{review['id']}/reject", said, token=api.token("reviewer"))
    for number in range(40):
        await used(api, number, ("convert", "render")[number % 2], pages=3 * number, days=number % 20)
    message = Stored(f"job.{review['id']}.hello", {subjects.H_TENANT: api.tenant}, b"{", Seq(7), 0)
    await set_aside(api.nc, "WORK", message, "it is no JSON: a name was expected at byte 1")
    lines = [{"custom_id": f"c{n}", "kind": "page", "max_attempts": 1} for n in range(40)]
    async with api.keeper(ReadModel(path_in(api.settings.data_dir))):
        batch = await at.make(jsonl(*lines, b"this is no JSON"), name="books of May", window=30)
        await at.until(batch["id"], "in_progress")
        for number in range(20):
            hand = await Hand.claim(api, "page")
            error = {"code": "no_text", "message": "the page has no text", "retryable": False}
            await hand.call(*(("fail", {"error": error}) if number % 7 == 3 else ("succeed", {"result": {}})))
        done = await at.make(jsonl({"kind": "quick", "custom_id": "a"}), name="one line")
        await (await Hand.claim(api, "quick")).call("succeed", {"result": {"n": 1}})
        await at.until(done["id"])
        seen = api.token("viewer")
        while not (await api.get("/v1/usage/summary", token=seen)).json["usage"]:
            pass
    return {"batch": batch["id"], "ended": done["id"], "review": review["id"]}


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_view_is_drawn(browser: Browser, api: Gateway, scheme: str) -> None:
    jobs = await fill(api)
    views = {
        "overview": "", "jobs": "jobs", "lanes": "lanes", "workers": "workers",
        "dead-letters": "dead-letters",
        "worker": f"workers/rest.{api.tenant}.hand", "servers": "servers",
        "job-done": f"jobs/{jobs['done']}", "job-runs": f"jobs/{jobs['runs']}",
        "batches": "batches", "batch": f"batches/{jobs['batch']}", "batch-ended": f"batches/{jobs['ended']}",
        "schedules": "schedules", "schedule": "schedules/nightly-report", "limits": "limits",
        "limit": "limits/database", "reviews": "reviews", "review": f"reviews/{jobs['review']}",
        "usage": "usage", "usage-by": "usage?by=kind&by=outcome", "keys": "keys", "quarantine": "quarantine",
    }  # fmt: skip
    barriers: list[Any] = []
    for width in WIDTHS:
        async with api.keeper(), tab(browser, api.url, width=width, height=900, scheme=scheme) as page:
            await page.page.goto(page.url)
            await expect(page.page.get_by_label("Token or API key")).to_be_visible()
            await picture(page.page, PLACE / f"sign-in-{width}-{scheme}.png", full=False)
            await page.sign_in(api.token("admin"))
            for name, view in views.items():
                await page.go(view)
                await expect(page.page.locator(".loading")).to_have_count(0)
                await picture(page.page, PLACE / f"{name}-{width}-{scheme}.png", full=name != "jobs")
                assert not await page.is_too_wide(), (name, width)
                barriers += [(name, width, found) for found in await page.barriers()]
            page.check()
    assert barriers == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_question_is_drawn(browser: Browser, api: Gateway, scheme: str) -> None:
    jobs = await fill(api)
    server = {"id": "s1", "name": "gpu 3", "endpoints": {"predict": "http://192.0.1.1/p"}, "kinds": ["a"]}
    await api.call("POST", "/v1/servers", server, token=api.token("tenant-admin"))
    while len(dead := (await api.get("/v1/dead-letters?kind=translate")).json["dead_letters"]) < CHOSEN_DEAD:
        await asyncio.sleep(0.05)
    jobs |= {"dead": dead[0]["id"], "worker": f"rest.{api.tenant}.hand"}
    barriers: list[Any] = []
    for width in (WIDTHS[0], WIDTHS[-1]):
        async with tab(browser, api.url, width=width, height=800, scheme=scheme) as page:
            await page.sign_in(api.token("admin"))
            for name, view, opens in QUESTIONS:
                place = PLACE / f"question-{name}-{width}-{scheme}.png"
                await page.go(view.format(**jobs))
                for number in range(CHOSEN.get(name, 0)):
                    await page.page.get_by_role("checkbox").nth(number).check()
                await page.page.get_by_role("button", name=re.compile(f"^{opens}")).first.click()
                dialog = page.page.get_by_role("dialog")
                await expect(dialog).to_be_visible()
                await picture(page.page, place, full=False)
                assert not await page.is_too_wide(), (name, width)
                barriers += [(name, width, found) for found in await page.barriers()]
                if name in REFUSED:
                    for field in await dialog.get_by_role("textbox").all():
                        await field.fill("-")
                    await dialog.get_by_role("button", name=REFUSED[name]).click()
                    await expect(dialog.get_by_role("alert")).to_be_visible()
                    await picture(page.page, place.with_name(f"refused-{place.name}"), full=False)
                await dialog.get_by_role("button", name="Leave it").click()
                await expect(dialog).to_have_count(0)
            page.check()
    assert barriers == []
