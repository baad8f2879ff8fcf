"""A gateway with a task door, and tokens as its clients sign them."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt

from tests.broker.shared import SharedBroker
from tests.gateway.rest import Gateway, gateway

SECRET = "x" * 32
VIDEO: dict[str, Any] = {
    "mimeType": "application/json", "model": "test-model", "video_quality": "high",
    "video_url": "https://example.com/test.mp4", "enable_upscale": True,
}  # fmt: skip


def signed(*roles: str, secret: str = SECRET, sub: str | None = "ann", **claims: Any) -> str:
    """A token as clients of the task system sign one."""
    said = {"roles": list(roles), "exp": int(time.time()) + 600, "iat": int(time.time()), **claims}
    if sub is not None:
        said["sub"] = sub
    return jwt.encode({name: value for name, value in said.items() if value is not None}, secret, "HS256")


@contextlib.asynccontextmanager
async def door(broker: SharedBroker, data_dir: Path, **settings: Any) -> AsyncIterator[Gateway]:
    """A gateway whose door's tenant is that of its tests."""
    tenant = f"t-{secrets.token_hex(6)}"
    values = {"task_jwt_secret": SECRET, "task_tenant": tenant, **settings}
    async with gateway(broker.url, data_dir, **values) as running:
        running.tenant = tenant
        running.stranger = f"{tenant}-x"
        yield running
