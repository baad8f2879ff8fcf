"""Parts of a job: what a planning attempt has left for them, and what they have of their job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from switchyard.events.encoding.nesting import deeper_than
from switchyard.events.errors import InvalidError
from switchyard.events.rules.parts import check_number
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import JobId
from switchyard.events.vocabulary.refusals import RefusalCode
from switchyard.services.intake.request import JobRequest, request_hashes

PLAN: Final = "parts.json"
"""The name of the artifact that holds the plan."""
OPERATION: Final = "part"
"""The word by which parts come, in the ledger: what is counted by documents has them in their job."""
LABEL: Final = "parent"
"""The label of a part that names its job, by which the parts of a job are listed."""
PLAN_BYTES: Final = 33 * 1024 * 1024
MAX_LEVELS: Final = 128


class Whole(NamedTuple):
    """A job that has ended in parts.

    Args:
        id: the job's id.
        spec: as it was submitted.
        priority: the one that it has now.
    """

    id: JobId
    spec: JobSpec
    priority: int


class PlannedPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a part is to do.

    Args:
        name: unlike that of any other part of the job.
        kind: that of its job.
        payload: the job's.
        requires: what a worker must have.
        prefers: what ranks the workers that fit.
    """

    name: str
    kind: str
    payload: dict[str, Any] = {}
    requires: dict[str, Any] = {}
    prefers: dict[str, Any] = {}

    def body(self) -> bytes:
        """By which its submission is known again."""
        fields = {"kind": self.kind, "payload": self.payload}
        return orjson.dumps({**fields, "requires": self.requires, "prefers": self.prefers})

    def digest(self) -> str:
        """The hash of its request, as the state of its job has it."""
        return request_hashes(self.body())[0]


_PLAN: Final = msgspec.json.Decoder(list[PlannedPart])


def encode_plan(parts: Sequence[PlannedPart]) -> bytes:
    """The parts as they are stored."""
    return msgspec.json.encode(parts)


def decode_plan(body: bytes) -> list[PlannedPart]:
    """The parts of a plan.

    Raises:
        InvalidError: code `invalid_part`, `no_parts` or `too_many_parts`.
    """
    if deeper_than(body, MAX_LEVELS):
        rule = f"nested deeper than {MAX_LEVELS} levels"
        raise InvalidError(f"parts: {rule}", code=RefusalCode.INVALID_PART, field="parts")
    try:
        found = _PLAN.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        rule = str(error).encode(errors="backslashreplace").decode().replace("`", "")
        raise InvalidError(f"parts: {rule}", code=RefusalCode.INVALID_PART, field="parts") from None
    check_number(len(found))
    return found


def request_of(part: PlannedPart, whole: Whole) -> JobRequest:
    """The submission of a part; what it has of its job beside that, `as_part` says."""
    isolation: Any = whole.spec.isolation.partition(":")[0]
    return JobRequest(
        kind=part.kind, payload=part.payload, requires=part.requires, prefers=part.prefers,
        labels={LABEL: whole.id}, isolation=isolation, erasable=whole.spec.erasable,
    )  # fmt: skip


def as_part(spec: JobSpec, whole: Whole) -> JobSpec:
    """A part's specification, from that of any job like it: it ends, and is erased, no later than its job."""
    of = whole.spec
    deadlines = [at for at in (spec.deadline_at, of.deadline_at) if at is not None]
    bounds = [seconds for seconds in (spec.erase_s, of.erase_s) if seconds is not None]
    return msgspec.structs.replace(
        spec, parent=whole.id, depth=of.depth + 1, priority=max(spec.priority, whole.priority),
        deadline_at=min(deadlines, default=None), operation=OPERATION,
        erase_s=min(bounds, default=None) if spec.erasable else None,
    )  # fmt: skip
