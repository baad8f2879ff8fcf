"""What the tables of `/v1` share: parameters, codes of refusals, and how much a page holds."""

from __future__ import annotations

from typing import Any, Final

from switchyard.events.subjects import JOB_ID, NAME
from switchyard.events.values import DAMAGED, FINAL, WAITING, Status
from switchyard.services.access.principal import Role
from switchyard.services.gateway.app_keys import SETTINGS
from switchyard.services.gateway.http.callers import H_SEQ
from switchyard.services.gateway.http.query import Query, wrong
from switchyard.services.gateway.http.routes import Call, Parameter
from switchyard.services.intake.faults import MalformedError
from switchyard.services.records.keys import ID as KEY_ID

GROUPS: Final = {
    "active": (Status.RUNNING.value, Status.CANCELLING.value),
    "waiting": tuple(sorted(status.value for status in WAITING)),
    "ended": tuple(sorted(status.value for status in FINAL)),
}
"""Words that a filter by state takes for several."""
STATES: Final = frozenset(status.value for status in Status) - {Status.ABSENT.value} | {DAMAGED}

READ: Final = (Role.VIEWER,)
SUBMIT: Final = (Role.SUBMITTER,)
WORK: Final = (Role.WORKER,)
REVIEW: Final = (Role.REVIEWER,)
SEE: Final = (Role.VIEWER, Role.OPERATOR)
"""What operators see of every tenant."""
OPERATE: Final = (Role.OPERATOR,)
KEYS: Final = (Role.TENANT_ADMIN,)
ADMIN: Final = (Role.ADMIN,)

TENANT: Final = Parameter("tenant", "name")
PAGED: Final = (Parameter("cursor"), Parameter("limit", "integer"))
KIND: Final = Parameter("kind", "name", repeated=True)
LABEL: Final = Parameter("label", repeated=True)
WAIT: Final = Parameter("wait", "seconds")

API_KEY: Final = Parameter("key")
PARENT: Final = Parameter("parent")
H_KEY: Final = "Idempotency-Key"
H_TRACE: Final = "traceparent"
H_KNOWN: Final = "If-None-Match"
SEQ: Final = (H_SEQ,)
TAGGED: Final = (H_SEQ, "ETag", "Cache-Control")
EMPTY: Final = b"{}"

NO_SUCH: Final = ((404, "not_found"),)
CHANGED: Final = (
    *NO_SUCH, (409, "illegal_transition"), (409, "conflict"), (409, "damaged"),
)  # fmt: skip
"""What a change of a job may be answered with."""
JOBS_SHARE: Final = (
    (422, "too_many_lanes"), (422, "too_many_priorities"),
    (429, "too_many_jobs"), (429, "too_many_job_bytes"), (429, "too_many_waits"),
    (402, "budget_spent"), (429, "quota_spent"), (429, "too_many_erasures"),
)  # fmt: skip


def page_limit(call: Call[Any]) -> int:
    """How many items a page may have."""
    settings = call.part(SETTINGS)
    return call.query.integer("limit", default=settings.page_size, least=1, most=settings.page_size_max)


def after_name(call: Call[Any]) -> str:
    """The cursor of a list in the order of names: "" for its first page."""
    found = call.query.text("cursor")
    if found is not None and NAME.fullmatch(found) is None:
        raise wrong("cursor", found, "that of a page before")
    return found or ""


def words_of(query: Query, name: str) -> list[str]:
    """The values of a filter, repeated or separated by commas; a group of states stands for each of them."""
    words = [word for value in query.all(name) for word in value.split(",")]
    if name == "state":
        for word in words:
            if word not in STATES and word not in GROUPS:
                raise wrong(name, word, f"one of {', '.join((*sorted(GROUPS), *sorted(STATES)))}")
        return list(dict.fromkeys(state for word in words for state in GROUPS.get(word, (word,))))
    for word in words:
        if NAME.fullmatch(word) is None:
            raise wrong(name, word, f"a name that matches {NAME.pattern}")
    return words


def labels_of(query: Query) -> list[tuple[str, str]]:
    """The labels that a list is filtered by: all of them, so two values of one name give an empty list."""
    labels = []
    for value in query.all("label"):
        name, colon, wanted = value.partition(":")
        if not colon or NAME.fullmatch(name) is None:
            raise wrong("label", value, "name:value")
        labels.append((name, wanted))
    return labels


def parent_filter(query: Query) -> str | None:
    """The id of the job whose parts a list has."""
    value = query.text("parent")
    if value is not None and JOB_ID.fullmatch(value) is None:
        message = "parent: the id of a job was expected"
        raise MalformedError(message, code="invalid_parameter", field="parent")
    return value


def key_filter(query: Query) -> str | None:
    """The id of the API key that a list is filtered by; never the key itself."""
    value = query.text("key")
    if value is not None and KEY_ID.fullmatch(value) is None:
        raise MalformedError(
            "key: the id of an API key, 16 hex digits, was expected", code="invalid_parameter", field="key"
        )
    return value
