"""What Octopoid's API answers, as structs. Times are text, in the forms that its clients know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an answer."""


class RefusalAnswer(Answer, frozen=True, kw_only=True):
    """What went wrong: `error` is a sentence, `details` what would be allowed."""

    error: str
    code: str
    field: str | UnsetType = UNSET
    details: Sequence[str] | UnsetType = UNSET


class Health(Answer, frozen=True, kw_only=True):
    """How the server is."""

    status: str
    version: str
    timestamp: str
    database: str
    registration: str


class TaskAnswer(Answer, frozen=True, kw_only=True):
    """A task: what its clients have said of it, and where its job stands."""

    file_path: Any
    title: str
    complexity: Any
    role: Any
    type: Any
    branch: Any
    project_id: Any
    auto_accept: Any
    hooks: str | None
    flow: Any
    flow_overrides: Any
    content: Any
    metadata: Any
    breakdown_depth: Any
    has_plan: Any
    plan_id: Any
    pr_number: Any
    pr_url: Any
    checks: Any
    check_results: Any
    needs_rebase: Any
    last_rebase_attempt_at: Any
    staging_url: Any
    needs_breakdown: Any
    review_round: Any
    execution_notes: Any
    needs_intervention: Any
    commits_count: Any
    turns_used: Any
    submitted_at: Any
    id: str
    queue: str
    priority: str
    scope: str
    blocked_by: str | None
    claimed_by: str | None
    orchestrator_id: str | None
    claimed_at: str | None
    lease_expires_at: str | None
    attempt_count: int
    rejection_count: int
    feedback: Any
    completed_at: Any
    created_at: str
    updated_at: str
    version: int
    job_id: str
    damage: str | None
    lease_id: str | None


class NoTask(Answer, frozen=True, kw_only=True):
    """Nothing to do."""

    message: str = "No tasks available"


class TaskPage(Answer, frozen=True, kw_only=True):
    """Tasks, `total` of them with the pages before and after."""

    tasks: Sequence[TaskAnswer]
    total: int
    offset: int
    limit: int


class ProjectTasks(Answer, frozen=True, kw_only=True):
    """The tasks of a project."""

    project_id: str
    tasks: Sequence[TaskAnswer]
    total: int


class TaskDeleted(Answer, frozen=True, kw_only=True):
    """A task that is no more."""

    message: str = "Task deleted"
    task_id: str


class ProvisionalTask(Answer, frozen=True, kw_only=True):
    """A task whose work waits for a decision."""

    id: str
    hooks: str | None
    pr_number: Any
    claimed_by: str | None


class FlowStates(Answer, frozen=True, kw_only=True):
    """The queues of a flow."""

    states: Sequence[str]


class Poll(Answer, frozen=True, kw_only=True):
    """What an orchestrator's scheduler wants to know."""

    queue_counts: Mapping[str, int]
    provisional_tasks: Sequence[ProvisionalTask]
    orchestrator_registered: bool
    scope: str
    flows: Mapping[str, FlowStates]


class Registered(Answer, frozen=True, kw_only=True):
    """An orchestrator that is registered; with the scope's key where that is new."""

    orchestrator_id: str
    registered_at: str
    status: str = "active"
    api_key: str | UnsetType = UNSET


class Beat(Answer, frozen=True, kw_only=True):
    """An orchestrator was heard of."""

    success: bool = True
    last_heartbeat: str


class OrchestratorAnswer(Answer, frozen=True, kw_only=True):
    """An orchestrator."""

    cluster: str
    machine_id: str
    repo_url: str
    scope: str
    hostname: str | None
    version: str | None
    capabilities: Mapping[str, Any] | None
    id: str
    registered_at: str
    last_heartbeat: str
    status: str


class OrchestratorList(Answer, frozen=True, kw_only=True):
    """Orchestrators, the last heard of first."""

    orchestrators: Sequence[OrchestratorAnswer]
    total: int


class KeyAnswer(Answer, frozen=True, kw_only=True):
    """A scope's new key."""

    api_key: str
    scope: str


class FlowAnswer(Answer, frozen=True, kw_only=True):
    """A flow: its queues and the ways between them."""

    name: str
    scope: str
    states: Sequence[str]
    transitions: Sequence[Mapping[str, Any]]
    description: str | None
    child_flow: Mapping[str, Any] | None
    registered_at: str
    updated_at: str


class FlowList(Answer, frozen=True, kw_only=True):
    """Flows by name."""

    flows: Sequence[FlowAnswer]


class FlowDeleted(Answer, frozen=True, kw_only=True):
    """A flow that is no more."""

    message: str = "Flow deleted"
    name: str
    scope: str


class Gone(Answer, frozen=True, kw_only=True):
    """What is no more."""

    message: str


class MessageAnswer(Answer, frozen=True, kw_only=True):
    """A message about a task."""

    id: str
    task_id: str
    from_actor: str
    to_actor: str | None
    type: str
    content: str
    parent_message_id: str | None
    created_at: str
    scope: str


class MessagePage(Answer, frozen=True, kw_only=True):
    """Messages, the oldest first, `total` of them with the pages before and after."""

    messages: Sequence[MessageAnswer]
    total: int
    offset: int
    limit: int


class ProjectAnswer(Answer, frozen=True, kw_only=True):
    """A project."""

    id: str
    title: str
    description: str | None
    status: str
    branch: str | None
    base_branch: str
    auto_accept: bool
    created_at: str
    created_by: str | None
    completed_at: str | None
    scope: str


class ProjectPage(Answer, frozen=True, kw_only=True):
    """Projects, the newest first."""

    projects: Sequence[ProjectAnswer]
    total: int
    offset: int
    limit: int


class DraftAnswer(Answer, frozen=True, kw_only=True):
    """A draft; `tags` is JSON in a string."""

    id: int
    title: str
    status: str
    author: str
    domain: str | None
    file_path: str | None
    created_at: str
    updated_at: str
    linked_task_id: str | None
    linked_project_id: str | None
    tags: str | None
    scope: str


class DraftPage(Answer, frozen=True, kw_only=True):
    """Drafts, the newest first."""

    drafts: Sequence[DraftAnswer]
    total: int
    offset: int
    limit: int


class ActionAnswer(Answer, frozen=True, kw_only=True):
    """An action; data, metadata and result as they were given."""

    id: str
    entity_type: str
    entity_id: str
    action_type: str
    label: str
    description: str | None
    status: str
    proposed_by: str | None
    proposed_at: str
    executed_at: str | None
    result: Any
    expires_at: str | None
    metadata: Any
    action_data: Any
    scope: str


class ActionPage(Answer, frozen=True, kw_only=True):
    """Actions, the last proposed first."""

    actions: Sequence[ActionAnswer]
    total: int
    offset: int
    limit: int


class RoleAnswer(Answer, frozen=True, kw_only=True):
    """A role that an orchestrator has registered."""

    name: str
    description: str | None
    claims_from: str
    orchestrator_id: str
    created_at: str


class RoleList(Answer, frozen=True, kw_only=True):
    """Roles by name."""

    roles: Sequence[RoleAnswer]


class ImportedRow(Answer, frozen=True, kw_only=True):
    """What became of a row: `made`, `there` from before, or `refused`; and what is to be said of it."""

    id: str
    outcome: str
    reason: str = ""


class Imported(Answer, frozen=True, kw_only=True):
    """What became of rows, in their order."""

    rows: Sequence[ImportedRow]
