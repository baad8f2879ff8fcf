"""Results of servers for jobs that can be erased."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from switchyard.events.errors import InvalidError
from switchyard.events.vocabulary.ids import Fence, JobId
from switchyard.services.dispatch.push.report import Done, OutputFile
from switchyard.services.ids import new_id
from switchyard.services.pusher.results import Results
from tests.gateway.rest import Gateway

pytestmark = pytest.mark.shared_gateway

DAYS_S = 400 * 86400.0


async def test_they_are_kept_as_long_as_the_job_asks_under_ids_that_say_no_name(api: Gateway) -> None:
    results, job = Results(api.nc, api.settings), JobId(new_id())
    file = OutputFile("patient.png", "image/png", b"bytes")
    done = Done(result={"n": 1}, files=(file,), usage={"gpu_s": 1.0})
    result, artifacts = await results.kept(job, Fence(3), api.tenant, done, erasable=True, least_s=DAYS_S)
    assert (result, [one["name"] for one in artifacts]) == (None, ["patient.png", "result.json"])
    for one in artifacts:
        assert "patient" not in one["file"]
        info = await results.files.info(api.tenant, one["file"])
        assert info.lock is not None
        assert info.expires_at > datetime.now(UTC) + timedelta(seconds=DAYS_S - 3600)
    with pytest.raises(InvalidError, match="units are words"):
        await results.kept(job, Fence(3), api.tenant, Done(result=1, usage={"Ann B": 1}), erasable=True)
