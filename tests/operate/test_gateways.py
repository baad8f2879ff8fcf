"""Two gateways on two machines, with one secret that was carried over as docs/several-gateways.md says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from tests.operate.blocks import blocks, command, file
from tests.operate.machine import Machine
from tests.ports import free_port
from tests.system.deployment import Deployment, Part

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
DEADLINE_S = 60.0
JOBS = 12


class Pair(NamedTuple):
    """Two gateways of one broker, the first of which may be killed."""

    site: Deployment
    first: str
    second: str
    dying: Part
    token: str
    http: aiohttp.ClientSession


@asynccontextmanager
async def pair(tmp_path: Path, *, carried: bool = True) -> AsyncIterator[Pair]:
    machine = Machine(tmp_path / "machine")
    one, two = tmp_path / "site" / "data", tmp_path / "two"
    async with Deployment(tmp_path / "site") as site:
        await site.start("projector", "projector")
        dying = await site.start_gateway()
        first = site.url
        for text in ("-cf secrets.tar", *(["-xpf"] if carried else [])):
            places = {"/var/lib/switchyard2": str(two)} if "-x" in text else {"/var/lib/switchyard": str(one)}
            await asyncio.to_thread(machine.run, command("several-gateways", text).here(places))
        assert not carried or (two / "secret").stat().st_mode & 0o777 == 0o600
        minted = command("several-gateways", "switchyard token").here({"/var/lib/switchyard": str(one)})
        token = (await asyncio.to_thread(machine.run, minted)).strip()
        await site.start("keeper", "keeper")
        await site.start_worker("worker")
        site.data_dir = two
        await site.start("projector2", "projector")
        port = free_port()
        await site.start("gateway2", "gateway", "--port", str(port))
        site.url = second = f"http://127.0.0.1:{port}"
        await site._until_ready(site.parts["gateway2"])
        yield Pair(site, first, second, dying, token, site.session)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_token_of_one_opens_the_other_and_a_ticket_too(tmp_path: Path) -> None:
    async with pair(tmp_path) as two:
        for url in (two.first, two.second):
            async with two.http.get(f"{url}/v1/jobs", headers=bearer(two.token)) as answer:
                assert answer.status == 200, url
        async with two.http.post(
            f"{two.first}/v1/tickets", json={}, headers=bearer(two.site.token)
        ) as answer:
            ticket = (await answer.json())["ticket"]
        async with two.http.get(
            f"{two.second}/v1/events/stream", params={"all": "true", "ticket": ticket}
        ) as answer:
            assert answer.status == 200, await answer.text()


async def test_without_the_secret_carried_over_the_other_refuses_it(tmp_path: Path) -> None:
    async with pair(tmp_path, carried=False) as two:
        answer = await two.http.get(f"{two.second}/v1/jobs", headers=bearer(two.token))
        assert answer.status == 401


async def events(two: Pair, url: str, after: str | None, until: int, seen: list[str]) -> str:
    """Read transitions at one gateway until so many were seen; the last cursor."""
    headers = bearer(two.site.token) | ({"Last-Event-ID": after} if after else {})
    params = {"all": "true", "progress": "false"}
    cursor = after or ""
    async with two.http.get(f"{url}/v1/events/stream", params=params, headers=headers) as stream:
        assert stream.status == 200
        if after is None:
            await submit(two)
        place = ""
        async for raw in stream.content:
            line = raw.decode().strip()
            if line.startswith("id:"):
                place = line[3:].strip()
            elif line.startswith("data:"):
                found: dict[str, Any] = json.loads(line[5:])
                if found.get("type") == "event":
                    seen.append(f"{found['event']['seq']}")
                    cursor = place or cursor
                    if len(seen) == until:
                        return cursor
    raise AssertionError("the stream ended")


async def submit(two: Pair) -> None:
    for _ in range(JOBS):
        body = {"kind": "simulate", "payload": {"duration_s": 0}}
        async with two.http.post(
            f"{two.second}/v1/jobs", json=body, headers=bearer(two.site.token)
        ) as answer:
            assert answer.status == 201


async def test_a_live_view_moves_over_without_missing_or_repeating_a_transition(tmp_path: Path) -> None:
    async with pair(tmp_path) as two, asyncio.timeout(DEADLINE_S * 3):
        seen: list[str] = []
        cursor = await events(two, two.first, None, JOBS, seen)
        await two.dying.kill()
        await events(two, two.second, cursor, 3 * JOBS, seen)
        assert sorted(map(int, seen)) == list(range(1, 3 * JOBS + 1))


def test_the_block_of_both_gateways_fits_into_the_proxy() -> None:
    proxy = file("proxy", "/etc/nginx/conf.d/switchyard.conf").text
    (both,) = [block.text for block in blocks("several-gateways") if block.language == "nginx"]
    assert both.splitlines()[0] in proxy
