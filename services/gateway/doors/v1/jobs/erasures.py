"""`/v1/erasures`: many jobs erased at once, and the certificates of what was erased."""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.errors import InvalidError
from switchyard.events.subjects import JOB_ID, NAME_PATTERN
from switchyard.services.access.principal import Role
from switchyard.services.gateway.app_keys import ERASURES
from switchyard.services.gateway.doors.v1.answers.erasures import ErasedAnswer, ErasureAnswer, ErasurePage
from switchyard.services.gateway.doors.v1.answers.jobs import Refusal
from switchyard.services.gateway.doors.v1.jobs.actions import Reason
from switchyard.services.gateway.doors.v1.parts import (
    H_TRACE,
    NO_SUCH,
    PAGED,
    READ,
    SEQ,
    SUBMIT,
    TENANT,
    page_limit,
)
from switchyard.services.gateway.http.callers import H_SEQ, json_response
from switchyard.services.gateway.http.query import H_MIN_SEQ, min_seq, scope, wide_scope, wrong
from switchyard.services.gateway.http.routes import Call, Lasts, Route

MAX_IDS: Final = 10_000

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
Id = Annotated[str, Meta(min_length=1, max_length=100)]


class ErasureRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a bulk erasure: the jobs with labels, all of a tenant, or some by their ids."""

    label: Annotated[dict[Name, str], Meta(min_length=1, max_length=50)] | None = None
    tenant: Name | None = None
    jobs: Annotated[list[Id], Meta(min_length=1, max_length=MAX_IDS)] | None = None
    reason: Reason = ""
    dry_run: bool = False
    cursor: str | None = None
    limit: Annotated[int, Meta(ge=1)] | None = None


async def erase(call: Call[ErasureRequest]) -> web.Response:
    """Erase jobs, and say which were erased, and which were not and why."""
    asked, caller = call.body, call.caller
    tenant = scope(caller, call.query)
    given = [name for name in ("label", "tenant", "jobs") if getattr(asked, name) is not None]
    if len(given) != 1:
        raise InvalidError(
            "label, tenant, jobs: one of them was expected", field=given[1] if given else "label"
        )
    if asked.tenant is not None:
        caller.check(Role.TENANT_ADMIN)
        if asked.tenant != tenant:
            caller.check(Role.ADMIN)
        tenant = asked.tenant
    erasures = call.part(ERASURES)
    if asked.jobs is not None:
        if asked.cursor is not None or asked.limit is not None:
            raise InvalidError("cursor, limit: not with `jobs`", field="cursor")
        found = await erasures.of_jobs(caller, tenant, asked.jobs, reason=asked.reason, dry=asked.dry_run)
    else:
        found = await erasures.of_label(
            caller, tenant, tuple((asked.label or {}).items()), reason=asked.reason, dry=asked.dry_run,
            cursor=asked.cursor, limit=asked.limit, min_seq=min_seq(call.request),
        )  # fmt: skip
    refused = [Refusal(id=job_id, code=code, message=message) for job_id, code, message in found.refused]
    answer = ErasedAnswer(
        erased=found.erased,
        skipped=found.skipped,
        refused=refused,
        dry_run=asked.dry_run,
        cursor=found.cursor,
    )
    return json_response(answer, headers={H_SEQ: str(found.seq)})


async def list_erasures(call: Call[None]) -> web.Response:
    """A page of certificates, in the order in which they were written."""
    tenant, cursor = wide_scope(call.caller, call.query), call.query.text("cursor") or "1"
    if re.fullmatch(r"[1-9][0-9]{0,17}", cursor) is None:
        raise wrong("cursor", cursor, "that of a page before")
    page, more = await call.part(ERASURES).page(tenant, int(cursor), page_limit(call))
    answers = [ErasureAnswer.of(erasure) for erasure in page]
    return json_response(ErasurePage(erasures=answers, cursor=None if more is None else str(more)))


async def get(call: Call[None]) -> web.Response:
    """The certificate of a job's erasure."""
    job, tenant = call.named("id"), scope(call.caller, call.query)
    if JOB_ID.fullmatch(job) is None:
        raise wrong("id", job, "the id of a job")
    return json_response(ErasureAnswer.of(await call.part(ERASURES).get(tenant, job)))


ROUTES: Final = (
    Route(
        method="POST", path="/v1/erasures", handler=erase, summary="Erase many jobs",
        roles=SUBMIT, query=(TENANT,), headers=(H_MIN_SEQ, H_TRACE), body=ErasureRequest,
        answers={200: ErasedAnswer}, answer_headers=SEQ, lasts=Lasts.BODY,
    ),
    Route(
        method="GET", path="/v1/erasures", handler=list_erasures, summary="List erasures",
        roles=READ, query=(TENANT, *PAGED), answers={200: ErasurePage},
    ),
    Route(
        method="GET", path="/v1/erasures/{id}", handler=get, summary="Read the certificate of an erasure",
        roles=READ, query=(TENANT,), answers={200: ErasureAnswer}, errors=NO_SUCH,
    ),
)  # fmt: skip
