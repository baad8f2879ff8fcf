"""A task is sent once, however the connection ends."""

from __future__ import annotations

import pytest

from switchyard.services.outbound.addresses import PRIVATE, AddressPolicy
from switchyard.services.outbound.client import client
from switchyard.services.pusher.calling import Answer, Request, Unknown, push
from tests.pusher import servers
from tests.pusher.servers import Answering


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_task_is_not_sent_again_where_the_connection_was_closed(method: str) -> None:
    """The client would repeat a PUT, which is idempotent to it, and a server may have run it by then."""

    async def judged(_: object) -> Answer:
        raise AssertionError("unreachable")

    async with (
        Answering(servers.slam) as server,
        client(AddressPolicy(PRIVATE), connections=4, connect_s=30, total_s=30) as session,
    ):
        request = Request(method, server.url, {}, b'{"n": 1}')
        answer = await push(session, request, judged, connect_s=30, total_s=30, most_bytes=1000)
        assert isinstance(answer, Unknown)
        assert len(server.asked) == 1
