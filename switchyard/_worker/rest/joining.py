"""Parts of a job over REST: the plan that an attempt leaves, and the outcomes that the joining one reads."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import orjson

from switchyard._client.transport import Transport
from switchyard._worker.given.spawning import PLAN, Join
from switchyard._worker.given.surroundings import Facts
from switchyard._worker.rest.inputs import fetched
from switchyard.events.values import RESULT_ARTIFACT


class Save(Protocol):
    """Stores an artifact within the lease."""

    async def __call__(self, name: str, data: bytes, *, media_type: str) -> dict[str, Any]:
        """What is known of it."""


def facts_of(lease: Mapping[str, Any], job: Mapping[str, Any]) -> Facts:
    """What is known of an attempt from the answer to its claim; an older version says nothing of parts."""
    parts = job.get("parts")
    known = None if parts is None else tuple((one["name"], one["id"], one["kind"]) for one in parts)
    return Facts(
        job["id"], job["tenant"], lease["attempt"], lease["worker"], job["feedback"],
        known, job.get("depth", 0),
    )  # fmt: skip


async def planned(save: Save, join: Join, usage: dict[str, float]) -> tuple[str, dict[str, Any]]:
    """Store the plan; the call that ends the attempt in its parts.

    Raises:
        ClientError: it cannot be stored.
    """
    await save(PLAN, join.body(), media_type="application/json")
    return "part", {"policy": join.policy, "usage": usage}


async def part_outcome(
    transport: Transport, headers: Mapping[str, str], lease: str, tenant: str, part_id: str
) -> dict[str, Any]:
    """How a part ended; a large result is read from its file.

    Raises:
        ClientError: it cannot be read now.
    """
    answer = await transport.call("GET", f"/v1/leases/{lease}/parts/{part_id}", headers=dict(headers))
    found: dict[str, Any] = orjson.loads(answer)
    large = [one for one in found["artifacts"] if one["name"] == RESULT_ARTIFACT]
    if found["result"] is None and large:
        with tempfile.TemporaryDirectory(prefix="switchyard-") as directory:
            path = Path(directory) / RESULT_ARTIFACT
            await fetched(transport, tenant, large[0]["file"], path)
            found["result"] = orjson.loads(path.read_bytes())
    return found
