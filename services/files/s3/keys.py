"""The keys of objects: each says which upload it is of, and of which file."""

from __future__ import annotations

import uuid
from typing import Final, NamedTuple

from switchyard.events import subjects

BETWEEN: Final = "~"  # in no id, and spelled alike in every URL
PARTS: Final = 3
UUID_VERSION: Final = 7


class Owned(NamedTuple):
    """What a key says."""

    nuid: str
    owner: str


def key_of(root: str, nuid: str, owner: str) -> str:
    """The key of an upload's object; they are listed in the order in which uploads began."""
    tenant, file_id = subjects.parse_file_name(owner)
    return f"{root}{nuid}{BETWEEN}{tenant}{BETWEEN}{file_id}"


def parse(root: str, key: str) -> Owned | None:
    """What a key says; None for what is not one of ours."""
    if not key.startswith(root):
        return None
    parts = key.removeprefix(root).split(BETWEEN)
    if len(parts) != PARTS or began_at(parts[0]) is None:
        return None
    nuid, tenant, file_id = parts
    return Owned(nuid, subjects.file_name(tenant, file_id))


def began_at(nuid: str) -> float | None:
    """When an upload began, in seconds since 1970; None for what is no UUID of ours."""
    try:
        value = uuid.UUID(nuid)
    except ValueError:
        return None
    return (value.int >> 80) / 1000 if value.version == UUID_VERSION else None
