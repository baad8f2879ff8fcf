"""Rows of the database of Octopoid's own server, and the documents that they become.

Source: octopoid-server 73d3511, `migrations/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import orjson
from msgspec import Meta

from switchyard.events.errors import InvalidError
from switchyard.services.gateway.doors.octopoid.desk import now, shown
from switchyard.services.gateway.doors.octopoid.kept.room import time_of
from switchyard.services.gateway.doors.octopoid.kept.sorts import ACTION, DRAFT, MESSAGE, PROJECT
from switchyard.services.records.entries.documents import Document

Id = Annotated[str, Meta(min_length=1, max_length=255)]
Word = Annotated[str, Meta(max_length=2000)]
DateText = Annotated[str, Meta(max_length=64)]
Flag = bool | int | None


class Row(msgspec.Struct, frozen=True):
    """A row; columns that it does not name are passed over."""

    def kept(self) -> Document:
        """The document that it becomes, without its scope.

        Raises:
            InvalidError: a date in it is none.
        """
        return msgspec.structs.asdict(self)


class MessageRow(Row, frozen=True):
    """A row of `messages`."""

    id: Id
    task_id: Id
    from_actor: Id
    type: Id
    content: str
    to_actor: Id | None = None
    parent_message_id: Id | None = None
    created_at: DateText | None = None

    def kept(self) -> Document:
        """The document."""
        return super().kept() | {"created_at": moment("created_at", self.created_at) or now()}


class ProjectRow(Row, frozen=True):
    """A row of `projects`."""

    id: Id
    title: Word
    description: str | None = None
    status: Id | None = None
    branch: Word | None = None
    base_branch: Word | None = None
    auto_accept: Flag = None
    created_at: DateText | None = None
    created_by: Word | None = None
    completed_at: DateText | None = None

    def kept(self) -> Document:
        """The document."""
        return super().kept() | {
            "status": self.status or "draft", "base_branch": self.base_branch or "main",
            "auto_accept": bool(self.auto_accept),
            "created_at": moment("created_at", self.created_at) or now(),
        }  # fmt: skip


class DraftRow(Row, frozen=True):
    """A row of `drafts`."""

    id: Annotated[int, Meta(ge=1, lt=10**15)]
    title: Word
    author: Word
    status: Id | None = None
    domain: Word | None = None
    file_path: Annotated[str, Meta(max_length=4096)] | None = None
    created_at: DateText | None = None
    updated_at: DateText | None = None
    linked_task_id: Id | None = None
    linked_project_id: Id | None = None
    tags: Word | None = None

    def kept(self) -> Document:
        """The document."""
        created_at = moment("created_at", self.created_at) or now()
        return super().kept() | {
            "status": self.status or "idea", "created_at": created_at,
            "updated_at": moment("updated_at", self.updated_at) or created_at,
        }  # fmt: skip


class ActionRow(Row, frozen=True):
    """A row of `actions`."""

    id: Id
    entity_type: Id
    entity_id: Id
    action_type: Id
    label: Word
    description: str | None = None
    status: Id = "proposed"
    proposed_by: Word | None = None
    proposed_at: DateText | None = None
    executed_at: DateText | None = None
    result: str | None = None
    expires_at: DateText | None = None
    metadata: str | None = None
    action_data: str | None = None

    def kept(self) -> Document:
        """The document."""
        return super().kept() | {
            "proposed_at": moment("proposed_at", self.proposed_at) or now(),
            "executed_at": moment("executed_at", self.executed_at),
        }  # fmt: skip


class FlowRow(Row, frozen=True):
    """A row of `flows`; both lists are JSON in a string."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    states: str
    transitions: str
    registered_at: DateText | None = None
    updated_at: DateText | None = None


class TaskRow(Row, frozen=True):
    """A row of `tasks`."""

    id: Annotated[str, Meta(min_length=1, max_length=200)]
    file_path: Annotated[str, Meta(min_length=1, max_length=4096)]
    title: str | None = None
    queue: Annotated[str, Meta(min_length=1, max_length=100)] = "incoming"
    priority: str | None = None
    complexity: str | None = None
    role: Annotated[str, Meta(max_length=100)] | None = None
    type: Annotated[str, Meta(max_length=100)] | None = None
    branch: str | None = None
    blocked_by: str | None = None
    claimed_by: str | None = None
    project_id: str | None = None
    auto_accept: Flag = None
    has_plan: Flag = None
    plan_id: str | None = None
    hooks: str | None = None
    flow: Annotated[str, Meta(max_length=100)] | None = None
    flow_overrides: str | None = None
    content: str | None = None
    commits_count: int | None = None
    turns_used: int | None = None
    attempt_count: Annotated[int, Meta(ge=0)] | None = None
    rejection_count: Annotated[int, Meta(ge=0)] | None = None
    pr_number: int | None = None
    pr_url: str | None = None
    checks: str | None = None
    check_results: str | None = None
    needs_rebase: Flag = None
    last_rebase_attempt_at: DateText | None = None
    staging_url: str | None = None
    needs_breakdown: Flag = None
    review_round: int | None = None
    execution_notes: str | None = None
    needs_intervention: Flag = None
    submitted_at: DateText | None = None
    completed_at: DateText | None = None
    created_at: DateText | None = None
    updated_at: DateText | None = None


FORMS: Final[Mapping[str, type[Row]]] = {
    MESSAGE: MessageRow, PROJECT: ProjectRow, DRAFT: DraftRow, ACTION: ActionRow,
}  # fmt: skip


def moment(name: str, text: str | None) -> str | None:
    """A date of the database, which is in UTC, as dates are written here; None for none.

    Raises:
        InvalidError: it is none.
    """
    if not text:
        return None
    at = time_of(text)
    if at is None:
        raise InvalidError(f"{name}: {text[:64]!r} is no date", field=name)
    return shown(at)


def listed(name: str, text: str) -> Any:
    """What stands as JSON in a string.

    Raises:
        InvalidError: it is no JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidError(f"{name}: JSON in a string was expected", field=name) from None
