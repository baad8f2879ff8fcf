"""`/v1/disk`: what of the disk each stream, tenant and kind takes."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from switchyard.services.gateway.app_keys import NATS, READ_MODEL, SETTINGS
from switchyard.services.gateway.doors.v1.answers.billing import (
    DiskAnswer,
    KindDiskAnswer,
    StreamDisk,
    TenantDiskAnswer,
)
from switchyard.services.gateway.doors.v1.parts import OPERATE
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call, Route
from switchyard.services.gateway.operations.billing.disk import disk_use


async def disk(call: Call[None]) -> web.Response:
    """All of it."""
    timeout_s = call.part(SETTINGS).request_timeout_s
    found = await disk_use(call.part(NATS), call.part(READ_MODEL), timeout_s=timeout_s)
    return json_response(
        DiskAnswer(
            streams=[
                StreamDisk(
                    stream=one.stream, bytes=one.used_bytes,
                    limit_bytes=one.most_bytes if one.most_bytes > 0 else None,
                )
                for one in found.streams
            ],
            read_model_bytes=found.read_model_bytes,
            tenants=[TenantDiskAnswer(**one._asdict()) for one in found.tenants],
            kinds=[KindDiskAnswer(**one._asdict()) for one in found.kinds],
        )
    )  # fmt: skip


ROUTES: Final = (
    Route(
        method="GET", path="/v1/disk", handler=disk, summary="Read what takes how much of the disk",
        roles=OPERATE, answers={200: DiskAnswer},
    ),
)  # fmt: skip
