"""What callers say of a prediction server, and what a record of it is made of."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from switchyard.events.encoding.json_value import check_json
from switchyard.events.errors import InvalidError
from switchyard.events.subjects import NAME_PATTERN
from switchyard.services.records.servers.record import MAX_SLOTS, MAX_WEIGHT, Profile

MAX_KINDS: Final = 100

Url = Annotated[str, Meta(min_length=1, max_length=2048)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Kinds = Annotated[
    tuple[Annotated[str, Meta(pattern=NAME_PATTERN)], ...], Meta(min_length=1, max_length=MAX_KINDS)
]
Slots = Annotated[int, Meta(ge=1, le=MAX_SLOTS)]
Weight = Annotated[int, Meta(ge=1, le=MAX_WEIGHT)]


class EndpointsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a server is called."""

    predict: Url
    health: Url | None = None
    cancel: Url | None = None


class CredentialsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What its requests carry: a bearer token, or other headers, or both."""

    bearer: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    headers: dict[str, str] = {}


class ServerRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a POST or PUT. A PUT that says nothing of `credentials` keeps them; null removes them."""

    endpoints: EndpointsRequest
    kinds: Kinds
    id: str | None = None
    name: Name | None = None
    profile: Profile = "task"
    options: dict[str, Any] = {}
    capabilities: dict[str, Any] = {}
    slots: Slots = 1
    labels: dict[str, str] = {}
    weight: Weight = 1
    credentials: CredentialsRequest | UnsetType | None = UNSET
    enabled: bool = True
    maintenance: bool = False


class ServerChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a PATCH: what is left out stays as it is."""

    endpoints: EndpointsRequest | UnsetType = UNSET
    kinds: Kinds | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    profile: Profile | UnsetType = UNSET
    options: dict[str, Any] | UnsetType = UNSET
    capabilities: dict[str, Any] | UnsetType = UNSET
    slots: Slots | UnsetType = UNSET
    labels: dict[str, str] | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET
    credentials: CredentialsRequest | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    maintenance: bool | UnsetType = UNSET


class MaintenanceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether a server gets no new jobs for now."""

    enabled: bool = True


class CleanupRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which servers are to be removed.

    Args:
        older_s: that had no heartbeat for so many seconds; as long as makes a server stale, by default.
        dry_run: whether they are only named.
    """

    older_s: Annotated[float, Meta(ge=0, le=366 * 86400)] | None = None
    dry_run: bool = False


class Limits(msgspec.Struct, frozen=True):
    """Those of the settings that concern a server's record."""

    capabilities_bytes: int
    labels: int
    label_value_chars: int


def check_fields(asked: ServerRequest | ServerChange, limits: Limits) -> None:
    """Refuse what breaks a rule that the types do not say.

    Raises:
        InvalidError: something does.
    """
    if isinstance(asked.name, str) and not asked.name.isprintable():
        raise InvalidError("name: printable characters were expected", field="name")
    if asked.capabilities is not UNSET:
        check_json(asked.capabilities, "capabilities")
        size_bytes = len(msgspec.json.encode(asked.capabilities))
        if size_bytes > limits.capabilities_bytes:
            message = (
                f"capabilities: at most {limits.capabilities_bytes} bytes were expected, not {size_bytes}"
            )
            raise InvalidError(message, field="capabilities")
    if asked.labels is not UNSET:
        _check_labels(asked.labels, limits)


def _check_labels(labels: dict[str, str], limits: Limits) -> None:
    if len(labels) > limits.labels:
        raise InvalidError(f"labels: at most {limits.labels} were expected", field="labels")
    for name, value in labels.items():
        check_json({name: value}, "labels")
        if not 1 <= len(name) <= 63 or not name.isprintable():
            raise InvalidError("labels: a name of 1 to 63 printable characters was expected", field="labels")
        if len(value) > limits.label_value_chars:
            message = f"labels: a value of at most {limits.label_value_chars} characters was expected"
            raise InvalidError(message, field="labels")
