"""A batch while its keepers, gateway and workers are killed, again and again."""

from __future__ import annotations

import asyncio
import io
import random
import time
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
import pytest

from tests.sizes import sizes
from tests.system.deployment import Deployment

pytestmark = [pytest.mark.system]

ENDED: Final = {"completed", "failed", "cancelled", "expired"}
VICTIMS: Final = ("keeper", "worker0", "gateway", "keeper2", "worker1")
BAD: Final = 50
"""One line in so many is none."""


def lines_of(number: int, gate: str) -> bytes:
    """A file of so many lines; some are bad, some jobs fail for good, and the last waits for a job."""
    found = []
    for line in range(1, number + 1):
        payload: dict[str, Any] = {"duration_s": 0, "echo": line}
        if line % BAD == 0:
            payload = {"duration_s": "none"}
        elif line % BAD == 1:
            payload |= {"fail": "fatal", "fail_attempts": 100}  # the first may be lost with its worker
        found.append(orjson.dumps({"custom_id": f"c{line}", "payload": payload}))
    waits = {"depends_on": [gate], "on_dependency_failure": "run"}
    found.append(orjson.dumps({"custom_id": "last", "payload": {"duration_s": 0}, **waits}))
    return b"\n".join(found)


async def asked(site: Deployment, method: str, path: str, **options: Any) -> Any:
    """The JSON of an answer; asked again while the gateway is away."""
    async with asyncio.timeout(120):
        while True:
            try:
                status, body = await site.request(method, path, **options)
            except (aiohttp.ClientError, ValueError):
                await asyncio.sleep(0.1)
                continue
            if status < 400:
                return body
            assert status in (429, 503), body
            await asyncio.sleep(0.2)


async def output(site: Deployment, batch: str, which: str) -> list[dict[str, Any]]:
    """The lines of an output."""
    headers = {"Authorization": f"Bearer {site.token}"}
    url = f"{site.url}/v1/batches/{batch}/{which}"
    async with site.session.get(url, headers=headers) as answer:
        assert answer.status == 200
        return [orjson.loads(line) for line in (await answer.read()).splitlines()]


async def kill(site: Deployment, name: str) -> None:
    """Kill a part, and start it again."""
    await site.parts[name].kill()
    if name == "gateway":
        await site.start_gateway("gateway", int(site.url.rpartition(":")[2]))
    elif name.startswith("keeper"):
        await site.start(name, "keeper")
    else:
        await site.start_worker(name, slots=16)


@pytest.mark.parametrize("size", sizes((400, 3), (50_000, 20), timeout_s=3000))
async def test_every_line_ends_once_while_everything_is_killed(size: tuple[int, int], tmp_path: Path) -> None:
    number, kills = size[0] - 1, size[1]  # the last line comes beside
    async with Deployment(tmp_path, lease_s=3.0) as site:
        await site.start_all(workers=2, slots=16)
        await site.start("keeper2", "keeper")
        gate = await site.submit(kind="nobody")
        body = lines_of(number, gate)
        stored = await asked(site, "POST", "/v1/files?name=in.jsonl", data=io.BytesIO(body))
        began = time.monotonic()
        wish = {"input": stored["id"], "kind": "simulate", "job": {"max_attempts": 50}, "deadline_s": 7200}
        made = await asked(site, "POST", "/v1/batches", json=wish)
        path = f"/v1/batches/{made['id']}"
        chosen = random.Random(7)
        killed = 0
        while True:
            found = await asked(site, "GET", path)
            if found["state"] in ENDED:
                break
            done = found["lines"]["succeeded"] + found["lines"]["failed"]
            if killed < kills and done >= number * killed // (kills + 1):
                await kill(site, VICTIMS[killed] if killed < len(VICTIMS) else chosen.choice(VICTIMS))
                killed += 1
                if killed == kills:
                    await asked(site, "POST", f"/v1/jobs/{gate}/cancel")
            await asyncio.sleep(0.1)
        took_s = time.monotonic() - began
        print(f"{number} lines, {killed} kills: {took_s:.1f} s, {number / took_s:.0f} lines/s")  # noqa: T201 - measured
        results, errors = await output(site, made["id"], "results"), await output(site, made["id"], "errors")
        assert found["state"] == "completed", found
        assert (results.pop()["custom_id"], killed) == ("last", kills)
        good = [line for line in range(1, number + 1) if line % BAD > 1]
        assert [(one["line"], one["custom_id"]) for one in results] == [(line, f"c{line}") for line in good]
        assert all(one["result"]["echo"] == one["line"] for one in results)
        assert [one["line"] for one in errors] == [line for line in range(1, number + 1) if line % BAD <= 1]
        assert [one["job"] is None for one in errors] == [one["line"] % BAD == 0 for one in errors]
