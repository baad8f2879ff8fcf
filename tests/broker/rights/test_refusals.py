"""Each part's credentials try everything that is not theirs; the broker's log says what was refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events import subjects
from switchyard.events.errors import ForbiddenError, UnavailableError
from switchyard.services.broker import connection, topology
from switchyard.services.broker.jetstream import api_subject
from switchyard.services.broker.rights import files, users
from switchyard.services.broker.rights.check import check, lacking
from switchyard.services.broker.rights.nkeys import credentials_in, inbox_prefix
from switchyard.services.broker.rights.table import PARTS, Part, rights_of
from switchyard.services.ids import new_id
from tests.broker.rights.site import Site, running
from tests.broker.rights.tries import not_for, refused, settled

WORKER: Final = "w1"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with running(tmp_path, WORKER, "w2") as site:
        async with site.connected("topology") as nc:
            await topology.apply(nc)
        yield site


@pytest.mark.parametrize("part", PARTS)
async def test_each_part_is_refused_all_that_is_not_its_own(site: Site, part: Part) -> None:
    worker = WORKER if part == "worker" else ""
    foreign, unheard = not_for(site, part, worker)
    published, subscribed = await refused(site, site.key(part, worker), foreign, unheard)
    assert published == set(foreign)
    assert subscribed == set(unheard)


@pytest.mark.parametrize("part", PARTS)
async def test_each_part_may_do_all_that_it_must(site: Site, part: Part) -> None:
    async with site.connected(part, WORKER) as nc:
        await check(nc, part)
        for right in rights_of(part).subscribe:
            await nc.subscribe(right.subject)
        await settled(nc)
    assert site.violations() == []


async def test_a_part_with_the_key_of_another_says_at_once_what_it_lacks(site: Site) -> None:
    async with site.connected("worker", WORKER) as nc:
        with pytest.raises(ForbiddenError, match=r"this keeper may not publish to \$JS\..* and \d+ more"):
            await check(nc, "keeper")
        assert "subscribe to job.*.dead" in await lacking(nc, "keeper")


async def test_a_worker_may_not_do_what_would_harm_others(site: Site) -> None:
    there = users.read(site.users)
    published, subscribed = await refused(
        site,
        site.key("worker", WORKER),
        tried := [
            "$JS.API.STREAM.CREATE.EVIL",
            "$JS.API.STREAM.DELETE.JOBS",
            "$JS.API.STREAM.PURGE.JOBS",
            "$JS.API.STREAM.UPDATE.JOBS",
            "$JS.API.STREAM.MSG.DELETE.JOBS",
            "$JS.API.CONSUMER.CREATE.JOBS",
            "$JS.API.CONSUMER.CREATE.JOBS.x",
            "$JS.API.CONSUMER.DURABLE.CREATE.WORK.x",
            "$JS.API.CONSUMER.DELETE.WORK.simulate_p50",
            "$JS.API.CONSUMER.DELETE.JOBS.keeper-events",
            "$JS.API.CONSUMER.MSG.NEXT.JOBS.keeper-events",
            "$JS.ACK.JOBS.keeper-events.1.1.1.1.0",
            "$JS.API.DIRECT.GET.KV_keys",
            "$JS.API.DIRECT.GET.KV_servers",
            "$JS.API.DIRECT.GET.KV_tickets",
            "$JS.API.DIRECT.GET.KV_octopoid",
            "$JS.API.DIRECT.GET.LOGS",
            "$JS.API.DIRECT.GET.LEDGER",
            "$JS.API.STREAM.MSG.GET.KV_keys",
            "$JS.API.CONSUMER.CREATE.KV_keys",
            "$KV.keys.api.x",
            "$KV.limits.a.b",
            "$KV.kinds.simulate",
            "$KV.controls.worker.x",
            "$KV.lanes.x.50",
            "$KV.servers.a.b",
            "timer.set.x.y",
            "ledger.line.1",
            "token.run.x.1",
            "job.x.submitted.simulate.50",
            "job.x.accepted",
            "job.x.archived",
            "job.x.repaired",
            "job.x.cancel_requested",
            "job.x.rejected.x.50",
            "projected.x",
            "rebuild.x",
            "speakers",
            f"{inbox_prefix(there.parts['gateway'])}.x.y",
            f"{inbox_prefix(there.workers['w2'])}.x.y",
        ],
        heard := [
            "job.>",
            "$KV.keys.>",
            "log.>",
            f"{inbox_prefix(there.parts['gateway'])}.>",
            f"{inbox_prefix(there.workers['w2'])}.>",
            "quota.files.*",
            "models.report",
        ],
    )
    assert (published, subscribed) == (set(tried), set(heard))


async def test_an_answer_that_a_worker_asks_for_stays_with_it(site: Site) -> None:
    """The broker sends answers wherever a request says: in one account that would write anywhere."""
    body = json.dumps({"last_by_subj": "progress.x"}).encode()
    async with site.connected("operator") as operator, site.connected("worker", WORKER) as worker:
        heard: list[Msg] = []

        async def hear(message: Msg) -> None:
            heard.append(message)

        await operator.subscribe("$KV.>", cb=hear)
        await operator.subscribe("job.*.archived", cb=hear)
        await settled(operator)
        await worker.request("progress.x", b"forged", timeout=5)
        for where in ("$KV.keys.api.x", "job.x.archived", api_subject("STREAM.PURGE.JOBS")):
            await worker.publish(get_of("JOBS"), body, reply=where)
            await worker.publish("progress.x", b"forged", reply=where)
        config = {"deliver_subject": "$KV.keys.api.x", "ack_policy": "none", "deliver_policy": "all"}
        made = {"stream_name": "KV_workers", "config": config}
        await worker.request(api_subject("CONSUMER.CREATE.KV_workers"), json.dumps(made).encode(), timeout=5)
        await worker.request("$KV.workers.w1", b"{}", timeout=5)
        await settled(worker)
        keys = await operator.request(api_subject("STREAM.INFO.KV_keys"), b"", timeout=5)
        assert json.loads(keys.data)["state"]["messages"] == 0
        await settled(operator)
        assert [message.subject for message in heard] == ["$KV.workers.w1"]


def get_of(stream: str) -> str:
    return api_subject(f"DIRECT.GET.{stream}")


async def test_a_refused_request_fails_at_once_and_is_logged_once(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    async with site.connected("worker", WORKER) as nc:
        for _ in range(3):
            with pytest.raises(
                connection.DeniedError, match=r"may not publish to \$JS\.API\.STREAM\.INFO\.KV_keys"
            ):
                await nc.request(api_subject("STREAM.INFO.KV_keys"), b"", timeout=3600)
        for _ in range(50):
            await nc.publish(f"job.{new_id()}.archived", b"")
        await settled(nc)
    said = [line for line in capsys.readouterr().out.splitlines() if "broker_right_missing" in line]
    assert len(said) == 2
    assert "STREAM.INFO.KV_keys" in said[0]
    assert "nats-config" in said[0]


async def test_a_worker_that_was_removed_is_cut_off_and_one_that_was_renewed_needs_its_new_key(
    site: Site,
) -> None:
    old = files.read(site.key("worker", WORKER))
    other = files.read(site.key("worker", "w2"))
    gone, stays = asyncio.Event(), asyncio.Event()
    first = await watched(site, old.seed, gone)
    second = await watched(site, other.seed, stays)
    users.change(site.users, parts=[], workers=[], rotate=["worker-w2"], remove=["worker-w1"])
    site.reload()
    async with asyncio.timeout(60):
        await gone.wait()
        await stays.wait()
    for seed in (old, other):
        with pytest.raises(UnavailableError, match=r"(?i)authorization"):
            await connection.connect(site.url, name="late", credentials=seed, timeout_s=5)
    async with site.connected("worker", "w2") as nc, site.connected("gateway") as gateway:
        await check(nc, "worker")
        await check(gateway, "gateway")
    assert not site.key("worker", WORKER).exists()
    await first.close()
    await second.close()


async def watched(site: Site, seed: str, gone: asyncio.Event) -> Client:
    """A plain connection that does not come back."""
    credentials = credentials_in(seed)

    async def closed() -> None:
        gone.set()

    async def nothing(_: Any) -> None:
        return

    nc = Client()
    nc._public_nkey = credentials.public  # nats-py has a library for it that we have not
    await nc.connect(
        site.url, signature_cb=credentials.sign, allow_reconnect=False, closed_cb=closed, error_cb=nothing
    )
    return nc


async def test_nobody_comes_in_without_a_key(site: Site) -> None:
    with pytest.raises(UnavailableError, match=r"(?i)refuses the user, password or key: .*authorization"):
        await connection.connect(site.url, name="none", timeout_s=5)
    url = site.url.replace("://", f"://{subjects.JOBS}:guess@")
    with pytest.raises(UnavailableError, match=r"no broker|refuses"):  # it may be cut off before it reads why
        await connection.connect(url, name="guess", timeout_s=5)
