"""Workflows: put, read, deleted, and made into one or several jobs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from switchyard.events import subjects
from switchyard.events.errors import InvalidError, RejectedError, SwitchyardError
from switchyard.events.job import Job
from switchyard.events.requirements.matching import declared_at
from switchyard.services import clock
from switchyard.services.access.principal import Caller
from switchyard.services.gateway.operations.workflows.request import (
    WorkflowRequest,
    WorkflowSubmission,
    inputs_of,
    payload_of,
)
from switchyard.services.ids import id_for_key, new_id
from switchyard.services.intake.request import JobRequest
from switchyard.services.intake.submitter import Pending, Submitted, Submitter
from switchyard.services.intake.workflows.checking import check_template
from switchyard.services.intake.workflows.filling import Choices, numbered
from switchyard.services.intake.workflows.templates import Offered, Templates
from switchyard.services.records.worker_watch import WorkerWatch
from switchyard.services.records.workflows.record import (
    Head,
    Reference,
    Template,
    Version,
    place_of,
    reference_of,
)
from switchyard.services.records.workflows.store import Workflows
from switchyard.services.settings import Settings

LABEL_BATCH: Final = "batch"
MOST_OFFERED: Final = 10_000


class Batch(NamedTuple):
    """The jobs of one submission; `is_new` says whether it made any of them."""

    id: str
    workflow: str
    jobs: list[Job]
    is_new: bool


class WorkflowTemplates:
    """Does what callers ask about workflows.

    Args:
        workflows: those of all tenants.
        templates: makes submissions of them.
        submitter: takes those in.
        settings: limits.
    """

    def __init__(
        self, workflows: Workflows, templates: Templates, submitter: Submitter, settings: Settings
    ) -> None:
        self._workflows = workflows
        self._templates = templates
        self._submitter = submitter
        self._settings = settings

    # --- Reads

    async def get(self, tenant: str, text: str) -> tuple[Version, Head]:
        """A version, and the workflow that it is of.

        Raises:
            InvalidError, NotFoundError: there is none.
            UnavailableError: the broker does not answer.
        """
        wanted = _reference(text)
        head = await self._workflows.head(tenant, wanted.name)
        return await self._workflows.find(tenant, wanted), head

    async def page(self, tenant: str, after: str, limit: int) -> tuple[list[Head], str | None]:
        """A page of workflows by name, and the cursor of the next."""
        left = [head for head in await self._workflows.heads(tenant) if head.name > after]
        return left[:limit], left[limit - 1].name if len(left) > limit else None

    async def versions(self, tenant: str, name: str) -> list[int]:
        """The numbers of its versions, oldest first; raises as `get`."""
        return await self._workflows.versions(tenant, _name(name))

    def choices(self, tenant: str, kind: str) -> Choices:
        """What the workers of a kind have to choose from now."""
        return partial(self._templates.offered, tenant, kind)

    # --- Writes

    async def put(self, caller: Caller, name: str, asked: WorkflowRequest) -> tuple[Version, Head, bool]:
        """Make a version, unless the newest says the same; it, its workflow, and whether it is new.

        Raises:
            InvalidError: it breaks a rule; `field` says where.
            LimitError: the tenant has as many as it may.
            UnavailableError: the broker does not answer.
        """
        name = _name(name)
        payload = payload_of(asked)
        template = Template(
            kind=asked.kind, payload=payload, inputs=inputs_of(asked, payload), job=asked.job,
            count=asked.count, title=asked.title, description=asked.description,
        )  # fmt: skip
        check_template(template, self._settings)
        if caller.grant is not None:
            caller.grant.check_kind(template.kind)
        version, is_new = await self._workflows.put(caller.tenant, name, template, caller.actor)
        return version, await self._workflows.head(caller.tenant, name), is_new

    async def delete(self, tenant: str, name: str) -> None:
        """Delete a workflow with all of its versions; its jobs stay.

        Raises:
            InvalidError, NotFoundError: there is none.
            UnavailableError: the broker does not answer.
        """
        await self._workflows.delete(tenant, _name(name))

    # --- Jobs

    async def submit(self, caller: Caller, text: str, asked: WorkflowSubmission, key: str | None) -> Batch:
        """Make jobs, each of the inputs with its own seed; all of them have the label `batch`.

        With an idempotency key the same submission makes no more jobs, and goes on where one broke off.

        Raises:
            RejectedError: it breaks a rule, or a limit of the tenant.
            UnavailableError: the broker does not answer.
        """
        for field in ("workflow", "kind", "payload"):
            if getattr(asked, field):
                raise InvalidError(f"{field}: the path says which workflow it is of", field=field)
        version, _ = await self.get(caller.tenant, text)
        template, place = version.template, place_of(version.name, version.number)
        most = 1 if template.count is None else template.count.max
        count = asked.count or (1 if template.count is None else template.count.default)
        if count > most:
            raise InvalidError(f"count: at most {most} was expected, not {count}", field="count")
        if LABEL_BATCH in asked.labels:
            field = f"labels.{LABEL_BATCH}"
            raise InvalidError(f"{field}: the submission sets this label", field=field)
        key = key or new_id()
        batch = id_for_key(caller.tenant, f"batch\0{key}")
        labels = {**asked.labels, LABEL_BATCH: batch}
        digest = hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()
        begun: list[Pending | Submitted] = []
        try:
            for number in range(count):
                one = _one_of(asked, place, numbered(template, asked.inputs, number), labels)
                body = orjson.dumps({"workflow": place, "number": number, "asked": digest})
                begun.append(
                    await self._submitter.begin(one, body, caller, f"{batch}\0{number}", clock.now())
                )
        except SwitchyardError as error:
            await self._finished(begun)
            if begun and isinstance(error, RejectedError):
                error.message += (
                    f"; {len(begun)} of {count} jobs were submitted before, with the label batch={batch}: "
                    f"the same submission with Idempotency-Key {key} goes on from there"
                )
            raise
        found = await self._finished(begun)
        return Batch(batch, place, [one.job for one in found], any(one.event for one in found))

    async def _finished(self, begun: list[Pending | Submitted]) -> list[Submitted]:
        async def finished(one: Pending | Submitted) -> Submitted:
            return await self._submitter.finish(one) if isinstance(one, Pending) else one

        return list(await asyncio.gather(*map(finished, begun)))


def _one_of(
    asked: WorkflowSubmission, place: str, inputs: dict[str, Any], labels: dict[str, str]
) -> JobRequest:
    """One of the jobs of a submission."""
    fields = {name: getattr(asked, name) for name in JobRequest.__struct_fields__}
    return JobRequest(**{**fields, "workflow": place, "inputs": inputs, "labels": labels})


def offered_by(watch: WorkerWatch) -> Offered:
    """What the workers that are there have to choose from, by tenant, kind and path of a capability."""

    def offered(tenant: str, kind: str, path: str) -> Collection[Any] | None:
        found: dict[Any, None] = {}
        is_said = False
        for record in watch.records():
            if kind not in record.kinds or not record.runs_for(tenant):
                continue
            for capabilities in (record.capabilities, *(one.capabilities for one in record.instances)):
                values = declared_at(path, capabilities)
                if isinstance(values, list):
                    is_said = True
                    found.update((value, None) for value in values if isinstance(value, str | int | float))
            if len(found) > MOST_OFFERED:
                break
        return list(found) if is_said else None

    return offered


def _reference(text: str) -> Reference:
    try:
        return reference_of(text)
    except ValueError as error:
        raise InvalidError(f"workflow: {error}", field="workflow") from None


def _name(text: str) -> str:
    if not subjects.is_name(text):
        message = f"workflow: a name that matches {subjects.NAME.pattern} was expected"
        raise InvalidError(message, field="workflow")
    return text
