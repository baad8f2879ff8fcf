"""Bodies of the task door, in both generations of its API, which their fields distinguish."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from switchyard.services.intake.faults import from_msgspec

MIDDLE: Final = 50
MOST: Final = 100
BATCH: Final = 100

Priority = Annotated[float, Meta(ge=-1e6, le=1e6)]
Capability = Annotated[str, Meta(min_length=1, max_length=100)]


class TaskForm(msgspec.Struct, frozen=True, kw_only=True):
    """A new task: of the second generation where there is a `payload`, else of the first."""

    mimeType: str | UnsetType = UNSET  # noqa: N815 - as its clients write it
    model: str | UnsetType = UNSET
    video_quality: str | UnsetType = UNSET
    video_url: str | UnsetType = UNSET
    enable_upscale: bool | UnsetType = UNSET
    payload: dict[str, Any] | UnsetType = UNSET
    type: str | UnsetType = UNSET
    capabilities: list[Capability] | UnsetType | None = UNSET
    is_async: bool | UnsetType = msgspec.field(default=UNSET, name="async")
    priority: Priority | UnsetType = UNSET


class VideoRequest(msgspec.Struct, frozen=True):
    """A task of the first generation; all of it is required."""

    mimeType: str  # noqa: N815
    model: str
    video_quality: str
    video_url: str
    enable_upscale: bool


class WorkRequest(msgspec.Struct, frozen=True):
    """A task of the second generation, with what stands for what is not there."""

    payload: dict[str, Any]
    type: str = "video-processing"
    priority: float = 0
    capabilities: list[str] = []
    is_async: bool = msgspec.field(default=True, name="async")


def request_of(form: TaskForm) -> VideoRequest | WorkRequest:
    """What a body asks for.

    Raises:
        InvalidError: a field is missing.
    """
    fields: dict[str, Any] = msgspec.to_builtins(form)
    if fields.get("capabilities", 0) is None:
        del fields["capabilities"]
    try:
        if form.payload is UNSET:
            return msgspec.convert(fields, VideoRequest)
        return msgspec.convert(fields, WorkRequest)
    except msgspec.ValidationError as error:
        raise from_msgspec(error) from None


def priority_of(form: TaskForm) -> int:
    """A job's priority: 0 there is the middle here, and more is sooner."""
    asked = 0.0 if form.priority is UNSET else form.priority
    return round(min(MOST, max(0, MIDDLE + asked)))


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a server of the first generation says beside its result."""

    server_id: str
    status: str
    processing_time: float | UnsetType = UNSET
    model_time: float | UnsetType = UNSET
    queue_time: float | UnsetType = UNSET
    progress: float | UnsetType = UNSET
    message: str | UnsetType | None = UNSET
    custom_data: Any = UNSET


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A report on a task: of the first generation where there is `metadata`, else of the second."""

    backend_task_id: str | UnsetType = UNSET
    data: dict[str, Any] | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET
    status: str | UnsetType = UNSET
    result: Any = UNSET
    progress: float | UnsetType | None = UNSET
    error: str | UnsetType | None = UNSET


class BatchTask(TaskForm, frozen=True, kw_only=True):
    """A task of a batch; the same key again makes no other one."""

    idempotencyKey: str | UnsetType = UNSET  # noqa: N815


class BatchForm(msgspec.Struct, frozen=True):
    """Tasks that are made together; each is read by itself."""

    tasks: Annotated[list[Any], Meta(min_length=1, max_length=BATCH)]
