"""Which queue a job waits in."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

MAX_KIND_IN_LANE = 50
HASH_CHARS = 12


class LaneKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """What all jobs of a lane have in common.

    Args:
        kind: the jobs' kind.
        requires: canonical requirement, in the language of the matching rules.
        prefers: canonical preference.
        isolation: `none`, `loose:<tenant>` or `strict:<tenant>`.
    """

    kind: str
    requires: dict[str, Any] = {}
    prefers: dict[str, Any] = {}
    isolation: str = "none"


def lane_id(key: LaneKey) -> str:
    """The lane's name: its kind and a short hash of all of its key.

    The hash is short because it stands in every subject; whoever creates a lane compares the whole key.
    """
    canonical = msgspec.json.encode(key, order="deterministic")
    digest = hashlib.sha256(canonical).hexdigest()[:HASH_CHARS]
    return f"{key.kind[:MAX_KIND_IN_LANE]}-{digest}"
