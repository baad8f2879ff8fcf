"""`/v1/version` and `/v1/whoami`: what answers here, and whom it takes the caller for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Literal

from aiohttp import web

from switchyard.services import distribution
from switchyard.services.access.principal import Principal, Role
from switchyard.services.gateway.doors.v1.answers.base import Answer
from switchyard.services.gateway.http.callers import PRINCIPAL, json_response
from switchyard.services.gateway.http.routes import Call, Route

ANY: Final = (Role.VIEWER, Role.REGISTRAR, Role.OPERATOR)
"""One of them is what every role is or implies, also in another tenant."""
PRIVATE: Final = {"Cache-Control": "no-store"}
LAST: Final = datetime.max.replace(tzinfo=UTC).timestamp()


class VersionAnswer(Answer, frozen=True, kw_only=True):
    """What answers."""

    version: str


class WhoAnswer(Answer, frozen=True, kw_only=True):
    """Whom a token or key stands for.

    Args:
        actor: in the events that it causes.
        name: for people: the `sub` of a token, the name of a key.
        home: the tenant that it belongs to, where it acts for another one.
        identified_by: what it brought.
        key: the id of its API key.
        kinds: which its key may submit and claim; null for any.
        expires_at: until when it counts; null for ever.
    """

    tenant: str
    home: str
    actor: str
    name: str
    roles: Sequence[str]
    identified_by: Literal["token", "api_key", "scope_key"]
    key: str | None
    kinds: Sequence[str] | None
    expires_at: datetime | None


async def version(_: Call[None]) -> web.Response:
    """The version of the gateway."""
    return json_response(VersionAnswer(version=distribution.version()))


async def whoami(call: Call[None]) -> web.Response:
    """The caller, as the gateway has found out."""
    return json_response(who(call.request[PRINCIPAL]), headers=PRIVATE)


def who(principal: Principal) -> WhoAnswer:
    """A caller as an answer."""
    grant, end = principal.grant, principal.expires_at
    kinds = None if grant is None or grant.kinds is None else sorted(grant.kinds)
    return WhoAnswer(
        tenant=principal.tenant, home=principal.home or principal.tenant, actor=principal.actor,
        name=principal.subject, roles=sorted(principal.roles), identified_by=_by(principal),
        key=principal.key or None, kinds=kinds,
        expires_at=datetime.fromtimestamp(min(end, LAST), UTC) if math.isfinite(end) else None,
    )  # fmt: skip


def _by(principal: Principal) -> Literal["token", "api_key", "scope_key"]:
    if principal.grant is not None:
        return "api_key"
    return "token" if principal.token_id else "scope_key"


ROUTES: Final = (
    Route(
        method="GET", path="/v1/version", handler=version, summary="Say which version answers", roles=ANY,
        answers={200: VersionAnswer},
    ),
    Route(
        method="GET", path="/v1/whoami", handler=whoami, summary="Say whom a token or key stands for",
        roles=ANY, answers={200: WhoAnswer},
    ),
)  # fmt: skip
