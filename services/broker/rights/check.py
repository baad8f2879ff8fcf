"""What a part lacks, asked of the broker at its start: later it would wait for answers that never come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import nats.errors
import orjson
import structlog
from nats.aio.client import Client

from switchyard.events.errors import ForbiddenError
from switchyard.services.broker.connection import credentials_of
from switchyard.services.broker.rights.grants import WHO, covers
from switchyard.services.broker.rights.table import Part, rights_of

log = structlog.get_logger()

NAMED: Final = 5
ANSWER_S: Final = 5.0


async def check(nc: Client, part: Part, *, timeout_s: float = ANSWER_S) -> None:
    """See whether the user of a connection may do all that a part does.

    Raises:
        ForbiddenError: it may not; the message names what it lacks, and what to do.
    """
    lacks = await lacking(nc, part, timeout_s=timeout_s)
    if not lacks:
        return
    more = f" and {len(lacks) - NAMED} more" if len(lacks) > NAMED else ""
    raise ForbiddenError(
        f"the broker's user of this {part} may not {', '.join(lacks[:NAMED])}{more}: is it the file of "
        "another part? If not, write the broker's file again with `switchyard nats-config`, and have the "
        "broker read it (nats-server --signal reload)"
    )


async def lacking(nc: Client, part: Part, *, timeout_s: float = ANSWER_S) -> list[str]:
    """What the user of a connection may not do of what a part does; nothing where the broker does not say."""
    try:
        answer = await nc.request(WHO, b"", timeout=timeout_s)
        said = orjson.loads(answer.data)["data"]
    except (nats.errors.Error, TimeoutError, orjson.JSONDecodeError, LookupError) as error:
        if credentials_of(nc) is not None:
            log.warning("rights_unknown", part=part, error=str(error) or type(error).__name__)
        return []
    permissions = said.get("permissions") or {}
    rights = rights_of(part)
    wanted = (("publish", rights.publish), ("subscribe", rights.subscribe))
    return [
        f"{what} to {right.subject}" if what == "subscribe" else f"publish to {right.subject}"
        for what, some in wanted
        for right in some
        if not _may(permissions.get(what), right.subject)
    ]


def _may(permission: Mapping[str, Any] | None, subject: str) -> bool:
    """Whether all of a subject is allowed. Without a list, everything is that is not denied."""
    if not permission:
        return True
    allowed, denied = permission.get("allow") or [], permission.get("deny") or []
    if any(covers(one, subject) for one in denied):
        return False
    return not allowed or any(covers(one, subject) for one in allowed)
