"""How many slots of a server are taken: tokens that somebody holds, as the broker counts them."""

from __future__ import annotations

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.services.broker.bucket import Key
from switchyard.services.broker.jetstream import api
from switchyard.services.records.servers.naming import slots_consumer


async def taken_slots(nc: Client, key: Key, *, timeout_s: float) -> int | None:
    """The number for the server of a tenant and id; 0 before its first push, None when nobody can say."""
    consumer = slots_consumer(*key)
    try:
        info = await api(nc, f"CONSUMER.INFO.{subjects.TOKENS}.{consumer}", timeout_s=timeout_s)
    except UnavailableError:
        return None
    return 0 if "error" in info else int(info["num_ack_pending"])
