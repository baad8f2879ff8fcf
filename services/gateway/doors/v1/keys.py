"""`/v1/keys`: the API keys of a tenant."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from switchyard.events.errors import ForbiddenError, InvalidError
from switchyard.events.subjects import NAME_PATTERN
from switchyard.services import clock
from switchyard.services.access.api_keys import check_foreign, check_may_grant
from switchyard.services.access.principal import Role
from switchyard.services.access.rates import burst_of
from switchyard.services.gateway.app_keys import API_KEYS, SETTINGS
from switchyard.services.gateway.doors.v1.answers.keys import KeyAnswer, KeysAnswer, key_answer
from switchyard.services.gateway.doors.v1.parts import EMPTY, KEYS, NO_SUCH, TENANT
from switchyard.services.gateway.http.callers import PRINCIPAL, json_response
from switchyard.services.gateway.http.query import wide_scope
from switchyard.services.gateway.http.routes import Call, Route
from switchyard.services.records.keys import KeyRecord

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


async def create(call: Call[KeyRequest]) -> web.Response:
    """A new key, whose secret is shown this once."""
    caller, asked = call.caller, call.body
    expires_at = _expires_at(asked)
    check_may_grant(call.request[PRINCIPAL], asked.roles, expires_at)
    if asked.key is not None:
        if not caller.is_admin:
            raise ForbiddenError("key: another system's key is taken from role admin alone", field="key")
        check_foreign(asked.key, short_allowed=call.part(SETTINGS).short_keys)
    if not asked.name.isprintable():
        raise InvalidError("name: printable characters were expected", field="name")
    rate, spend = asked.rate, asked.spend
    record = KeyRecord(
        id="", tenant=caller.tenant, name=asked.name, roles=tuple(sorted({*asked.roles})), secrets=(),
        created_at=clock.now(), created_by=caller.actor, expires_at=expires_at,
        kinds=None if asked.kinds is None else tuple(sorted({*asked.kinds})),
        per_minute=None if rate is None else rate.per_minute,
        burst=0 if rate is None else min(rate.burst or burst_of(rate.per_minute), rate.per_minute),
        jobs_per_day=None if spend is None else spend.jobs_per_day,
    )  # fmt: skip
    made, secret = await call.part(API_KEYS).create(record, asked.key)
    headers = {**PRIVATE, "Location": f"/v1/keys/{made.id}"}
    return json_response(_answer(call, made, secret), status=201, headers=headers)


async def list_keys(call: Call[None]) -> web.Response:
    """The keys of a tenant, the oldest first."""
    keys = call.part(API_KEYS).of(wide_scope(call.caller, call.query))
    return json_response(KeysAnswer(keys=[_answer(call, record) for record in keys]))


async def get(call: Call[None]) -> web.Response:
    """One key."""
    return json_response(_answer(call, await _found(call)))


async def rotate(call: Call[RotateRequest]) -> web.Response:
    """Another secret; the one before counts for a while longer."""
    record = await _found(call)
    check_may_grant(call.request[PRINCIPAL], record.roles, record.expires_at)
    made, secret = await call.part(API_KEYS).rotate(record.tenant, record.id, call.body.overlap_s)
    return json_response(_answer(call, made, secret), headers=PRIVATE)


async def revoke(call: Call[None]) -> web.Response:
    """The key opens nothing any more."""
    record = await _found(call)
    check_may_grant(call.request[PRINCIPAL], record.roles, record.expires_at)
    await call.part(API_KEYS).revoke(record.tenant, record.id)
    return web.Response(status=204)


async def _found(call: Call[Any]) -> KeyRecord:
    """The key that the route names, of the tenant that the caller acts for.

    Raises:
        NotFoundError: there is none.
    """
    return await call.part(API_KEYS).get(wide_scope(call.caller, call.query), call.named("id"))


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


def _answer(call: Call[Any], record: KeyRecord, secret: str | UnsetType = UNSET) -> KeyAnswer:
    return key_answer(record, clock.now(), call.part(API_KEYS).last_used(record.id), secret)


NO_KEY: Final = (*NO_SUCH, (403, "key_bounded"), (409, "conflict"))
ROUTES: Final = (
    Route(
        method="POST", path="/v1/keys", handler=create, summary="Make an API key", roles=KEYS,
        body=KeyRequest, answers={201: KeyAnswer}, answer_headers=("Location",),
        errors=(
            (403, "key_bounded"), (409, "key_exists"), (422, "key_too_short"), (422, "too_many_keys"),
        ),
    ),
    Route(
        method="GET", path="/v1/keys", handler=list_keys, summary="List API keys", roles=KEYS,
        query=(TENANT,), answers={200: KeysAnswer},
    ),
    Route(
        method="GET", path="/v1/keys/{id}", handler=get, summary="Read an API key", roles=KEYS,
        query=(TENANT,), answers={200: KeyAnswer}, errors=NO_SUCH,
    ),
    Route(
        method="POST", path="/v1/keys/{id}/rotate", handler=rotate, summary="Give an API key another secret",
        roles=KEYS, query=(TENANT,), body=RotateRequest, empty=EMPTY, answers={200: KeyAnswer},
        errors=(*NO_KEY, (422, "too_many_secrets")),
    ),
    Route(
        method="DELETE", path="/v1/keys/{id}", handler=revoke, summary="Revoke an API key", roles=KEYS,
        query=(TENANT,), answers={204: None}, errors=NO_KEY,
    ),
)  # fmt: skip
