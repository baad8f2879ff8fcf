"""Peers that come while the read model is behind the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.broker.shared import SharedBroker
from tests.gateway.emp.site import door, line
from tests.gateway.emp.test_clients import lease, report, submit
from tests.projector.gate import Gate


async def test_a_client_hears_of_an_end_that_the_read_model_does_not_have_yet(
    shared_broker: SharedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    async with door(shared_broker, tmp_path) as api:
        async with line(api, "/ws/client/one") as peer:
            await submit(peer, api.tenant, message_id="m")
            await submit(peer, api.tenant, message_id="n")
            held = await lease(api)
        tenant = api.tenant
    gate.close()
    async with door(shared_broker, tmp_path, emp_tenant=tenant) as api:  # which hears of no end
        await report(api, held, "succeed", {"result": {"x": 1}})
    async with (
        door(shared_broker, tmp_path, emp_tenant=tenant) as api,
        line(api, "/ws/client/one") as peer,
        line(api, "/ws/monitor/m") as monitor,
    ):
        assert (await peer.ask("stay_alive", "response_job_status"))["status"] == "acknowledged"
        await monitor.send("request_full_state")
        assert "complete_job" not in {one["type"] for one in peer.seen}
        gate.open()
        assert (await peer.until("complete_job"))["job_id"] == "m"
        state = (await monitor.until("full_state_snapshot"))["data"]
        assert [job["id"] for job in state["jobs"]["completed"]] == ["m"]
        await report(api, await lease(api), "succeed", {"result": {"x": 2}})
        assert (await peer.until("complete_job"))["job_id"] == "n"
        assert [one["type"] for one in peer.seen].count("complete_job") == 2
