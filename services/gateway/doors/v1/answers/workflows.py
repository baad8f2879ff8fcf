"""Answers about workflows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from switchyard.projections.job_view import JobView
from switchyard.services.gateway.doors.v1.answers.base import Answer
from switchyard.services.intake.workflows.filling import Choices
from switchyard.services.intake.workflows.schema import example_of, schema_of
from switchyard.services.records.workflows.record import Count, Head, Input, Version


class WorkflowAnswer(Answer, frozen=True, kw_only=True):
    """A version of a workflow, with the JSON Schema of its inputs and an example of a submission."""

    name: str
    version: int
    latest: int
    tenant: str
    kind: str
    title: str
    description: str
    inputs: Mapping[str, Input]
    payload: Mapping[str, Any]
    job: Mapping[str, Any]
    count: Count | None
    created_at: datetime
    created_by: str
    schema: Mapping[str, Any]
    example: Mapping[str, Any]


class WorkflowHead(Answer, frozen=True, kw_only=True):
    """A workflow in a list, as its newest version is."""

    name: str
    latest: int
    tenant: str
    kind: str
    title: str
    updated_at: datetime


class WorkflowPage(Answer, frozen=True, kw_only=True):
    """Workflows by name."""

    workflows: Sequence[WorkflowHead]
    cursor: str | None


class WorkflowVersions(Answer, frozen=True, kw_only=True):
    """The numbers of a workflow's versions, oldest first."""

    name: str
    versions: Sequence[int]


class BatchAnswer(Answer, frozen=True, kw_only=True):
    """The jobs that one submission made; all have the label `batch`."""

    batch: str
    workflow: str
    jobs: Sequence[JobView]


def workflow_answer(version: Version, head: Head, choices: Choices) -> WorkflowAnswer:
    """A version as clients see it."""
    template = version.template
    return WorkflowAnswer(
        name=version.name, version=version.number, latest=head.latest, tenant=version.tenant,
        kind=template.kind, title=template.title, description=template.description, inputs=template.inputs,
        payload=template.payload, job=template.job, count=template.count, created_at=version.created_at,
        created_by=version.created_by, schema=schema_of(version, choices), example=example_of(version),
    )  # fmt: skip


def head_answer(head: Head) -> WorkflowHead:
    """A workflow of a list."""
    return WorkflowHead(
        name=head.name, latest=head.latest, tenant=head.tenant, kind=head.kind, title=head.title,
        updated_at=head.updated_at,
    )  # fmt: skip
