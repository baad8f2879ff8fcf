"""One client, written from the wire alone, goes the same way at the real server and at ours."""

from __future__ import annotations

import os
from pathlib import Path

import aiohttp
import pytest

from switchyard.services.broker.server.server import NatsServer
from tests.gateway.ilios.batch_walk import walk_batches
from tests.gateway.ilios.client import Ilios
from tests.gateway.ilios.recorded import DATA, playback
from tests.gateway.ilios.site import House
from tests.gateway.ilios.test_batches import batch_house
from tests.gateway.ilios.walk import walk


async def test_the_client_finds_its_way_at_what_the_real_server_has_answered() -> None:
    async with playback() as url, aiohttp.ClientSession() as http:
        await walk(Ilios(http, url, "team-alpha-key-0001"), DATA)
    async with playback("batches") as url, aiohttp.ClientSession() as http:
        await walk_batches(Ilios(http, url, "team-alpha-key-0001"), DATA, b"broken")


async def test_the_client_finds_its_way_here(here: House) -> None:
    await walk(here.client(), b"one page")


async def test_a_batch_goes_the_same_way_here(broker: NatsServer, tmp_path: Path) -> None:
    async with batch_house(broker, tmp_path) as here:
        await walk_batches(here.client(), b"one page", b"broken")


@pytest.mark.skipif("ILIOS_URL" not in os.environ, reason="ILIOS_URL and ILIOS_KEY name a real one")
async def test_the_client_finds_its_way_at_a_real_server() -> None:
    async with aiohttp.ClientSession() as http:
        client = Ilios(http, os.environ["ILIOS_URL"], os.environ.get("ILIOS_KEY"))
        await walk(client, DATA)
        await walk_batches(client, DATA, b"broken")
