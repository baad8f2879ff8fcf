"""What others wrote into the buckets of servers, by hand or by a newer version: nobody is held up by it."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import orjson
import pytest

from switchyard.events import subjects
from switchyard.events.encoding.json_bytes import check_bytes
from switchyard.services.broker.reader import last_message
from switchyard.services.records.limits import Limits
from switchyard.services.records.servers.condition import ServerState
from switchyard.services.records.servers.record import SERVERS
from switchyard.services.records.servers.store import STATES
from tests.gateway.push.task_server import TaskServer, says
from tests.gateway.push.test_pushing import DEADLINE_S, api, pushers, register, submit
from tests.gateway.rest import Gateway, now
from tests.ports import free_port

__all__ = ["api"]
JUNK = [b"hi", b"\xff", b"null", b"[]", b"{}", b'{"x":' * 3000, b"1e400", b'{"generation": 7}', b""]


async def write(api: Gateway, subject: str, body: bytes) -> None:
    """Past everybody."""
    await api.nc.jetstream().publish(subject, body)


async def stored(api: Gateway, stream: str, subject: str) -> dict[str, Any]:
    found = await last_message(api.nc, stream, subject, timeout_s=20)
    assert found is not None
    check_bytes(found.data)
    read: dict[str, Any] = orjson.loads(found.data)
    return read


async def runs(api: Gateway, server: TaskServer, number: int = 2) -> None:
    for _ in range(number):
        before = server.took.total()
        assert (await api.final(await submit(api))).name == "succeeded"
        assert server.took.total() == before + 1


@pytest.mark.parametrize("junk", JUNK)
async def test_garbage_beside_a_server_holds_nobody_up(api: Gateway, junk: bytes) -> None:
    async with TaskServer("good") as good, pushers(api):
        await write(api, SERVERS.subject((api.tenant, "junk")), junk)
        await write(api, STATES.subject((api.tenant, "junk")), junk)
        await write(api, f"$KV.{subjects.BUCKET_SERVERS}.{api.tenant}.deep.er.still", junk)
        await register(api, good)
        await runs(api, good)
        admin = api.token("tenant-admin")
        listed = (await api.get("/v1/servers", token=admin)).json["servers"]
        assert [one["id"] for one in listed] == ["good"]
        assert (await api.get("/v1/servers/junk", token=admin)).status == 404
        put = await api.call("PUT", "/v1/servers/junk", good.wish, token=admin)  # its owner may have the name
        assert put.status == 201, put
        assert (await api.call("DELETE", "/v1/servers/junk", token=admin)).status == 204


@pytest.mark.parametrize("junk", JUNK)
async def test_garbage_in_the_place_of_a_state_is_written_over(api: Gateway, junk: bytes) -> None:
    """As garbage in the place of a server is, once that registers again."""
    async with TaskServer("s1") as server, pushers(api):
        await register(api, server)
        await runs(api, server, 1)
        await write(api, STATES.subject((api.tenant, "s1")), junk)
        await runs(api, server)
        await write(api, SERVERS.subject((api.tenant, "s1")), junk)
        job = await submit(api)
        await register(api, server)
        assert (await api.final(job)).name == "succeeded"


async def test_what_a_newer_version_wrote_is_read_as_far_as_it_is_known(api: Gateway) -> None:
    async with TaskServer("s1") as server, pushers(api):
        await register(api, server)
        await runs(api, server, 1)
        place = SERVERS.subject((api.tenant, "s1"))
        record = await stored(api, SERVERS.stream, place) | {"new": {"of": "later"}}
        await write(api, place, orjson.dumps(record))
        place = STATES.subject((api.tenant, "s1"))
        state = await stored(api, STATES.stream, place) | {"new": [1], "claimed_until": None}
        await write(api, place, orjson.dumps({name: value for name, value in state.items() if value}))
        await runs(api, server)


async def test_a_profile_of_a_newer_version_is_left_to_whoever_knows_it(api: Gateway) -> None:
    async with TaskServer("s1") as server, TaskServer("new") as new, pushers(api):
        await register(api, server, slots=2)
        await register(api, new)
        place = SERVERS.subject((api.tenant, "new"))
        record = await stored(api, SERVERS.stream, place) | {"profile": "of-a-newer-version"}
        await write(api, place, orjson.dumps(record))
        asked = new.took.total()
        await runs(api, server, 4)
        assert new.took.total() == asked


async def test_times_that_another_clock_wrote_hold_no_server_back(api: Gateway) -> None:
    """A state from a host that was an hour or years ahead: it is checked, and gets jobs."""
    async with TaskServer("s1") as server, pushers(api):
        await register(api, server)
        await runs(api, server, 1)
        found = await api.registry().get(api.tenant, "s1")
        for ahead in (timedelta(hours=1), timedelta(days=9000), -timedelta(hours=1)):
            await api.registry().change_state(found.server, partial(_at, now() + ahead))
            await runs(api, server, 1)
            async with asyncio.timeout(DEADLINE_S):  # a check writes times of now
                while abs((await _state(api)).checked_at - now()) > timedelta(seconds=30):
                    await asyncio.sleep(0.05)


def _at(at: datetime, state: ServerState | None) -> ServerState:
    """What a host with that time would have written."""
    assert state is not None
    return msgspec.structs.replace(
        state, due_at=at, checked_at=at, heartbeat_at=at, held_for="resting", held_until=at, claimed_by="x",
        claimed_until=at,
    )  # fmt: skip


async def _state(api: Gateway) -> Any:
    state = (await api.registry().get(api.tenant, "s1")).state
    assert state is not None
    return state


async def test_a_tenant_that_fills_its_registry_takes_nothing_from_another(api: Gateway) -> None:
    """Its servers all fail or answer nothing; another tenant's server is checked and pushed to."""
    stranger = api.token("tenant-admin", tenant=api.stranger)
    most = 60
    async with TaskServer("bad", says(500)) as bad, TaskServer("s1") as server, pushers(api, 2):
        wish = bad.wish
        dead = dict.fromkeys(("predict", "health"), f"http://127.0.0.1:{free_port()}/")
        for number in range(most):
            body = wish if number % 2 else {**wish, "endpoints": dead}
            put = await api.call("PUT", f"/v1/servers/n{number}", body, token=stranger)
            assert put.status == 201, put
        for _ in range(20):
            await api.call("POST", "/v1/jobs", {"kind": "upscale"}, token=api.token(tenant=api.stranger))
        await register(api, server)
        await runs(api, server, 10)
        for number in range(most):
            await api.call("DELETE", f"/v1/servers/n{number}", token=stranger)


async def test_a_server_that_is_registered_again_while_its_slots_are_taken_away_has_them(
    api: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, goes_on = asyncio.Event(), asyncio.Event()
    remove = Limits.remove_places

    async def slowly(self: Limits, sort: str, key: str) -> None:
        began.set()
        await goes_on.wait()
        await remove(self, sort, key)

    monkeypatch.setattr(Limits, "remove_places", slowly)
    async with TaskServer("s1") as server, pushers(api):
        await register(api, server)
        await runs(api, server, 1)
        await api.call("DELETE", "/v1/servers/s1", token=api.token("tenant-admin"))
        async with asyncio.timeout(DEADLINE_S):
            await began.wait()
        await register(api, server)
        first = asyncio.create_task(api.final(await submit(api)))
        await asyncio.wait({first}, timeout=2.0)  # it may run meanwhile, or wait for the slots
        goes_on.set()
        assert (await first).name == "succeeded"
        await runs(api, server)
