"""Pushers whose hosts have another time: servers stay well, and each task runs once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from switchyard.events.events import Succeeded
from tests.gateway.push.task_server import TaskServer, at_once, later
from tests.ports import free_port
from tests.system.shifted import ShiftedDeployment
from tests.system.test_push import Size, all_ended, checked_log, register, submitted, until_online

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

SIZE = Size(30, 5, 0, 0.1)


@pytest.mark.parametrize("shift_s", [60, 3600])
async def test_a_clock_that_is_off_holds_no_task_or_server_back(tmp_path: Path, shift_s: int) -> None:
    """One pusher is ahead and the other behind, from the start and then the other way round."""
    servers = [TaskServer("sync", at_once, works_s=0.1), TaskServer("async", later, works_s=0.3)]
    async with ShiftedDeployment(tmp_path) as site:
        site.more = {
            "SWITCHYARD_SERVER_NETWORKS": "127.0.0.0/8", "SWITCHYARD_PORT": str(port := free_port()),
            "SWITCHYARD_TIMED_LEASE_S": "5",
        }  # fmt: skip
        site.shift("pusher0", shift_s)
        site.shift("pusher1", -shift_s)
        await site.start("projector", "projector")
        await site.start_gateway(port=port)
        await site.start("keeper", "keeper")
        for name in ("pusher0", "pusher1"):
            await site.start(name, "pusher")
        async with servers[0], servers[1]:
            for server in servers:
                await register(site, server, slots=2)
            await until_online(site, *servers)
            jobs = await submitted(site, SIZE)
            await all_ended(site, jobs)
            site.shift("pusher0", -shift_s)
            site.shift("pusher1", shift_s)
            more = await submitted(site, SIZE)
            await all_ended(site, more)
            for server in servers:
                _, found = await site.request("GET", f"/v1/servers/{server.name}")
                assert (found["state"], found["stale"], found["takes_jobs"]) == ("online", False, True)
            entries = await checked_log(site)
        for name in ("pusher0", "pusher1"):
            assert "host_clock_off" in site.parts[name].log.read_text()
    ends: Counter[str] = Counter(entry.job_id for entry in entries if isinstance(entry.event, Succeeded))
    assert ends == Counter(dict.fromkeys([*jobs, *more], 1))
    assert {entry.name for entry in entries} == {"submitted", "claimed", "claim_renewed", "succeeded"}
