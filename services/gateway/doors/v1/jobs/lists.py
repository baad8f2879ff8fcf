"""The route that lists jobs."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from switchyard.projections.lists.pages import Asked
from switchyard.projections.lists.sorts import NEWEST, ORDERS
from switchyard.projections.lists.views import FIELDS, LARGE, ListedJob, brief_view, listed_view
from switchyard.services.files.named import jobs_named
from switchyard.services.gateway.app_keys import JOBS, TENANT_FILES
from switchyard.services.gateway.doors.v1.answers.jobs import JobPage
from switchyard.services.gateway.doors.v1.jobs.shown import page_tag
from switchyard.services.gateway.doors.v1.parts import (
    API_KEY,
    H_KNOWN,
    KIND,
    LABEL,
    PAGED,
    PARENT,
    READ,
    TAGGED,
    TENANT,
    key_filter,
    labels_of,
    page_limit,
    parent_filter,
    words_of,
)
from switchyard.services.gateway.http import tags
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.query import H_MIN_SEQ, Query, min_seq, wide_scope, wrong
from switchyard.services.gateway.http.routes import Call, Parameter, Route

FULL: Final = "full"
SUMMARY: Final = "summary"


async def list_jobs(call: Call[None]) -> web.Response:
    """A page of jobs, newest first and in brief where nothing else is asked for."""
    query, jobs = call.query, call.part(JOBS)
    tenant = wide_scope(call.caller, query)
    names, limit = _fields(query), page_limit(call)
    asked = Asked(
        states=words_of(query, "state"),
        kinds=words_of(query, "kind"),
        labels=labels_of(query),
        key=key_filter(query),
        parent=parent_filter(query),
        created_after=query.time("created_after"),
        created_before=query.time("created_before"),
        updated_after=query.time("updated_after"),
        sort=_sort(query),
        cursor=query.text("cursor"),
    )
    seq = await jobs.freshness.wait(min_seq(call.request))
    found = page_tag(call, seq, tenant)
    if tags.is_known(call.request, found):
        return tags.not_modified(found, seq)
    views: list[ListedJob]
    if names is None or not names & LARGE:
        briefs, cursor = jobs.read_model.briefs(tenant=tenant, limit=limit, **asked)
        views = [brief_view(job, jobs.progress(job), names) for job in briefs]
    else:
        page, cursor = jobs.read_model.jobs(tenant=tenant, limit=limit, **asked)
        page = await jobs_named(call.part(TENANT_FILES).files, page)
        views = [listed_view(job, jobs.progress(job), names) for job in page]
    return json_response(JobPage(jobs=views, cursor=cursor), headers=tags.headers(found, seq))


def _fields(query: Query) -> frozenset[str] | None:
    """The names of the fields that are wanted; None for those that a list has by default."""
    words = [word for value in query.all("fields") for word in value.split(",")]
    if not words or words == [SUMMARY]:
        return None
    if words == [FULL]:
        return frozenset(FIELDS)
    for word in words:
        if word not in FIELDS:
            raise wrong("fields", word, f"{FULL}, {SUMMARY}, or some of {', '.join(FIELDS)},")
    return frozenset(words)


def _sort(query: Query) -> str:
    sort = query.text("sort") or NEWEST
    if sort not in ORDERS:
        raise wrong("sort", sort, f"one of {', '.join(ORDERS)}")
    return sort


ROUTE: Final = Route(
    method="GET", path="/v1/jobs", handler=list_jobs, summary="List jobs",
    roles=READ, headers=(H_MIN_SEQ, H_KNOWN), answers={200: JobPage, 304: None}, answer_headers=TAGGED,
    query=(
        TENANT, API_KEY, PARENT, Parameter("created_after", "time"), Parameter("created_before", "time"),
        Parameter("updated_after", "time"), Parameter("sort"), *PAGED,
        Parameter("state", repeated=True), KIND, LABEL, Parameter("fields", repeated=True),
    ),
)  # fmt: skip
