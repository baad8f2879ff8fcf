"""A prediction server as its owner registers it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from switchyard.events import subjects
from switchyard.services.broker.bucket import Form, Gone, Key, json_values

ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}\Z"
ID: Final = re.compile(ID_PATTERN)
"""Ids of servers come from other systems too, so they may have more characters than other names."""
MAX_BYTES: Final = 64 * 1024
MAX_SLOTS: Final = 10_000
MAX_WEIGHT: Final = 1000

Profile = Literal["task", "cog", "openai", "json"]
"""How a server is spoken to."""


class Endpoints(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a server is called.

    Args:
        predict: takes jobs.
        health: answers checks; without one, heartbeats alone show that it lives.
        cancel: takes cancellations, where it knows them.
    """

    predict: str
    health: str | None = None
    cancel: str | None = None


class Sealed(msgspec.Struct, frozen=True):
    """Credentials that only whoever has the key can read.

    Args:
        key: names that key.
        data: nonce and ciphertext.
        headers: the names of the headers that they fill.
    """

    key: str
    data: bytes
    headers: tuple[str, ...]


class Server(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A prediction server.

    Args:
        tenant: whose it is, and whose jobs it gets.
        id: unlike any other of the tenant.
        generation: another one whenever what was found of it no longer counts: it was registered again,
            or is called elsewhere or otherwise.
        name: for people.
        endpoints: where it is called.
        profile: how it is spoken to.
        options: what the profile lets its owner choose, as it was asked for.
        kinds: what jobs it takes.
        capabilities: what jobs can require, as workers declare it.
        slots: jobs that it takes at once.
        labels: for people and programs; nothing is decided by them.
        weight: its share beside that of others, where several fit.
        credentials: what its requests carry; None for nothing.
        enabled: whether it is used and checked at all.
        maintenance: whether it gets no new jobs for now; it is checked on.
        created_at: when somebody registered it.
        created_by: the actor who did.
        updated_at: when it was last changed.
    """

    tenant: Annotated[str, Meta(pattern=subjects.NAME_PATTERN)]
    id: Annotated[str, Meta(pattern=ID_PATTERN)]
    generation: str
    name: str
    endpoints: Endpoints
    profile: Profile
    options: dict[str, Any] = {}
    kinds: tuple[str, ...]
    capabilities: dict[str, Any] = {}
    slots: Annotated[int, Meta(ge=1, le=MAX_SLOTS)] = 1
    labels: dict[str, str] = {}
    weight: Annotated[int, Meta(ge=1, le=MAX_WEIGHT)] = 1
    credentials: Sealed | None = None
    enabled: bool = True
    maintenance: bool = False
    created_at: datetime
    created_by: str
    updated_at: datetime

    @property
    def key(self) -> Key:
        """Where it stands."""
        return self.tenant, self.id


def is_key(key: Key) -> None:
    """Refuse what names no server.

    Raises:
        ValueError: it does not.
    """
    if not subjects.is_name(key[0]) or ID.fullmatch(key[1]) is None:
        raise ValueError("a tenant and the id of a server were expected")


def _belongs(key: Key, server: Server) -> None:
    if key != server.key:
        raise ValueError("it stands in another place than its own")


SERVERS: Final = Form(
    name=subjects.BUCKET_SERVERS, parts=("tenant", "id"), values=json_values(Server), check=is_key,
    belongs=_belongs, gone=Gone("PURGE", rolls_up=True, ttl_s=3600), max_bytes=MAX_BYTES,
)  # fmt: skip
