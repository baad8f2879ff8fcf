"""Bodies about servers, in both generations of the API; `provider` or `callback` say that it is the first."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from switchyard.events.errors import InvalidError
from switchyard.services.gateway.doors.tasks import views
from switchyard.services.gateway.operations.servers.request import ServerRequest
from switchyard.services.intake.faults import from_msgspec

SLOTS: Final = 10
"""Tasks at once, where a server does not say."""
PROVIDER: Final = "provider"
CALLBACK: Final = "callback"
METRICS: Final = "metrics"
PRIORITY: Final = "task-priority"
GROUP: Final = "group."
"""The labels in which a record keeps what only this API knows; that of a group goes on with its name."""
LABEL_CHARS: Final = 63

Text = Annotated[str, Meta(max_length=256)]
Word = Annotated[str, Meta(min_length=1, max_length=100)]
Group = Annotated[str, Meta(min_length=1, max_length=LABEL_CHARS - len(GROUP))]


class EndpointsForm(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server is called."""

    predict: str
    health: str | UnsetType | None = UNSET
    metrics: Text | UnsetType | None = UNSET


class ServerForm(msgspec.Struct, frozen=True, kw_only=True):
    """A server to register."""

    id: str | UnsetType = UNSET
    name: str
    endpoints: EndpointsForm
    provider: Text | UnsetType = UNSET
    callback: bool | UnsetType = UNSET
    is_async: bool | UnsetType = msgspec.field(default=UNSET, name="async")
    apiKey: str | UnsetType | None = UNSET  # noqa: N815 - as its clients write it
    maxConcurrent: Annotated[int, Meta(ge=1, le=100)] = SLOTS  # noqa: N815
    capabilities: Annotated[list[Word], Meta(max_length=100)] | UnsetType | None = UNSET
    groups: Annotated[list[Group], Meta(max_length=20)] | UnsetType | None = UNSET
    priority: Annotated[float, Meta(ge=0, le=10)] = 1


def is_first(form: ServerForm) -> bool:
    """Whether a body is of the first generation.

    Raises:
        InvalidError: it is, and lacks what that requires.
    """
    if form.provider is UNSET and form.callback is UNSET:
        return False
    for name in ("id", PROVIDER):
        if getattr(form, name) is UNSET:
            raise InvalidError(f"{name}: a text was expected", field=name)
    return True


def request_of(form: ServerForm, kind: str) -> ServerRequest:
    """What is asked of the registry that all doors share.

    Args:
        form: as its client wrote it.
        kind: that of the jobs that tasks are.

    Raises:
        InvalidError: capabilities contradict each other, or a field is missing.
    """
    first = is_first(form)
    calls_back = form.is_async if isinstance(form.is_async, bool) else not first
    fields = {
        "endpoints": {"predict": form.endpoints.predict, "health": form.endpoints.health or None},
        "kinds": [kind], "name": form.name, "capabilities": capabilities_of(form.capabilities or ()),
        "slots": form.maxConcurrent, "labels": _labels(form, first=first),
        "options": {} if calls_back else {"calls_back": False},
        "credentials": {"bearer": form.apiKey} if form.apiKey else None,
    }  # fmt: skip
    try:
        return msgspec.convert(fields, ServerRequest)
    except msgspec.ValidationError as error:
        raise from_msgspec(error) from None


def _labels(form: ServerForm, *, first: bool) -> dict[str, str]:
    labels = {views.GENERATION: views.FIRST if first else views.SECOND}
    if first:
        return labels | {PROVIDER: str(form.provider), CALLBACK: _word(form.callback is True)}
    if form.endpoints.metrics:
        labels[METRICS] = form.endpoints.metrics
    labels[PRIORITY] = f"{form.priority:g}"
    return labels | {GROUP + group: "true" for group in form.groups or ()}


def _word(flag: bool) -> str:  # noqa: FBT001 - it is what is spelled
    return "true" if flag else "false"


def capabilities_of(names: tuple[str, ...] | list[str]) -> dict[str, Any]:
    """Names of capabilities as a server's record has them: a dotted one is looked for level by level.

    Raises:
        InvalidError: one stands both alone and before a dot.
    """
    found: dict[str, Any] = {}
    for name in names:
        *levels, last = name.split(".")
        place: Any = found
        for level in levels:
            place = place.setdefault(level, {}) if isinstance(place, dict) else True
        if not isinstance(place, dict) or isinstance(place.get(last), dict):
            message = f"capabilities: {name} cannot stand beside what it begins with, or what begins with it"
            raise InvalidError(message, field="capabilities")
        place[last] = True
    return found


def names_of(capabilities: dict[str, Any], before: str = "") -> list[str]:
    """The names of the capabilities that a record says are there."""
    found: list[str] = []
    for name, value in capabilities.items():
        if isinstance(value, dict):
            found += names_of(value, f"{before}{name}.")
        elif value is True:
            found.append(before + name)
    return found


class MaintenanceForm(msgspec.Struct, frozen=True):
    """Whether a server is under maintenance."""

    enabled: bool


class CleanupForm(msgspec.Struct, frozen=True):
    """For how long servers were silent that are removed; null as if it were not there."""

    max_age_mins: Annotated[float, Meta(gt=0, le=500_000)] | None = msgspec.field(
        default=None, name="maxAgeMins"
    )


class AlgorithmForm(msgspec.Struct, frozen=True):
    """How tasks are to be spread."""

    algorithm: Word
