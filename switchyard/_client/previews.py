"""Previews: the last of a job, and those of a live stream."""

from __future__ import annotations

import msgspec

from switchyard._client.transport import LOST, Transport
from switchyard.errors import ApiError, NotFoundError
from switchyard.events.encoding.preview import Preview, parts_of
from switchyard.models import PreviewShown


async def last(transport: Transport, path: str) -> Preview | None:
    """The last preview of a job; None where there is none.

    Raises:
        ApiError: the gateway refuses.
        UnreachableError: it does not answer.
    """
    pauses = transport.pauses()
    while True:
        try:
            async with transport.open("GET", path) as answer:
                return Preview(await answer.read(), answer.content_type)
        except (ApiError, *LOST) as error:
            if isinstance(error, NotFoundError) and error.code == "no_preview":
                return None
            if not pauses.another(error):
                if isinstance(error, ApiError):
                    raise
                raise transport.unreachable(error) from error
            failed: Exception = error
        await pauses.wait(failed)


class _Header(msgspec.Struct):
    job_id: str
    attempt: int
    at: str
    media_type: str


def shown(frame: bytes) -> PreviewShown | None:
    """The preview in a binary frame; None for a frame of a later gateway."""
    try:
        header, data = parts_of(frame)
        said = msgspec.json.decode(header, type=_Header)
        return msgspec.convert({**msgspec.structs.asdict(said), "data": data}, PreviewShown)
    except (ValueError, msgspec.MsgspecError):
        return None
