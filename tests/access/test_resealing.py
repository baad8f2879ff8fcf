"""Credentials are sealed again with the newest key, over a registry that others change meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from switchyard.events.errors import UnavailableError
from switchyard.services.access.sealing import KEY_FILE, Sealer, rotate
from switchyard.services.access.server_credentials import Resealed, ServerCredentials, reseal
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.records.servers.record import Endpoints, Sealed, Server
from switchyard.services.records.servers.store import Found, Servers
from tests import site
from tests.site import Site, now

TRIES = 8


@pytest.fixture
async def here(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Site]:
    async with site.opened(Site, broker.url, name="test", data_dir=tmp_path) as found:
        yield found


def server(server_id: str, credentials: Sealed | None = None) -> Server:
    return Server(
        tenant="acme", id=server_id, generation=f"g-{server_id}", name="s", kinds=("k",), profile="task",
        endpoints=Endpoints("http://192.0.2.1/"), credentials=credentials, created_at=now(),
        created_by="user:ann", updated_at=now(),
    )  # fmt: skip


def sealed(credentials: ServerCredentials, server_id: str, value: str) -> Server:
    made = server(server_id)
    return server(server_id, credentials.seal(made.tenant, made.id, made.endpoints, {"X-Key": value}))


async def registry_of(here: Site, *servers: Server) -> Servers:
    registry = Servers(here.nc, here.publisher, here.settings)
    for one in servers:
        await registry.put(one, 0)
    await registry.load()
    return registry


async def test_all_are_sealed_with_the_newest_key_and_nothing_else_of_them_changes(
    here: Site, tmp_path: Path
) -> None:
    credentials = ServerCredentials(Sealer(tmp_path))
    strange = tmp_path / "strange"
    strange.mkdir(mode=0o700)
    foreign = sealed(ServerCredentials(Sealer(strange)), "foreign", "z")
    old = [sealed(credentials, name, name) for name in ("a", "b")]
    rotate(tmp_path)
    new = sealed(credentials, "new", "n")
    registry = await registry_of(here, *old, new, foreign, server("plain"))
    assert await reseal(registry, credentials, TRIES) == Resealed(again=2, already=1, unreadable=1)
    lines = (tmp_path / KEY_FILE).read_text().split()
    (tmp_path / KEY_FILE).write_text(lines[0] + "\n")  # the earlier key is needed no more
    for one in old:
        found = (await registry.get(*one.key)).server
        assert credentials.open(found) == {"X-Key": one.id}
        assert msgspec.structs.replace(found, credentials=one.credentials) == one
    assert (await registry.get(*foreign.key)).server == foreign
    assert await reseal(registry, credentials, TRIES) == Resealed(already=3, unreadable=1)


async def test_what_others_change_or_remove_meanwhile_is_kept(here: Site, tmp_path: Path) -> None:
    class Contested(Servers):
        async def get(self, tenant: str, server_id: str) -> Found:
            found = await super().get(tenant, server_id)
            if server_id == "changed" and not found.server.maintenance:
                await self.put(msgspec.structs.replace(found.server, maintenance=True), found.revision)
            if server_id == "removed":
                await self.delete(found.server, found.revision)
            return found

    credentials = ServerCredentials(Sealer(tmp_path))
    await registry_of(here, sealed(credentials, "changed", "c"), sealed(credentials, "removed", "r"))
    rotate(tmp_path)
    registry = Contested(here.nc, here.publisher, here.settings)
    await registry.load()
    assert await reseal(registry, credentials, TRIES) == Resealed(again=1)
    found = (await registry.get("acme", "changed")).server
    assert (found.maintenance, credentials.open(found)) == (True, {"X-Key": "c"})
    assert [one.server.id for one in registry.all()] == ["changed"]


async def test_several_at_once_seal_each_once(here: Site, tmp_path: Path) -> None:
    credentials = ServerCredentials(Sealer(tmp_path))
    registry = await registry_of(here, *(sealed(credentials, f"s{n}", "v") for n in range(10)))
    rotate(tmp_path)
    found = await asyncio.gather(*(reseal(registry, credentials, TRIES) for _ in range(3)))
    assert sum(one.again for one in found) == 10
    assert sum(one.already for one in found) == 20


async def test_one_that_always_changes_is_said_to_be_left(here: Site, tmp_path: Path) -> None:
    class Contested(Servers):
        async def get(self, tenant: str, server_id: str) -> Found:
            found = await super().get(tenant, server_id)
            await self.put(found.server, found.revision)
            return found

    credentials = ServerCredentials(Sealer(tmp_path))
    await registry_of(here, sealed(credentials, "s1", "v"))
    rotate(tmp_path)
    registry = Contested(here.nc, here.publisher, here.settings)
    await registry.load()
    with pytest.raises(UnavailableError, match="always faster"):
        await reseal(registry, credentials, 3)
