"""A workflow as it is kept: what its inputs are, and the payload that they are filled into."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta

from switchyard.events import subjects
from switchyard.services.broker.bucket import Form, Gone, Key, json_values

REFERENCE_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,62}(@([1-9][0-9]{0,8}|latest))?\Z"
"""`name`, `name@3` or `name@latest`."""
REFERENCE: Final = re.compile(REFERENCE_PATTERN)
INPUT_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}\Z"
POINTER_PATTERN: Final = r"^(/([^~/]|~[01])*){1,64}\Z"
"""A JSON Pointer below the root. Source: RFC 6901."""
MAX_INPUTS: Final = 200
MAX_PLACES: Final = 64
MAX_CHOICES: Final = 1000
MAX_SEED: Final = 2**53 - 1
SEED: Final = 2**32 - 1
"""The largest seed that is drawn where the input does not say: all back ends take it."""
MAX_TEXT: Final = 100_000

InputType = Literal["string", "integer", "number", "boolean", "file", "seed", "json"]
InputName = Annotated[str, Meta(pattern=INPUT_PATTERN)]
Pointer = Annotated[str, Meta(pattern=POINTER_PATTERN, max_length=1024)]
Text = Annotated[str, Meta(max_length=2000)]
CapabilityPath = Annotated[str, Meta(min_length=1, max_length=256)]


class Input(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a submission may say, and where in the payload it stands.

    Args:
        type: that of its value: `file` is the id of one, `seed` a number that is drawn where none is given.
        to: where it goes: JSON Pointers into the payload.
        title, description: for forms.
        default: what counts without it; without a default, what the payload has in its first place.
        required: whether it has to be given.
        min, max: the least and largest number; those of a seed bound what is drawn.
        max_chars: the most that a text may have.
        choices: the values that it may have.
        choices_from: the path of a capability of the workers of the kind, a list of what it may be.
        open: whether it may be something else than `choices_from` has now.
    """

    type: InputType
    to: Annotated[tuple[Pointer, ...], Meta(min_length=1, max_length=MAX_PLACES)]
    title: Text = ""
    description: Text = ""
    default: Any = UNSET
    required: bool = False
    min: float | int | None = None
    max: float | int | None = None
    max_chars: Annotated[int, Meta(ge=1, le=MAX_TEXT)] | None = None
    choices: (
        Annotated[tuple[str | int | float | bool, ...], Meta(min_length=1, max_length=MAX_CHOICES)] | None
    ) = None
    choices_from: CapabilityPath | None = None
    open: bool = False


class Count(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many jobs one submission makes."""

    max: Annotated[int, Meta(ge=1, le=10_000)]
    default: Annotated[int, Meta(ge=1, le=10_000)] = 1


class Template(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What makes jobs.

    Args:
        kind: that of the jobs.
        payload: what inputs are filled into; {} is written out.
        inputs: what a submission may say, by name.
        job: what else a job gets where its submission does not say, as in the body of a submission.
        count: how many jobs a submission may make; None for one.
        title, description: for people.
    """

    kind: str
    payload: dict[str, Any]
    inputs: dict[InputName, Input] = {}
    job: dict[str, Any] = {}
    count: Count | None = None
    title: str = ""
    description: str = ""


class Version(msgspec.Struct, frozen=True, kw_only=True, tag="version"):
    """A template as it was put at a time; it never changes.

    Args:
        tenant: whose it is.
        name: that of the workflow.
        number: from 1 up.
        template: what makes jobs.
        created_at: when it was put.
        created_by: the actor who did.
    """

    tenant: str
    name: str
    number: int
    template: Template
    created_at: datetime
    created_by: str


class Head(msgspec.Struct, frozen=True, kw_only=True, tag="workflow"):
    """A workflow as a whole.

    Args:
        tenant: whose it is.
        name: unlike any other of the tenant.
        latest: the number of its newest version.
        gone: the number of the newest version that was deleted; 0 for none. No number is used twice.
        kind, title: those of the newest version.
        updated_at: when it was last changed.
    """

    tenant: str
    name: str
    latest: int
    gone: int = 0
    kind: str = ""
    title: str = ""
    updated_at: datetime

    @property
    def is_there(self) -> bool:
        """Whether it has a version."""
        return self.latest > self.gone


class Reference(NamedTuple):
    """What a submission says of a workflow; number 0 stands for the newest version."""

    name: str
    number: int


HEAD: Final = "workflow"
VERSION: Final = "version"


def reference_of(text: str) -> Reference:
    """A name with or without a version.

    Raises:
        ValueError: it is neither.
    """
    if REFERENCE.fullmatch(text) is None:
        raise ValueError("a workflow was expected: name, name@3 or name@latest")
    name, _, number = text.partition("@")
    return Reference(name, int(number) if number.isdecimal() else 0)


def place_of(name: str, number: int) -> str:
    """A version as jobs name it."""
    return f"{name}@{number}"


def _check(key: Key) -> None:
    tenant, sort, _ = key
    if not subjects.is_name(tenant) or sort not in (HEAD, VERSION) or REFERENCE.fullmatch(key[2]) is None:
        raise ValueError("a tenant, a sort and a workflow were expected")


def _belongs(key: Key, value: Head | Version) -> None:
    is_head = isinstance(value, Head)
    place = value.name if is_head else place_of(value.name, value.number)  # type: ignore[union-attr]
    if key != (value.tenant, HEAD if is_head else VERSION, place):
        raise ValueError("it stands in another place than its own")


WORKFLOWS: Final[Form[Head | Version]] = Form(
    name=subjects.BUCKET_WORKFLOWS, parts=("tenant", "sort", "id"),
    values=json_values(Head | Version),  # type: ignore[arg-type]  # a union of two structs with tags
    check=_check, belongs=_belongs, gone=Gone("PURGE", rolls_up=True, ttl_s=3600),
)  # fmt: skip
