"""What a submission of a workflow comes to: the same as one of its kind, with the payload that it makes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn

import msgspec
import orjson

from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.services.intake.request import JobRequest
from switchyard.services.intake.workflows.checking import defaults_of
from switchyard.services.intake.workflows.filling import filled
from switchyard.services.records.workflows.record import Version, place_of, reference_of
from switchyard.services.records.workflows.store import Workflows

Offered = Callable[[str, str, str], Collection[Any] | None]
"""From tenant, kind and the path of a capability to what the workers there have; None where nobody says."""
_BEYOND: Final = frozenset({"kind", "payload", "workflow", "inputs", "labels"})
"""Fields that are not simply those of the template where a submission does not say."""
KNOWN: Final = 256


class Made(NamedTuple):
    """A submission as it is, and what of it stands in the job beside that.

    Args:
        request: names a kind and has a payload.
        workflow: the version that made it, or "".
        inputs: what was filled in.
        size_bytes: that of the payload that was made.
        files: those that inputs name, each after its field.
    """

    request: JobRequest
    workflow: str = ""
    inputs: dict[str, Any] = {}  # noqa: RUF012 - never changed
    size_bytes: int = 0
    files: tuple[tuple[str, str], ...] = ()


class Templates:
    """Makes submissions of workflows.

    Args:
        workflows: those of all tenants.
        offered: what workers have to choose from.
    """

    def __init__(self, workflows: Workflows, offered: Offered = lambda _tenant, _kind, _path: None) -> None:
        self._workflows = workflows
        self.offered = offered
        self._defaults: dict[tuple[str, str], JobRequest] = {}

    async def made(self, request: JobRequest, tenant: str) -> Made:
        """What a submission comes to.

        Raises:
            InvalidError: there is no such workflow, or an input breaks a rule.
            UnavailableError: the broker does not answer.
        """
        if request.workflow is None:
            if not request.kind:
                _refuse("kind", "missing, but required")
            if request.inputs:
                _refuse("inputs", "only those of a workflow are filled in")
            return Made(request)
        if request.payload:
            _refuse("payload", "not together with workflow, which makes it of inputs")
        version = await self.version(tenant, request.workflow)
        template = version.template
        if request.kind not in ("", template.kind):
            _refuse("kind", f"the workflow makes jobs of kind {template.kind}")
        found = filled(template, request.inputs, partial(self.offered, tenant, template.kind))
        place = place_of(version.name, version.number)
        fields = _given(request, self._defaults_of(version, place))
        whole = JobRequest(**fields, kind=template.kind, payload=found.payload)
        files = tuple(
            (f"inputs.{name}", value)
            for name, value in found.inputs.items()
            if template.inputs[name].type == "file"
        )
        return Made(whole, place, found.inputs, len(orjson.dumps(found.payload)), files)

    async def version(self, tenant: str, reference: str) -> Version:
        """The version that a submission names.

        Raises:
            InvalidError: code `unknown_workflow`.
            UnavailableError: the broker does not answer.
        """
        try:
            return await self._workflows.find(tenant, reference_of(reference))
        except NotFoundError as error:
            message = f"workflow: {error.message}"
            raise InvalidError(message, code="unknown_workflow", field="workflow") from None

    def _defaults_of(self, version: Version, place: str) -> JobRequest:
        key = version.tenant, f"{place} {version.created_at.isoformat()}"
        if (known := self._defaults.get(key)) is None:
            if len(self._defaults) >= KNOWN:
                self._defaults.clear()
            known = self._defaults[key] = defaults_of(version.template)
        return known


def _given(request: JobRequest, defaults: JobRequest) -> dict[str, Any]:
    """The fields that a submission says, and those of the template where it does not."""
    fields: dict[str, Any] = {"labels": {**defaults.labels, **request.labels}}
    for name, unsaid in zip(_NAMES, _UNSAID, strict=True):
        value = getattr(request, name)
        fields[name] = getattr(defaults, name) if value == unsaid else value
    return fields


def _refuse(field: str, rule: str) -> NoReturn:
    raise InvalidError(f"{field}: {rule}", field=field)


_NOTHING: Final = JobRequest()
_NAMES: Final = tuple(field.name for field in msgspec.structs.fields(JobRequest) if field.name not in _BEYOND)
_UNSAID: Final = tuple(getattr(_NOTHING, name) for name in _NAMES)
