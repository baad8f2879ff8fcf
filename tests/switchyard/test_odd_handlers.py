"""Whatever a handler hands over, a worker over REST ends its attempt by name and goes on."""

from __future__ import annotations

from switchyard.client import AsyncClient
from switchyard.handlers import Handlers
from tests.gateway.rest import Gateway
from tests.handlers import odd
from tests.switchyard.test_worker import made, working


async def test_what_does_not_fit_is_a_failure_that_names_it(api: Gateway, client: AsyncClient) -> None:
    handlers = Handlers()
    handlers.kind(f"{api.tenant}-loop")(odd.on_the_loop)
    handlers.kind(f"{api.tenant}-thread")(odd.in_a_thread)
    jobs = [
        (name, await client.submit(handler.kind, {"case": name}, max_attempts=1))
        for handler in handlers
        for name in odd.CASES
    ]
    async with working(made(api, handlers=handlers, slots=4, lease_s=10.0)):
        for name, job in jobs:
            case, ended = odd.CASES[name], await client.wait(job.id)
            if case.code is None:
                assert ended.succeeded, (name, ended)
                continue
            assert ended.state == "dead", (name, ended)
            assert ended.error is not None, name
            assert (ended.error.code, ended.error.retryable) == (case.code, case.retryable), (
                name,
                ended.error,
            )
            assert case.says in ended.error.message, (name, ended.error.message[:300])
        last = await client.submit(f"{api.tenant}-loop", {"case": "fine"})
        assert await client.result(last.id) == {"fine": [None, [1, 2.5]]}
