"""`/v1/keys`: the API keys of a tenant."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.errors import ForbiddenError, InvalidError
from switchyard.events.subjects import NAME_PATTERN
from switchyard.projections.job_view import time_view
from switchyard.services import clock
from switchyard.services.access.api_keys import check_foreign, check_may_grant
from switchyard.services.access.principal import Role
from switchyard.services.access.rates import burst_of
from switchyard.services.gateway.app_keys import API_KEYS, SETTINGS
from switchyard.services.gateway.http.callers import body_of, json_response, require
from switchyard.services.gateway.http.query import Query, wide_scope
from switchyard.services.records.keys import PREFIX, KeyRecord

MOST_S: Final = 100 * 366 * 86400.0
OVERLAP_S: Final = 3600.0
MOST_OVERLAP_S: Final = 30 * 86400.0
PRIVATE: Final = {"Cache-Control": "no-store"}

_Number = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class RateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often a key may be used."""

    per_minute: _Number
    burst: _Number | None = None


class SpendRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much a key may be used for."""

    jobs_per_day: _Number


class KeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a POST."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    roles: Annotated[tuple[Role, ...], Meta(min_length=1, max_length=len(Role))]
    kinds: (
        Annotated[tuple[Annotated[str, Meta(pattern=NAME_PATTERN)], ...], Meta(min_length=1, max_length=100)]
        | None
    ) = None
    expires_at: datetime | None = None
    expires_s: Annotated[float, Meta(gt=0, le=MOST_S)] | None = None
    rate: RateRequest | None = None
    spend: SpendRequest | None = None
    key: str | None = None


class RotateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a rotation, which may be empty."""

    overlap_s: Annotated[float, Meta(ge=0, le=MOST_OVERLAP_S)] = OVERLAP_S


_REQUEST: Final = msgspec.json.Decoder(KeyRequest)
_ROTATE: Final = msgspec.json.Decoder(RotateRequest)


async def create(request: web.Request) -> web.Response:
    """`POST /v1/keys`: a new key, whose secret is shown this once."""
    principal = require(request, Role.TENANT_ADMIN)
    Query(request)
    asked = await body_of(request, _REQUEST)
    expires_at = _expires_at(asked)
    check_may_grant(principal, asked.roles, expires_at)
    if asked.key is not None:
        if not principal.is_admin:
            raise ForbiddenError("key: another system's key is taken from role admin alone", field="key")
        check_foreign(asked.key, short_allowed=request.app[SETTINGS].short_keys)
    if not asked.name.isprintable():
        raise InvalidError("name: printable characters were expected", field="name")
    rate, spend = asked.rate, asked.spend
    record = KeyRecord(
        id="", tenant=principal.tenant, name=asked.name, roles=tuple(sorted({*asked.roles})), secrets=(),
        created_at=clock.now(), created_by=principal.actor, expires_at=expires_at,
        kinds=None if asked.kinds is None else tuple(sorted({*asked.kinds})),
        per_minute=None if rate is None else rate.per_minute,
        burst=0 if rate is None else min(rate.burst or burst_of(rate.per_minute), rate.per_minute),
        jobs_per_day=None if spend is None else spend.jobs_per_day,
    )  # fmt: skip
    made, secret = await request.app[API_KEYS].create(record, asked.key)
    headers = {**PRIVATE, "Location": f"/v1/keys/{made.id}"}
    return json_response(_view(request, made) | {"key": secret}, status=201, headers=headers)


async def list_keys(request: web.Request) -> web.Response:
    """`GET /v1/keys`: the keys of a tenant, the oldest first."""
    require(request, Role.TENANT_ADMIN)
    tenant = wide_scope(request, Query(request, "tenant"))
    keys = request.app[API_KEYS].of(tenant)
    return json_response({"keys": [_view(request, record) for record in keys]})


async def get(request: web.Request) -> web.Response:
    """`GET /v1/keys/{id}`: one key."""
    return json_response(_view(request, await _found(request)))


async def rotate(request: web.Request) -> web.Response:
    """`POST /v1/keys/{id}/rotate`: another secret; the one before counts for a while longer."""
    record = await _found(request)
    asked = await body_of(request, _ROTATE, empty=b"{}")
    check_may_grant(require(request, Role.TENANT_ADMIN), record.roles, record.expires_at)
    made, secret = await request.app[API_KEYS].rotate(record.tenant, record.id, asked.overlap_s)
    return json_response(_view(request, made) | {"key": secret}, headers=PRIVATE)


async def revoke(request: web.Request) -> web.Response:
    """`DELETE /v1/keys/{id}`: the key opens nothing any more."""
    record = await _found(request)
    check_may_grant(require(request, Role.TENANT_ADMIN), record.roles, record.expires_at)
    await request.app[API_KEYS].revoke(record.tenant, record.id)
    return web.Response(status=204)


async def _found(request: web.Request) -> KeyRecord:
    """The key that the route names, of the tenant that the caller acts for.

    Raises:
        NotFoundError: there is none.
    """
    require(request, Role.TENANT_ADMIN)
    tenant = wide_scope(request, Query(request, "tenant"))
    return await request.app[API_KEYS].get(tenant, request.match_info["id"])


def _expires_at(asked: KeyRequest) -> datetime | None:
    now = clock.now()
    if asked.expires_s is not None:
        if asked.expires_at is not None:
            raise InvalidError("expires_s: not together with expires_at", field="expires_s")
        return now + timedelta(seconds=asked.expires_s)
    at = asked.expires_at
    if at is None:
        return None
    if at.tzinfo is None:
        raise InvalidError("expires_at: a time with its zone was expected", field="expires_at")
    if not now < at < now + timedelta(seconds=MOST_S):
        raise InvalidError("expires_at: a time ahead was expected, within 100 years", field="expires_at")
    return at.astimezone(now.tzinfo)


def _view(request: web.Request, record: KeyRecord) -> dict[str, Any]:
    rate = None if record.per_minute is None else {"per_minute": record.per_minute, "burst": record.burst}
    now = clock.now()
    return {
        "id": record.id,
        "tenant": record.tenant,
        "name": record.name,
        "prefix": None if record.foreign and record.rotated_at is None else f"{PREFIX}{record.id}",
        "roles": record.roles,
        "kinds": record.kinds,
        "rate": rate,
        "spend": record.jobs_per_day and {"jobs_per_day": record.jobs_per_day},
        "created_at": time_view(record.created_at),
        "created_by": record.created_by,
        "expires_at": time_view(record.expires_at),
        "expired": record.expires_at is not None and record.expires_at <= now,
        "rotated_at": time_view(record.rotated_at),
        "earlier_until": [
            time_view(secret.until)
            for secret in record.secrets
            if secret.until is not None and secret.until > now
        ],
        "last_used_at": time_view(request.app[API_KEYS].last_used(record.id)),
    }


def add_routes(router: web.UrlDispatcher) -> None:
    """Connect the routes; `docs/api.md` describes each."""
    router.add_post("/v1/keys", create)
    router.add_get("/v1/keys", list_keys)
    router.add_get("/v1/keys/{id}", get)
    router.add_post("/v1/keys/{id}/rotate", rotate)
    router.add_delete("/v1/keys/{id}", revoke)
