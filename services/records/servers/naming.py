"""What prediction servers are called elsewhere: as workers in leases, as back ends, and by their slots."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from switchyard.events import subjects
from switchyard.events.values import Backend
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.services.broker.bucket import Key
from switchyard.services.records.servers.record import ID

PREFIX: Final = "server."
BACKEND_KIND: Final = "server"
SLOT: Final = "slot"
"""The sort of the tokens that stand for the slots of servers."""
_DOT: Final = "%2E"
"""Stands for a dot in the id of a server, which `%` itself cannot stand in."""
DIGEST_CHARS: Final = 24
_DIGEST: Final = re.compile(rf"[0-9a-f]{{{DIGEST_CHARS}}}")
_SLOTS: Final = re.compile(rf"{SLOT}_([0-9]{{1,3}})_(.+)")


def worker_of(tenant: str, server_id: str) -> WorkerId:
    """The worker in whose name a server has an attempt: `server.<tenant>.<id>`, dots of the id as `%2E`."""
    return WorkerId(f"{PREFIX}{tenant}.{server_id.replace('.', _DOT)}")


def server_of(worker: str) -> Key | None:
    """Tenant and id of the server that a worker's name stands for; None where it is no server's."""
    words = worker.split(".")
    if len(words) != 3 or f"{words[0]}." != PREFIX:
        return None
    tenant, server_id = words[1], words[2].replace(_DOT, ".")
    if not subjects.is_name(tenant) or ID.fullmatch(server_id) is None:
        return None
    return tenant, server_id


def is_server(worker: str) -> bool:
    """Whether a worker is a prediction server."""
    return server_of(worker) is not None


def backend_of(tenant: str, server_id: str) -> Backend:
    """The back end that carries on what was pushed to a server."""
    return Backend(BACKEND_KIND, f"{tenant}.{_digest(server_id)}")


def slots_key(tenant: str, server_id: str) -> str:
    """What stands for a server in the names of the tokens of its slots."""
    return f"{tenant}.{_digest(server_id)}"


def slots_consumer(tenant: str, server_id: str) -> str:
    """The durable consumer of those tokens."""
    return subjects.token_consumer(SLOT, slots_key(tenant, server_id))


def slots_of(consumer: str) -> str | None:
    """What `slots_key` says of the server whose slots a consumer gives out; None where it is no such one."""
    found = _SLOTS.fullmatch(consumer)
    if found is None:
        return None
    size, rest = int(found[1]), found[2]
    tenant, digest = rest[:size], rest[size + 1 :]
    key = f"{tenant}.{digest}"
    is_one = subjects.is_name(tenant) and subjects.token_consumer(SLOT, key) == consumer
    return key if is_one and _DIGEST.fullmatch(digest) else None


def _digest(server_id: str) -> str:
    """Ids may have characters and lengths that the names of the broker may not."""
    return hashlib.sha256(server_id.encode()).hexdigest()[:DIGEST_CHARS]
