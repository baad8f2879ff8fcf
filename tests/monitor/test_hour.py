"""The page is left open while jobs come, run and end all the time: what it takes of memory does not grow.

`MONITOR_OPEN_S` is for how many seconds, `MONITOR_OPEN_RATE` how many transitions a second are tried.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import pytest
import structlog

from switchyard.events.commands import Complete, Release, Submit, TakeLease
from switchyard.events.job import Job
from switchyard.events.lane import LaneKey, lane_id
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import Revision, WorkerId
from switchyard.services.broker.connection import connect
from switchyard.services.broker.publisher import Publisher
from switchyard.services.event_store import EventStore
from switchyard.services.ids import new_id
from switchyard.services.records.lanes import Lanes
from switchyard.services.settings.loading import load_settings
from tests.monitor.browser import NEEDS_BROWSER, Chromium
from tests.site import now
from tests.system.deployment import Deployment

log = structlog.get_logger()
OPEN_S: Final = float(os.environ.get("MONITOR_OPEN_S", "600"))
RATE: Final = float(os.environ.get("MONITOR_OPEN_RATE", "500"))
pytestmark = [NEEDS_BROWSER, pytest.mark.drill, pytest.mark.timeout(OPEN_S + 600)]

MOST_BYTES: Final = 150 * 1_000_000
SAMPLES: Final = 40
AT_ONCE: Final = 24
"""Jobs whose transitions are appended at the same time."""
ATTEMPTS: Final = 4
"""Those of a job: each but the last gives it back. With its submission these are nine transitions."""
VIEWS: Final = ("", "jobs", "jobs?state=active")


class Taken(NamedTuple):
    """What a page takes, after its garbage was collected.

    Args:
        at_s: seconds since it was opened.
        heap: bytes of its JavaScript objects.
        nodes: DOM nodes, those too that nobody shows.
        listeners: how many wait for events of it.
    """

    at_s: float
    heap: int
    nodes: int
    listeners: int


class Untouched:
    """A tab that nothing looks at between two measurements.

    Playwright has the browser keep what each request was answered, which grows by itself.

    Args:
        socket: to its debugger.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.samples: list[Taken] = []
        self._socket = socket
        self._calls = 0

    async def send(self, method: str, **parameters: Any) -> Any:
        """What a command of the debugger gives."""
        self._calls += 1
        await self._socket.send_json({"id": self._calls, "method": method, "params": parameters})
        while (found := await self._socket.receive_json()).get("id") != self._calls:
            pass  # what it says by itself
        return found["result"]

    async def evaluate(self, script: str) -> Any:
        """The value of an expression."""
        found = await self.send("Runtime.evaluate", expression=script, returnByValue=True)
        return found["result"].get("value")

    async def sign_in(self, token: str) -> None:
        """Sign in, and wait until it is connected."""
        await self.evaluate(f"sessionStorage.setItem('switchyard.token', '{token}'); location.reload()")
        while "Live" not in (await self.evaluate("document.querySelector('.connection')?.innerText") or ""):
            await asyncio.sleep(0.1)

    async def measure(self, since: float) -> None:
        """Note what it takes now."""
        await self.send("HeapProfiler.collectGarbage")
        found = await self.send("Performance.getMetrics")
        of = {one["name"]: int(one["value"]) for one in found["metrics"]}
        taken = Taken(time.monotonic() - since, of["JSHeapUsedSize"], of["Nodes"], of["JSEventListeners"])
        self.samples.append(taken)


@asynccontextmanager
async def untouched(http: aiohttp.ClientSession, chromium: Chromium, url: str) -> AsyncIterator[Untouched]:
    """A window of its own at an address: it is seen, as a tab behind another is not."""
    async with http.ws_connect(chromium.address, max_msg_size=0) as whole:
        browser = Untouched(whole)
        target = (await browser.send("Target.createTarget", url=url, newWindow=True))["targetId"]
        debugger = f"ws://{urlsplit(chromium.address).netloc}/devtools/page/{target}"
        async with http.ws_connect(debugger, max_msg_size=0) as socket:
            page = Untouched(socket)
            await page.send("Performance.enable")
            yield page
        await browser.send("Target.closeTarget", targetId=target)


def slope(samples: list[Taken]) -> float:
    """By how many bytes a minute the heap grows: the line through the second half of the samples."""
    half = samples[len(samples) // 2 :]
    x = [one.at_s / 60 for one in half]
    middle, mean = sum(x) / len(x), sum(one.heap for one in half) / len(half)
    over = sum((at - middle) * (one.heap - mean) for at, one in zip(x, half, strict=True))
    return over / sum((at - middle) ** 2 for at in x)


def size_of(pid: int) -> tuple[int, int]:
    """Resident and private bytes of a process."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    kib = {name: int(value) for name, value in re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE)}
    return kib["Rss"] * 1024, (kib["Private_Clean"] + kib["Private_Dirty"]) * 1024


async def renderers(http: aiohttp.ClientSession, chromium: Chromium) -> list[tuple[int, int]]:
    """Those of each process that holds pages."""
    async with http.ws_connect(chromium.address, max_msg_size=0) as socket:
        found = await Untouched(socket).send("SystemInfo.getProcessInfo")
    return [size_of(one["id"]) for one in found["processInfo"] if one["type"] == "renderer"]


class Feeder:
    """Has jobs live their whole lives, in a process of the test's own, at a pace.

    Args:
        store: where their events go.
        per_s: transitions a second at most.
    """

    def __init__(self, store: EventStore, per_s: float) -> None:
        self.done = 0
        self._store = store
        self._per_s = per_s
        self._begun = time.monotonic()

    async def _next(self, job: Job, command: Any, actor: str) -> Job:
        while self.done > (time.monotonic() - self._begun) * self._per_s:
            await asyncio.sleep(0.01)
        self.done += 1
        return (await self._store.transition(job, command, actor=actor)).job

    async def live(self, number: int) -> None:
        """One job after the other."""
        kind = f"kind-{number % 6}"
        spec = JobSpec(kind=kind, tenant="acme", lane=lane_id(LaneKey(kind, {}, {})), labels={"n": "1"})
        worker = WorkerId(f"worker-{number}")
        while True:
            job = await self._next(Job(id=new_id()), Submit(now=now(), job=spec), "user:ann")
            for attempt in range(1, ATTEMPTS + 1):
                take = TakeLease(now=now(), worker=worker, revision=Revision(1))
                job = await self._next(job, take, f"worker:{worker}")
                assert job.lease is not None
                fence = job.lease.fence
                end = Complete(now=now(), fence=fence, result={}) if attempt == ATTEMPTS else None
                job = await self._next(job, end or Release(now=now(), fence=fence), f"worker:{worker}")


@asynccontextmanager
async def fed(site: Deployment) -> AsyncIterator[Feeder]:
    """Jobs that live as long as the block."""
    settings = load_settings({"data_dir": site.data_dir, "nats_url": site.broker.url}).settings
    nc = await connect(site.broker.url, name="feeder")
    async with Publisher(nc) as publisher:
        lanes = Lanes(nc, publisher, settings)
        feeder = Feeder(EventStore(nc, publisher, settings), RATE)
        for number in range(6):
            key = LaneKey(f"kind-{number}", {}, {})
            await lanes.ensure(key, lane_id(key), 50)
        tasks = [asyncio.create_task(feeder.live(number)) for number in range(AT_ONCE)]
        try:
            yield feeder
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
    await nc.close()
    assert [one for one in ended if not isinstance(one, asyncio.CancelledError)] == []


async def test_a_page_that_is_left_open_does_not_grow(tmp_path: Path, chromium: Chromium) -> None:
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(Deployment(tmp_path))
        await site.start("projector", "projector")
        await site.start_gateway()
        feeder = await stack.enter_async_context(fed(site))
        pages: dict[str, Untouched] = {}
        for view in VIEWS:
            page = await stack.enter_async_context(untouched(site.session, chromium, f"{site.url}/#/{view}"))
            await page.sign_in(site.token)
            pages[view or "overview"] = page
        begun, most, first = time.monotonic(), [0, 0], await shown_by(pages)
        for number in range(1, SAMPLES + 1):
            before = feeder.done
            while time.monotonic() < begun + OPEN_S * number / SAMPLES:
                await asyncio.sleep(0.1)
            sizes = await renderers(site.session, chromium)  # with the garbage that is there
            for page in pages.values():
                await page.measure(begun)
            most = [max(one) for one in zip(*sizes, most, strict=True)]
            log.info(
                "pages_measured",
                at_s=round(time.monotonic() - begun),
                per_s=round((feeder.done - before) * SAMPLES / OPEN_S),
                heap_mb={view: round(page.samples[-1].heap / 1e6, 1) for view, page in pages.items()},
                nodes={view: page.samples[-1].nodes for view, page in pages.items()},
                rss_mb=sorted(round(rss / 1e6) for rss, _ in sizes),
                own_mb=sorted(round(own / 1e6) for _, own in sizes),
            )
        for view, page in pages.items():
            log.info(
                "page_left_open",
                view=view,
                transitions=feeder.done,
                most_mb=round(max(one.heap for one in page.samples) / 1e6, 1),
                mb_per_hour=round(slope(page.samples) * 60 / 1e6, 1),
            )
        log.info("renderers", most_rss_mb=round(most[0] / 1e6), most_own_mb=round(most[1] / 1e6))
        assert all(one != other for one, other in zip(first, await shown_by(pages), strict=True))
        for page in pages.values():
            assert max(one.heap for one in page.samples) + max(0, slope(page.samples)) * 60 < MOST_BYTES
        assert most[1] < MOST_BYTES


async def shown_by(pages: dict[str, Untouched]) -> list[str]:
    """What each shows, by which those are known that follow nothing any more."""
    return [str(await page.evaluate("document.querySelector('main').innerText")) for page in pages.values()]
