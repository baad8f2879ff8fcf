"""The monitor page in a browser: what people see, and what harms nobody."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, WebSocketRoute, expect

from tests.gateway.rest import Gateway
from tests.monitor.browser import NEEDS_BROWSER, Watched, tab
from tests.monitor.work import HOSTILE, MARKDOWN, Hand, one_of_each, png

pytestmark = [NEEDS_BROWSER, pytest.mark.shared_gateway]

PAYLOAD = "Payload"
ACTIONS = {
    "Cancel batch", "Forget", "Forget all", "Run now", "Pause", "Resume", "Delete", "Set a limit", "Change",
    "Remove", "Accept", "Send back", "Keep it for me", "Make a key", "Rotate", "Revoke",
}  # fmt: skip
HARM = "img, script, iframe, form, input, [style], [onclick], [onerror]"


async def test_only_a_good_token_opens_the_page_and_signing_out_leaves_nothing(
    page: Watched, api: Gateway
) -> None:
    token = api.token("submitter")
    await page.page.goto(page.url)
    entered = page.page.get_by_label("Token or API key")
    await entered.fill("nonsense")
    await page.page.keyboard.press("Enter")
    await expect(page.page.get_by_role("alert")).to_contain_text("not accepted")
    assert "nonsense" not in await page.stored()
    await entered.fill(token)
    await page.page.keyboard.press("Enter")
    await expect(page.page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    assert token in await page.stored()
    await page.page.reload()
    await expect(page.page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    async with page.page.context.expect_page() as opened:
        await page.page.evaluate("open(location.href, '_blank', 'noopener')")
    other = await opened.value
    await expect(other.get_by_label("Token or API key")).to_be_visible()
    assert token not in await other.evaluate("JSON.stringify({...sessionStorage})")
    await page.page.get_by_role("button", name="Sign out").click()
    await expect(entered).to_be_visible()
    assert await page.stored() == '[{},{},""]'
    page.check(token)


async def test_a_job_is_followed_from_its_submission_to_its_end_without_a_reload(
    page: Watched, api: Gateway
) -> None:
    token = api.token("submitter")
    await page.sign_in(token, "jobs")
    await expect(page.page.get_by_role("heading", name="There is no job yet")).to_be_visible()
    await page.page.evaluate("window.mark = true")
    job = await api.submit(kind="followed", payload={"n": 1})
    row = page.page.get_by_role("row").filter(has_text="followed")
    await expect(row).to_contain_text("Waiting")
    hand = await Hand.claim(api, "followed")
    await expect(row).to_contain_text("Running")
    await hand.call("progress", {"fraction": 0.25, "message": "1 of 4"})
    await expect(row).to_contain_text("25 %")
    await row.get_by_role("link").click()
    line = page.page.locator(".now-line")
    await expect(line).to_contain_text("Running")
    await hand.call("progress", {"fraction": 0.75, "message": "3 of 4"})
    await expect(page.page.locator(".progress-line")).to_contain_text("75 % 3 of 4")
    await hand.call("logs", {"lines": ["the first line", f"a line with {HOSTILE}"]})
    await expect(page.page.get_by_role("group", name="Log lines")).to_contain_text(HOSTILE)
    await hand.call("succeed", {"result": {"n": 2}})
    await expect(line).to_contain_text("Succeeded")
    await page.page.locator(".events > summary").click()
    shown = await page.sequences()
    events = (await api.get(f"/v1/jobs/{job['id']}/events")).json["events"]
    assert shown == [event["seq"] for event in events]
    await page.go("jobs")
    await expect(row).to_contain_text("Succeeded")
    assert await page.page.evaluate("window.mark")
    page.check(token)


async def test_jobs_are_cancelled_and_redriven_with_another_payload(page: Watched, api: Gateway) -> None:
    waiting = await api.submit(kind="waits")
    dead = await api.submit(kind="dies", payload={"n": 1})
    hand = await Hand.claim(api, "dies")
    await hand.call("fail", {"error": {"code": "broken", "message": HOSTILE, "retryable": False}})
    await page.sign_in(api.token("submitter"), f"jobs/{waiting['id']}")
    await page.page.get_by_role("button", name="Cancel job").click()
    dialog = page.page.get_by_role("dialog")
    await dialog.get_by_label(re.compile("Reason")).fill("not needed")
    await dialog.get_by_role("button", name="Cancel job").click()
    await expect(page.page.locator(".now-line")).to_contain_text("Cancelled")
    assert (await api.get(f"/v1/jobs/{waiting['id']}")).json["state"] == "cancelled"

    await page.go(f"jobs/{dead['id']}")
    await expect(page.page.locator(".fault").first).to_contain_text(HOSTILE)
    await page.page.get_by_role("button", name="Redrive").click()
    await dialog.get_by_label(PAYLOAD).fill("{")
    await dialog.get_by_role("button", name="Redrive").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("no JSON")
    await dialog.get_by_label(PAYLOAD).fill('{"n": 2}')
    await dialog.get_by_role("button", name="Redrive").click()
    await expect(page.page.locator(".now-line")).to_contain_text("Waiting")
    found = (await api.get(f"/v1/jobs/{dead['id']}")).json
    assert (found["state"], found["payload"]) == ("queued", {"n": 2})
    page.check()


async def test_roles_hide_what_they_do_not_allow(page: Watched, api: Gateway) -> None:
    job = await api.submit()
    await page.sign_in(api.token("viewer"), f"jobs/{job['id']}")
    await expect(page.page.locator(".now-line")).to_contain_text("Waiting")
    buttons = await page.page.get_by_role("button").all_inner_texts()
    assert not {"Cancel job", "Redrive", "Run again", "Show"} & {*buttons}
    await page.go("jobs")
    await expect(page.page.get_by_role("row").filter(has_text="noop")).to_be_visible()
    assert await page.page.get_by_role("checkbox").count() == 0
    views = await one_of_each(api)
    for view in views:
        await page.go(view)
        await expect(page.page.locator(".loading")).to_have_count(0)
        shown = {*await page.page.locator("main").get_by_role("button").all_inner_texts()}
        assert not shown & ACTIONS, view
        hidden = view.startswith(("reviews", "keys"))
        refused = page.page.get_by_role("heading", name="You may not see this page")
        await expect(refused).to_have_count(int(hidden))
    links = await page.page.get_by_role("navigation").get_by_role("link").all_inner_texts()
    assert not {"Reviews", "API keys"} & {*links}
    page.check()


async def test_what_strangers_have_written_harms_nobody(page: Watched, api: Gateway) -> None:
    job = await api.submit(
        kind="hostile",
        payload={HOSTILE: "x" * 200_000, "__proto__": {"a": 1}, "deep": [[[[[[1]]]]]]},
        labels={"name": HOSTILE, "long": "y" * 256},
    )
    hand = await Hand.claim(api, "hostile")
    left = [
        await hand.leave("good.png", "image/png", png(64, 32)),
        await hand.leave("broken.png", "image/png", b"this is no picture"),
        await hand.leave("page.md", "text/markdown", MARKDOWN.encode()),
        await hand.leave("harm.html", "text/html", b"<script>document.title='harmed'</script>"),
    ]
    await hand.call("succeed", {"result": {"markdown": MARKDOWN}, "artifacts": left})
    await page.sign_in(api.token("submitter"), f"jobs/{job['id']}")
    rendered = page.page.locator(".page").first
    await expect(rendered.get_by_role("heading", name="Report")).to_be_visible()
    assert await rendered.locator(HARM).count() == 0
    assert await page.barriers() == []
    for link in await rendered.get_by_role("link").all():
        assert (await link.get_attribute("href") or "").startswith("https://")
        assert "noopener" in (await link.get_attribute("rel") or "")
    await expect(page.page.get_by_text("This picture cannot be shown.")).to_be_visible()
    good = page.page.get_by_role("img", name="good.png")
    await expect(good).to_be_visible()
    await page.page.wait_for_function(
        "() => [...document.images].some(one => one.alt === 'good.png' && one.naturalWidth === 64)"
    )
    assert await page.page.evaluate("({}).a") is None
    await page.go("jobs")
    await expect(page.page.get_by_role("row").filter(has_text="hostile")).to_be_visible()
    await page.go("jobs/no-such-job")
    await expect(page.page.get_by_role("heading", name="There is no such job")).to_be_visible()
    await page.go(f"{HOSTILE}/x")
    await expect(page.page.get_by_role("heading", name="There is no such page")).to_be_visible()
    assert "harmed" not in await page.page.title()
    page.check()


async def test_every_view_fits_a_phone_and_keeps_nobody_out(browser: Browser, api: Gateway) -> None:
    some = await api.submit(kind="seen", labels={"team": "z" * 200}, payload={"text": "w" * 5000})
    hand = await Hand.claim(api, "seen")
    await hand.call("progress", {"fraction": 0.5, "message": "v" * 300})
    await api.submit(kind="waits", requires={"gpu.memory_gb": {"$gte": 24}})
    more = await one_of_each(api)
    async with tab(browser, api.url, width=360, height=740, scheme="dark") as page:
        await page.page.goto(page.url)
        await expect(page.page.get_by_label("Token or API key")).to_be_visible()
        assert await page.barriers() == []
        await page.sign_in(api.token("admin"))
        job, worker = f"jobs/{some['id']}", f"workers/rest.{api.tenant}.hand"
        for view in ("", "jobs", job, "lanes", "dead-letters", "workers", worker, "servers", *more):
            await page.go(view)
            await expect(page.page.locator(".loading")).to_have_count(0)
            assert not await page.is_too_wide(), view
            assert await page.barriers() == [], view
            assert await page.firsts() <= 1, view
        page.check()


async def test_everything_is_reached_and_left_with_keys_alone(page: Watched, api: Gateway) -> None:
    keyboard = page.page.keyboard
    await page.page.goto(page.url)
    await expect(page.page.get_by_label("Token or API key")).to_be_focused()
    await keyboard.type(api.token("tenant-admin"))
    await keyboard.press("Enter")
    await page.connection("Live")
    await keyboard.press("Tab")
    await expect(page.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await keyboard.press("Enter")
    await expect(page.page.get_by_role("main")).to_be_focused()
    await page.page.get_by_role("link", name="API keys").focus()
    await keyboard.press("Enter")
    make = page.page.get_by_role("button", name="Make a key")
    await make.focus()
    await keyboard.press("Enter")
    dialog = page.page.get_by_role("dialog")
    await expect(dialog.get_by_label("Name")).to_be_focused()
    assert await page.barriers() == []
    await keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await expect(make).to_be_focused()
    await keyboard.press("Enter")
    await dialog.get_by_role("button", name="Leave it").focus()
    await keyboard.press("Enter")
    await expect(dialog).to_have_count(0)
    await expect(make).to_be_focused()
    page.check()


async def test_what_happens_before_the_live_connection_is_there_is_not_missed(
    page: Watched, api: Gateway
) -> None:
    job = await api.submit(kind="early")
    held: list[str | bytes] = []
    is_open = asyncio.Event()

    def hold(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        server.on_message(lambda said: socket.send(said) if is_open.is_set() else held.append(said))
        sockets.append(socket)

    sockets: list[WebSocketRoute] = []
    await page.page.route_web_socket(re.compile("/v1/ws$"), hold)
    await page.page.goto(f"{page.url}/#/jobs/{job['id']}")
    await page.page.get_by_label("Token or API key").fill(api.token("submitter"))
    async with page.page.expect_response(re.compile(f"/v1/jobs/{job['id']}/events")):
        await page.page.keyboard.press("Enter")
    line = page.page.locator(".now-line")
    await expect(line).to_contain_text("Waiting")
    await page.page.evaluate("() => new Promise(done => setTimeout(done, 500))")  # all is read that it reads
    await Hand.claim(api, "early")
    await expect(line).to_contain_text("Waiting")
    is_open.set()
    for said in held:
        sockets[-1].send(said)
    await page.connection("Live")
    await expect(line).to_contain_text("Running")
    page.check()


STRANGER = """<!doctype html><title>stranger</title><body><script>
window.heard = [];
addEventListener("message", (event) => heard.push(event.data));
const loaded = [];
for (const [tag, name, sandbox] of [
    ["iframe", "src"], ["iframe", "src", "allow-scripts allow-same-origin"], ["object", "data"],
    ["embed", "src"],
]) {
    const one = document.createElement(tag);
    if (sandbox) one.sandbox = sandbox;
    one[name] = PAGE;
    document.body.append(one);
    if (tag === "iframe") loaded.push(new Promise((resolve) => { one.onload = resolve; }));
}
window.framed = Promise.all(loaded);
window.take = () => {
    window.held = open(PAGE, "held");
    setInterval(() => {
        for (const to of [held, ...Array.from(frames)]) to.postMessage({ type: "auth", token: "?" }, "*");
    }, 20);
};
window.read = () => {
    const found = [];
    for (const of of [held, ...Array.from(frames)]) {
        try {
            found.push(of.document.body.innerText, JSON.stringify(of.sessionStorage));
        } catch (problem) {
            found.push(problem.name);
        }
    }
    return found;
};
</script>"""
"""A page that embeds ours in all ways, opens it, sends it messages all the time, and reads what it can."""


@contextlib.asynccontextmanager
async def stranger(url: str) -> AsyncIterator[str]:
    """Where the page of somebody else is: another site than ours, on the same machine."""
    body = STRANGER.replace("PAGE", f"'{url}/#/jobs'")

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=body, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://localhost:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def shown_in(page: Page) -> str:
    """All that the frames of a page show."""
    texts = [
        await frame.locator("body").inner_text() for frame in page.frames if frame is not page.main_frame
    ]
    return "\n".join(texts)


async def test_a_page_of_a_stranger_neither_frames_nor_holds_nor_reads_the_page(
    browser: Browser, api: Gateway
) -> None:
    job, token = await api.submit(kind="secret"), api.token("submitter")
    async with stranger(api.url) as place, tab(browser, place) as page:
        await page.page.goto(place)
        await page.page.evaluate("framed")
        assert len(page.page.frames) >= 3
        assert {frame.url for frame in page.page.frames[1:]} == {"chrome-error://chromewebdata/"}
        async with page.page.context.expect_page() as opened:
            await page.page.evaluate("take()")
        ours = Watched(await opened.value, api.url)
        await ours.page.get_by_label("Token or API key").fill(token)  # by somebody who has not noticed
        await ours.page.get_by_role("button", name="Sign in").click()
        await ours.connection("Live")
        await expect(ours.page.get_by_role("row").filter(has_text="secret")).to_be_visible()
        assert await ours.page.evaluate("opener") is None
        assert await page.page.evaluate("held.closed")  # it has no hold of the window any more
        found = str(await page.page.evaluate("[read(), heard]")) + await shown_in(page.page)
        for secret in (token, job["id"], "secret", "Token or API key"):
            assert secret not in found, found
        assert await ours.page.evaluate("location.hash") == "#/jobs"
        await page.page.evaluate("() => { held.location = 'about:blank' }")  # which is nobody's window
        await expect(ours.page.get_by_role("row").filter(has_text="secret")).to_be_visible()
        ours.check(token)
