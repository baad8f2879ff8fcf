"""Bodies of the door's REST, in both generations; what else is in them is read by `submission`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType


class SubmitForm(msgspec.Struct, frozen=True, kw_only=True):
    """A job; `job_type` or `service_required` names what for."""

    payload: dict[str, Any]
    job_type: str | UnsetType | None = UNSET
    service_required: str | UnsetType | None = UNSET
    priority: int | float | str | UnsetType | None = UNSET
    job_id: str | UnsetType | None = UNSET
    wait: bool = False
    timeout: Annotated[float, Meta(ge=0, le=86400)] = 300
    requirements: dict[str, Any] | UnsetType | None = UNSET
    customer_id: str | UnsetType | None = UNSET
    max_retries: int | UnsetType | None = UNSET
    workflow_id: str | UnsetType | None = UNSET
    workflow_priority: int | float | UnsetType | None = UNSET
