"""The tables of commands and of allowed actions against what `decide` does with jobs of every history."""

from __future__ import annotations

import functools
from typing import Final

import msgspec
import pytest

from switchyard.events import commands as c
from switchyard.events.allowed import allowed_commands
from switchyard.events.errors import ConflictError, RejectedError
from switchyard.events.events import NAMES
from switchyard.events.job import decide
from switchyard.events.transitions import COMMANDS, IGNORED, REJECTED, TRANSITIONS, outcomes
from switchyard.events.values import Status
from tests.events.histories import Step, answer, steps

ACTIONS: Final[dict[str, type[c.Command]]] = {
    "claim": c.Claim, "renew": c.RenewClaim, "succeed": c.Complete, "fail": c.Fail, "release": c.Release,
    "propose": c.Propose, "part": c.FanOut, "cancel": c.RequestCancel, "reprioritise": c.Reprioritise,
    "claim_review": c.ClaimReview, "release_review": c.ReleaseReview, "accept": c.Accept, "reject": c.Reject,
    "redrive": c.Redrive, "discard": c.Discard, "archive": c.Archive,
}  # fmt: skip
"""The actions of the API, and the command that each becomes."""


def word(step: Step) -> str:
    if isinstance(step.came, RejectedError):
        return REJECTED
    return IGNORED if step.came is None else NAMES[type(step.came)]


@functools.cache
def seen() -> dict[tuple[type[c.Command], Status], set[str]]:
    """All that came of each command in each state."""
    found = dict[tuple[type[c.Command], Status], set[str]]()
    for step in steps():
        found.setdefault((type(step.command), step.job.status), set()).add(word(step))
    return found


def test_every_command_was_tried_in_every_state() -> None:
    assert set(COMMANDS) == set(c.AnyCommand.__args__)
    assert seen().keys() == {(command, status) for command in COMMANDS for status in Status}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_what_comes_of_a_command_is_what_the_table_says_all_of_it_and_no_more(
    command: type[c.Command],
) -> None:
    found = seen()
    for status in Status:
        assert found[command, status] == set(outcomes(command, status)), status


def test_both_tables_name_the_same_ways() -> None:
    """What a command may record in a state, the table of events lets happen there, and nothing else."""
    recorded = {
        (event, status)
        for command in COMMANDS
        for status in Status
        for event in outcomes(command, status)
        if event not in (IGNORED, REJECTED)
    }
    assert recorded == {(event, status) for event, (sources, _) in TRANSITIONS.items() for status in sources}


@pytest.mark.parametrize("status", Status)
def test_a_refusal_names_the_actions_that_the_state_allows(status: Status) -> None:
    """An action that changes the job is named, and one that is named is never refused for the state."""
    found = seen()
    named = set(allowed_commands(status))
    assert named <= ACTIONS.keys()
    for action, command in ACTIONS.items():
        changes = found[command, status] - {IGNORED, REJECTED}
        if changes:
            assert action in named, f"{action} changes a job that is {status}"
        if action in named:
            assert found[command, status] != {REJECTED}, f"{action} is always refused"
    refusals = [step.came for step in steps() if step.job.status is status]
    for refusal in refusals:
        if isinstance(refusal, ConflictError) and refusal.code == "illegal_transition":
            assert refusal.allowed == allowed_commands(status)


def test_a_command_with_another_fence_is_rejected_or_ignored_in_every_state() -> None:
    tried = set()
    for step in steps():
        fence = getattr(step.command, "fence", None)
        if fence is None:
            continue
        stale = msgspec.structs.replace(step.command, fence=fence + 1000)
        came = answer(step.job, stale)
        if isinstance(stale, c.LoseLease | c.LoseBackend):
            assert came is None
        else:
            assert isinstance(came, ConflictError)
            assert came.code == ("lease_lost" if step.job.lease else "illegal_transition")
        tried.add((type(stale), step.job.status))
    assert len(tried) == 11 * len(Status)


def test_an_ignored_command_leaves_no_trace_and_is_ignored_again() -> None:
    for step in steps():
        if step.came is None:
            assert decide(step.job, step.command) is None
