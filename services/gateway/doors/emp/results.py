"""Results as clients get them: whole, also where they are too large for an event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from switchyard.events.errors import NotFoundError
from switchyard.events.values import RESULT_ARTIFACT
from switchyard.services.files.named import artifacts_named
from switchyard.services.gateway.app_keys import TENANT_FILES
from switchyard.services.gateway.doors.emp.hub import Hub


async def whole(hub: Hub, tenant: str, result: Any, artifacts: Sequence[dict[str, Any]]) -> Any:
    """A job's result.

    Args:
        hub: knows the files.
        tenant: whose job it is.
        result: as its event has it.
        artifacts: the files that the job has left.

    Returns:
        It; where it stands in a file, that is read, unless it is larger than a message may be: then the file
        is named. Files beside it are named where there is no result.

    Raises:
        UnavailableError: the broker does not answer.
    """
    if result is not None or not artifacts:
        return result
    large = [artifact for artifact in artifacts if artifact["name"] == RESULT_ARTIFACT]
    if large and large[0]["size_bytes"] <= hub.settings.emp_message_bytes:
        files = hub.app[TENANT_FILES].files
        try:
            info = await files.info(tenant, large[0]["file"])
            return orjson.loads(b"".join([part async for part in files.read(info)]))
        except (NotFoundError, orjson.JSONDecodeError):
            pass  # it has expired; the artifacts say what it was
    return {"artifacts": list(await artifacts_named(hub.app[TENANT_FILES].files, tenant, artifacts))}


def as_object(result: Any) -> dict[str, Any] | None:
    """A result as the Python generation has it: an object, or nothing."""
    return result if result is None or isinstance(result, dict) else {"result": result}
