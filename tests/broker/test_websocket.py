"""WebSocket connections to the embedded broker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from switchyard.services.broker.connection import connect
from switchyard.services.broker.server.files import BrokerError
from switchyard.services.broker.server.server import start_broker
from switchyard.services.broker.server.websocket import websocket_of
from tests.ports import free_port
from tests.site import DEADLINE_S


@pytest.mark.filterwarnings("ignore:parameter 'timeout' of type 'float':DeprecationWarning")  # of nats-py
async def test_a_client_speaks_with_the_broker_through_a_websocket_and_comes_again(tmp_path: Path) -> None:
    port = free_port()
    listener = websocket_of(f"127.0.0.1:{port}", None, None)
    server = await start_broker(tmp_path, websocket=listener)
    try:
        url = server.url.replace("nats://", "ws://").rpartition(":")[0] + f":{port}"
        nc = await connect(url, name="far", timeout_s=DEADLINE_S)
        again = asyncio.Event()
        nc.reconnect_callbacks.append(again.set)  # type: ignore[attr-defined]
        try:
            subscription = await nc.subscribe("a")
            await nc.publish("a", b"x" * 500_000, headers={"n": "1"})
            message = await subscription.next_msg(DEADLINE_S)
            assert (len(message.data), message.headers) == (500_000, {"n": "1"})
            await server.restart()
            async with asyncio.timeout(DEADLINE_S):
                await again.wait()
            await nc.publish("a", b"again")
            assert (await subscription.next_msg(DEADLINE_S)).data == b"again"
        finally:
            await nc.close()
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("listen", "certificate", "key"),
    [
        ("0.0.0.0:8443", None, None),
        ("[::]:8443", None, None),
        ("127.0.0.1", None, None),
        ("host:8443", None, None),
        ("127.0.0.1:0", None, None),
        ("127.0.0.1:99999", None, None),
        ('127.0.0.1:1" }', None, None),
        ("127.0.0.1:1", None, Path("key")),
        (None, Path("cert"), None),
    ],
)
def test_a_listener_that_others_could_read_or_that_is_none_is_refused(
    listen: str | None, certificate: Path | None, key: Path | None
) -> None:
    with pytest.raises(BrokerError, match="WEBSOCKET"):
        websocket_of(listen, certificate, key)


def test_a_listener_with_a_certificate_may_be_open() -> None:
    found = websocket_of("[::]:8443", Path("/c.pem"), Path("/k.pem"))
    assert found is not None
    assert found.config() == (
        'websocket { host: "::", port: 8443, tls { cert_file: "/c.pem", key_file: "/k.pem" } }\n'
    )
