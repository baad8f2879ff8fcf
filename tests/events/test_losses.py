"""How the last attempt of a dead job ended: as the event says it, not as a handler's code does."""

from __future__ import annotations

import pytest

from switchyard.events.commands import Fail
from switchyard.events.events import Dead
from switchyard.events.rules.ends import loss
from switchyard.events.values import JobError
from switchyard.events.vocabulary.causes import LOST, DeadReason
from switchyard.projections.attempts import outcome
from switchyard.services.telemetry.appends import _end_of
from tests.events.examples import NOW
from tests.events.histories import steps


@pytest.mark.parametrize("code", sorted(LOST))
@pytest.mark.parametrize("reason", [DeadReason.NOT_RETRYABLE, DeadReason.FAILURES_SPENT])
def test_a_handler_s_own_code_is_no_lost_lease(code: str, reason: DeadReason) -> None:
    event = Dead(at=NOW, reason=reason, error=JobError(code, "by the handler"), attempt_end="failed")
    assert (loss(event), outcome(event), _end_of(event)) == ("", "failed", "failed")


@pytest.mark.parametrize("code", sorted(LOST))
def test_a_log_that_does_not_say_more_is_read_by_the_code(code: str) -> None:
    event = Dead(at=NOW, reason=DeadReason.FAILURES_SPENT, error=JobError(code, "lost"))
    assert (loss(event), outcome(event), _end_of(event)) == (code, code, "lost")


def test_whatever_ends_an_attempt_for_good_says_how() -> None:
    seen = set()
    for step in steps():
        if isinstance(step.came, Dead) and step.job.lease is not None:
            is_failure = isinstance(step.command, Fail)
            seen.add(step.came.attempt_end)
            assert (step.came.attempt_end == "failed") >= is_failure, step
    assert seen >= {"failed", *LOST}
