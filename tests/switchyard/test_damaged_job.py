"""Nobody waits for ever for a job whose log cannot be read."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import orjson
import pytest

from switchyard.client import (
    AsyncClient,
    Client,
    ConflictError,
    JobDamagedError,
    ServerError,
    Transition,
)
from switchyard.events import subjects
from tests.gateway.rest import DEADLINE_S, Gateway


async def strange(api: Gateway, job_id: str) -> int:
    """What a stranger published; its sequence."""
    return await api.publisher.publish(f"job.{job_id}.hello", b"hello", {})


async def newer(api: Gateway, job_id: str, name: str = "invented") -> int:
    headers = {subjects.H_TENANT: api.tenant, subjects.H_KIND: "noop"}
    body = orjson.dumps({"v": 7, "at": "not a time", "why": "it can"})
    return await api.publisher.publish(f"job.{job_id}.{name}", body, headers)


async def followed(client: AsyncClient, job_id: str) -> list[str]:
    """What `follow` gives before it raises."""
    names: list[str] = []
    with pytest.raises(JobDamagedError):
        await transitions(client, job_id, names)
    return names


async def transitions(client: AsyncClient, job_id: str, names: list[str]) -> None:
    """Add the names of what `follow` gives."""
    async with asyncio.timeout(DEADLINE_S), aclosing(client.follow(job_id)) as messages:
        async for message in messages:
            names += [message.event.type] if isinstance(message, Transition) else []


async def test_waiting_for_a_damaged_job_says_what_is_wrong(api: Gateway, client: AsyncClient) -> None:
    job = await client.submit("noop")
    seq = await strange(api, job.id)
    async with asyncio.timeout(DEADLINE_S):
        for call in (client.wait(job.id), client.result(job.id), client.wait(job.id, timeout_s=60)):
            with pytest.raises(
                JobDamagedError, match=f"'hello' at sequence {seq}.*repaired or discarded"
            ) as e:
                await call
    damage = e.value.job.damage
    assert damage is not None
    assert (damage.seq, damage.event, damage.newer_version, e.value.job.state) == (
        seq, "hello", False, "queued",
    )  # fmt: skip


async def test_who_waits_already_is_notified(api: Gateway, client: AsyncClient) -> None:
    job = await client.submit("noop")
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        waiting = group.create_task(raises(client, job.id))
        await strange(api, job.id)
    assert waiting.done()


async def raises(client: AsyncClient, job_id: str) -> None:
    with pytest.raises(JobDamagedError):
        await client.wait(job_id)


async def test_a_damaged_job_is_followed_to_its_damage(api: Gateway, client: AsyncClient) -> None:
    job = await client.submit("noop")
    await strange(api, job.id)
    assert await followed(client, job.id) == ["submitted", "hello"]


@pytest.mark.parametrize("name", ["hello", "invented", "succeeded"])
async def test_following_ends_when_the_job_is_damaged(api: Gateway, client: AsyncClient, name: str) -> None:
    job = await client.submit("noop")
    async with asyncio.TaskGroup() as group:
        following = group.create_task(followed(client, job.id))
        await api.lease(job.id)
        await (strange(api, job.id) if name == "hello" else newer(api, job.id, name))
    assert following.result() == ["submitted", "leased", name]


async def test_a_job_that_had_succeeded_is_still_answered(api: Gateway, client: AsyncClient) -> None:
    job = await client.submit("noop")
    await api.complete(await api.lease(job.id), {"made": 1})
    await strange(api, job.id)
    assert (await client.wait(job.id)).damage is not None
    assert await client.result(job.id) == {"made": 1}
    names: list[str] = []
    await transitions(client, job.id, names)
    assert names == ["submitted", "leased", "succeeded", "hello"]


async def test_a_job_without_a_readable_event_is_read_listed_and_not_repaired(
    api: Gateway, client: AsyncClient
) -> None:
    headers = {subjects.H_TENANT: api.tenant, subjects.H_KIND: "noop"}
    job_id = "0197f3a2-5c1e-7d43-9a06-" + api.tenant[2:14]
    seq = await api.publisher.publish(f"job.{job_id}.submitted.noop-1.50", b"{", headers)
    assert (await client.get(job_id)).state == "absent"
    assert [job.id async for job in client.list(state="damaged", min_seq=seq)] == [job_id]
    events = [event async for event in client.events(job_id)]
    assert [(event.at, event.data) for event in events] == [(None, {})]
    assert events[0].unreadable
    with pytest.raises(JobDamagedError):
        await client.wait(job_id)
    with pytest.raises(ConflictError, match="discard") as refused:
        await client.repair(job_id)
    assert refused.value.code == "nothing_to_repair"


async def test_a_damaged_job_is_repaired(api: Gateway, client: AsyncClient) -> None:
    first, second = [await client.submit("noop") for _ in range(2)]
    for job in (first, second):
        await strange(api, job.id)
    repaired = await client.repair(first.id)
    assert (repaired.state, repaired.damage) == ("queued", None)
    await api.complete(await api.lease(first.id), 1)
    assert (await client.wait(first.id)).succeeded
    names: list[str] = []
    await transitions(client, first.id, names)
    assert names == ["submitted", "hello", "repaired", "leased", "succeeded"]

    def plainly() -> str:
        with Client(api.url, api.token()) as plain:
            with pytest.raises(JobDamagedError):
                plain.wait(second.id)
            return plain.repair(second.id, to="dead", reason="not wanted").state

    assert await asyncio.to_thread(plainly) == "dead"
    with pytest.raises(ConflictError) as refused:
        await client.repair(second.id)
    assert refused.value.code == "not_damaged"


async def test_a_job_of_a_newer_version_is_left_to_it(api: Gateway, client: AsyncClient) -> None:
    job = await client.submit("noop")
    await newer(api, job.id)
    with pytest.raises(JobDamagedError, match="a newer version of Switchyard wrote it"):
        await client.wait(job.id)
    event = [event async for event in client.events(job.id)][-1]
    assert (event.at, event.data) == (None, {"why": "it can"})
    with pytest.raises(ServerError):
        await client.repair(job.id, to="queued")
