"""From a `submit_job` of either generation, or a body of its REST, to a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from switchyard.events.errors import InvalidError
from switchyard.events.values import MAX_PRIORITY
from switchyard.services.access.principal import Caller
from switchyard.services.gateway.doors.emp import names
from switchyard.services.gateway.doors.emp.hub import Hub
from switchyard.services.gateway.doors.emp.requirements import requires_of
from switchyard.services.intake.request import parse_request
from switchyard.services.intake.submitter import Submitted
from switchyard.services.settings import Settings

RETRIES: Final = 3
MOST_RETRIES: Final = 99
DEFAULT_PRIORITY: Final = {names.PYTHON: 0, names.TYPESCRIPT: 50}
OF_TYPESCRIPT: Final = frozenset(
    {"id", "data", "service_required", "requirements", "customer_id", "max_retries", "workflow_id"}
)
"""Fields that only the TypeScript generation's messages have."""
MINUTE_S: Final = 60.0


class Submission(NamedTuple):
    """A job that is asked for.

    Args:
        body: as `POST /v1/jobs` takes it.
        hashed: the same without what says who sends it: what a second submission is compared with.
        key: what stands for the id that its client gave it; None where it gave none.
    """

    body: bytes
    hashed: bytes
    key: str | None


def generation_of(message: Mapping[str, Any]) -> str:
    """In which generation a message is spoken."""
    return names.PYTHON if OF_TYPESCRIPT.isdisjoint(message) else names.TYPESCRIPT


def submission_of(
    fields: Mapping[str, Any], settings: Settings, *, generation: str, client: str, sent_id: Any = None
) -> Submission:
    """The job that is asked for.

    Args:
        fields: those of the message or the body.
        settings: what holds where it says nothing.
        generation: how it is spoken.
        client: who sends it.
        sent_id: the id that its client gives it; None where it gives none.

    Raises:
        InvalidError: a field breaks a rule.
    """
    type_ = fields.get("service_required") or fields.get("job_type")
    if generation == names.TYPESCRIPT and type_ is None and fields.get("type") != "submit_job":
        type_ = fields.get("type")
    if not isinstance(type_, str) or not type_:
        raise InvalidError("job_type: a text was expected", field="job_type")
    payload = fields.get("payload")
    if not isinstance(payload, dict):
        raise InvalidError("payload: an object was expected", field="payload")
    priority = _priority(fields, settings, generation)
    labels = {names.TYPE: names.label_of(type_), names.GENERATION: generation}
    if priority != _bounded(priority):
        labels[names.PRIORITY] = str(min(2**63, max(-(2**63), priority)))
    customer = _text(fields, "customer_id")
    if customer:
        labels[names.CUSTOMER] = names.label_of(customer)
    if workflow := _text(fields, "workflow_id"):
        labels["emp-workflow"] = names.label_of(workflow)
    key = None
    if sent_id:
        key = names.key_of(sent_id if isinstance(sent_id, str) else str(sent_id))
        labels[names.ID] = str(sent_id)
    requirements = fields.get("requirements") or {}
    if not isinstance(requirements, dict):
        raise InvalidError("requirements: an object was expected", field="requirements")
    job = {
        "kind": names.kind_of(type_), "payload": payload, "priority": _bounded(priority), "labels": labels,
        "requires": requires_of(requirements, type_, customer), "max_attempts": _attempts(fields),
    }  # fmt: skip
    timeout_s = _timeout_s(requirements.get("timeout_minutes"), settings)
    if timeout_s is not None:
        job["attempt_timeout_s"] = timeout_s
    hashed = orjson.dumps(job)
    return Submission(orjson.dumps({**job, "labels": {**labels, names.CLIENT: client}}), hashed, key)


async def submitted(hub: Hub, caller: Caller, asked: Submission) -> Submitted:
    """The job that a submission stands for, written if it is new.

    Raises:
        RejectedError: it breaks a rule or a limit, or its id was used for another one.
        UnavailableError: the broker does not answer.
    """
    found = await hub.jobs.submit(caller, parse_request(asked.body), asked.hashed, asked.key)
    hub.note(found.job)
    return found


def _priority(fields: Mapping[str, Any], settings: Settings, generation: str) -> int:
    default = settings.emp_priority
    if default is None:
        default = DEFAULT_PRIORITY[generation]
    found = fields.get("workflow_priority")
    found = fields.get("priority") if found is None else found
    if found is None:
        return default
    if isinstance(found, str) and found.strip().lstrip("-").isdecimal() and len(found) <= len(str(2**63)):
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise InvalidError("priority: a whole number was expected", field="priority")
    return round(found)


def _bounded(priority: int) -> int:
    return min(MAX_PRIORITY, max(0, priority))


def _attempts(fields: Mapping[str, Any]) -> int:
    retries = fields.get("max_retries")
    if retries is None:
        return RETRIES + 1
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= MOST_RETRIES:
        message = f"max_retries: a whole number of 0 to {MOST_RETRIES} was expected"
        raise InvalidError(message, field="max_retries")
    return retries + 1


def _timeout_s(minutes: Any, settings: Settings) -> float | None:
    limits = [settings.emp_timeout_minutes]
    if minutes is not None:
        if isinstance(minutes, bool) or not isinstance(minutes, int | float) or minutes <= 0:
            field = "requirements.timeout_minutes"
            raise InvalidError(f"{field}: a number over 0 was expected", field=field)
        limits.append(minutes)
    said = [limit for limit in limits if limit is not None]
    return min(said) * MINUTE_S if said else None


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidError(f"{name}: a text was expected", field=name)
    return value
