"""The sorts of documents that a scope has, and what the lists of each go by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from switchyard.services.records.entries.documents import Document
from switchyard.services.records.entries.index import Facts, Group, Groups

TASK: Final = "task"
MESSAGE: Final = "message"
PROJECT: Final = "project"
DRAFT: Final = "draft"
ACTION: Final = "action"
ROLE: Final = "role"
COUNTER: Final = "counter"

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    MESSAGE: ("created_at", "id", "task_id", "to_actor", "type", "parent_message_id"),
    PROJECT: ("created_at", "id", "status", "created_by"),
    DRAFT: (
        "created_at", "id", "status", "author", "domain", "linked_task_id", "linked_project_id", "updated_at",
    ),
    ACTION: ("proposed_at", "id", "status", "entity_type", "entity_id", "expires_at", "executed_at"),
    ROLE: ("name", "orchestrator_id", "claims_from"),
}  # fmt: skip
"""By sort the fields that a list's rows have; the first is what it is ordered by."""

LARGE: Final = ("content", "execution_notes", "check_results", "metadata", "checks", "flow_overrides")
"""Fields of a task that no list needs, and that its row goes without."""


def _facts(names: tuple[str, ...]) -> Facts:
    def facts(document: Document) -> tuple[Any, ...]:
        return tuple(document.get(name) for name in names)

    return facts


def _task(document: Document) -> Document:
    fields = {name: value for name, value in document["fields"].items() if name not in LARGE}
    return document | {"fields": fields}


FACTS: Final[Mapping[str, Facts]] = {TASK: _task} | {sort: _facts(names) for sort, names in FIELDS.items()}

BLOCKED_BY: Final = "blocked_by"
GROUPED: Final[Mapping[str, tuple[str, ...]]] = {MESSAGE: ("task_id", "to_actor", "parent_message_id")}
"""By sort the fields by whose values documents are looked for without going through the others."""


def _by_value(names: tuple[str, ...]) -> Groups:
    def groups(document: Document) -> list[Group]:
        return [(name, str(value)) for name in names if (value := document.get(name)) is not None]

    return groups


def _by_blocker(document: Document) -> list[Group]:
    blockers = (document.get(BLOCKED_BY) or "").split(",")
    return [(BLOCKED_BY, name) for name in {blocker.strip() for blocker in blockers} if name]


GROUPS: Final[Mapping[str, Groups]] = {TASK: _by_blocker} | {
    sort: _by_value(names) for sort, names in GROUPED.items()
}
