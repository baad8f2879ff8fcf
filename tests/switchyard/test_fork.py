"""A client that was made before a fork has connections of its own in the child."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from typing import Any

import pytest

from switchyard.client import AsyncClient, Client, ForkedError
from tests.gateway.rest import Gateway

FORK = multiprocessing.get_context("fork")


@pytest.fixture
async def sync_client(api: Gateway) -> Any:
    made = await asyncio.to_thread(Client, api.url, api.token())
    yield made
    await asyncio.to_thread(made.close)


def in_child(work: Callable[[], object]) -> str:
    """What `work` says in a forked process, whose end is that of a program."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(theirs, str(work()).encode())
        except BaseException as error:  # noqa: BLE001 - it is what is asked for
            os.write(theirs, repr(error).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    said = b""
    while part := os.read(ours, 65536):
        said += part
    os.close(ours)
    os.waitpid(pid, 0)
    return said.decode()


def submitted(client: Client, kind: str) -> str:
    return client.submit(kind, {"from": "a child"}).id


def in_pool(kind: str) -> list[str]:
    with FORK.Pool(2) as pool:
        return pool.starmap(_submitted, [(kind, n) for n in range(8)])


SHARED: dict[str, Client] = {}


def _submitted(kind: str, n: int) -> str:
    return SHARED["client"].submit(kind, {"n": n}).id


async def test_a_plain_client_works_on_both_sides_of_a_fork(api: Gateway, sync_client: Client) -> None:
    def both() -> list[str]:
        first = sync_client.submit(api.tenant)
        children = [in_child(lambda: submitted(sync_client, api.tenant)) for _ in range(3)]
        own = [sync_client.get(job).id for job in (first.id, *children)]
        assert own == [first.id, *children]
        return children

    assert len(set(await asyncio.to_thread(both))) == 3


async def test_a_closed_child_leaves_the_parents_connections(api: Gateway, sync_client: Client) -> None:
    def child() -> str:
        with sync_client:
            job = submitted(sync_client, api.tenant)
        sync_client.close()
        return job

    def both() -> None:
        sync_client.submit(api.tenant)
        job = in_child(child)
        assert sync_client.get(job).id == job
        assert in_child(sync_client.close) == "None"
        assert sync_client.get(job).id == job

    await asyncio.to_thread(both)


async def test_a_pool_of_forked_processes_shares_a_client(api: Gateway, sync_client: Client) -> None:
    SHARED["client"] = sync_client
    first = await asyncio.to_thread(sync_client.submit, api.tenant)
    jobs = await asyncio.to_thread(in_pool, api.tenant)
    assert len({*jobs, first.id}) == 9
    for job in jobs:
        assert (await asyncio.to_thread(sync_client.get, job)).id == job


async def test_a_stream_does_not_go_on_in_a_child(api: Gateway, sync_client: Client) -> None:
    def both() -> None:
        job = sync_client.submit(api.tenant)
        newest = sync_client.submit(api.tenant)
        jobs = sync_client.list(page_size=1, min_seq=newest.seq)
        assert next(jobs).id == newest.id
        assert ForkedError.__name__ in in_child(lambda: next(jobs))
        assert [event.type for event in sync_client.events(job.id)] == ["submitted"]
        assert next(jobs).id == job.id

    await asyncio.to_thread(both)


async def test_a_client_of_asyncio_has_a_session_of_its_own_in_a_child(
    api: Gateway, client: AsyncClient
) -> None:
    first = await client.submit(api.tenant)

    def child() -> str:
        async def submit() -> str:
            job = await client.submit(api.tenant)
            await client.close()
            return job.id

        return asyncio.run(submit())

    job = await asyncio.to_thread(in_child, child)
    assert (await client.get(job)).id == job
    assert (await client.get(first.id)).id == first.id
