"""Makes and uses API keys at a gateway of the tests."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from tests.gateway.rest import DEADLINE_S, Answer, Gateway


class Made(NamedTuple):
    """A new key: what the API says of it, and its secret."""

    view: dict[str, Any]
    secret: str

    @property
    def id(self) -> str:
        return str(self.view["id"])


async def make(api: Gateway, *roles: str, by: str | None = None, **fields: Any) -> Made:
    """A key of the gateway's tenant, made by its admin unless `by` is somebody else's token or key."""
    body = {"name": "ci", "roles": roles or ("submitter",), **fields}
    answer = await api.call("POST", "/v1/keys", body, token=by or api.token("admin"))
    assert answer.status == 201, answer
    view = answer.json
    return Made(view, view.pop("key"))


async def refusal(api: Gateway, body: Any, *, by: str, path: str = "/v1/keys") -> tuple[int, str]:
    """How making a key is refused: status and code."""
    answer = await api.call("POST", path, body, token=by)
    assert answer.status >= 400, answer
    return answer.status, answer.json["code"]


async def until_refused(api: Gateway, secret: str) -> Answer:
    """The first answer that is no 200."""
    async with asyncio.timeout(DEADLINE_S):
        while (answer := await api.get("/v1/jobs", token=secret)).status == 200:
            pass
    return answer
