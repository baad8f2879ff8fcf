"""Keys of parts at brokers that are reached with TLS, by a WebSocket, and at three that stand in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import pytest

from switchyard.services.broker.rights.table import PARTS
from tests.broker.rights.site import Site, started
from tests.broker.rights.test_command import run
from tests.broker.rights.test_deployment import everything_works
from tests.broker.rights.tries import not_for, refused
from tests.broker.rights.ways import Cluster, Secure
from tests.switchyard.test_vigil_child import certificate

pytestmark = [pytest.mark.system, pytest.mark.drill, pytest.mark.timeout(900)]

WORKER = "w1"


@pytest.mark.parametrize("way", ["tls", "wss"])
@pytest.mark.filterwarnings("ignore:parameter 'timeout' of type 'float':DeprecationWarning")  # of nats-py
async def test_keys_hold_where_parts_come_with_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Literal["tls", "wss"]
) -> None:
    trusted = await asyncio.to_thread(certificate, tmp_path / "own.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    (tmp_path / "broker").mkdir()
    async with started(Secure(tmp_path / "broker", way, trusted), WORKER, "w2") as site:
        assert site.url.startswith(f"{way}://")
        await everything_works(tmp_path / "site", site)
        await all_else_is_refused(site)
        await each_key_is_well(site)


async def test_keys_hold_at_each_of_three_brokers(tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    async with started(Cluster(tmp_path / "broker"), WORKER, "w2") as cluster:
        await everything_works(tmp_path / "site", cluster, replicas=3)
        for node in cluster.nodes:
            await all_else_is_refused(node)
            await each_key_is_well(node)


async def all_else_is_refused(site: Site) -> None:
    for part in PARTS:
        worker = WORKER if part == "worker" else ""
        foreign, unheard = not_for(site, part, worker)
        published, subscribed = await refused(site, site.key(part, worker), foreign, unheard)
        assert (published, subscribed) == (set(foreign), set(unheard)), part


async def each_key_is_well(site: Site) -> None:
    result = await asyncio.to_thread(run, site.users, "--check", "--nats", site.url)
    assert result.exit_code == 0, result.output
    assert result.output.count("may do all that it must") == len(PARTS) + 1, result.output
