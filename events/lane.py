"""Which queue a job waits in, and which workers may take from it."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import LaneId

MAX_KIND_IN_LANE: Final = 50
HASH_CHARS: Final = 12
NONE: Final = "none"
LOOSE: Final = "loose"
STRICT: Final = "strict"


class LaneKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """What all jobs of a lane have in common.

    Args:
        kind: the jobs' kind.
        requires: canonical requirement, in the language of `switchyard.events.requirements.matching`.
        prefers: canonical preference.
        isolation: `none`, `loose:<tenant>` or `strict:<tenant>`.
        limits: `<tenant>.<name>` of each limit of which a start needs a token.
        tenant: whose jobs they are, where the kind shares its workers fairly between tenants.
    """

    kind: str
    requires: dict[str, Any] = {}
    prefers: dict[str, Any] = {}
    isolation: str = NONE
    limits: tuple[str, ...] = ()
    tenant: str = ""


class LaneEntry(LaneKey, frozen=True, omit_defaults=True):
    """A lane as it stands in the bucket `lanes`.

    Args:
        closing: it has been empty for long and is about to be removed; whoever needs it opens it again.
        opened_by: the tenant that it counts for; "" for none, as in entries from before that was noted.
    """

    closing: bool = False
    opened_by: str = ""


def lane_id(key: LaneKey) -> LaneId:
    """The lane's name: its kind and a short hash of all of its key.

    The hash is short because it stands in every subject; whoever creates a lane compares the whole key.
    """
    canonical = msgspec.json.encode(key, order="deterministic")
    digest = hashlib.sha256(canonical).hexdigest()[:HASH_CHARS]
    return LaneId(f"{key.kind[:MAX_KIND_IN_LANE]}-{digest}")


def isolated(isolation: str, tenant: str) -> str:
    """The isolation of a lane of this tenant's jobs."""
    return NONE if isolation == NONE else f"{isolation}:{tenant}"


def keys_of(spec: JobSpec) -> tuple[LaneKey, ...]:
    """What the lanes that a job may wait in are made of: its first one, then the one it is moved to.

    A loosely isolated job waits for its tenant's own workers first, and then for any.
    """
    level, _, owner = spec.isolation.partition(":")
    tenant = spec.tenant if spec.fair_share else ""
    first = isolated(STRICT, owner) if level == LOOSE else spec.isolation
    key = LaneKey(spec.kind, spec.requires, spec.prefers, first, spec.limits, tenant)
    return (key, msgspec.structs.replace(key, isolation=spec.isolation)) if level == LOOSE else (key,)


def admits(isolation: str, dedicated_to: str | None) -> bool:
    """Whether a worker may take from a lane of this isolation, by whom it is dedicated to.

    A dedicated worker runs its tenant's jobs only, so it stays out of lanes that all tenants share.
    """
    level, _, tenant = isolation.partition(":")
    if dedicated_to is None:
        return level != STRICT
    return level != NONE and tenant == dedicated_to
