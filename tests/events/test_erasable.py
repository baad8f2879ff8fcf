from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from switchyard.events.commands import AnyCommand, Complete, Fail, Propose
from switchyard.events.errors import InvalidError
from switchyard.events.rules.erasable import CUT, UNTYPED, without_content
from switchyard.events.state import Job
from switchyard.events.values import RESULT_ARTIFACT, JobError
from switchyard.events.vocabulary.ids import Fence, JobId
from tests.events.examples import NOW

JOB = replace(Job(id=JobId("01890a5d-ac96-774b-bcce-b302099a8057")), erasable=True)
FENCE = Fence(2)
FILE = f"{JOB.id}.2.{'a' * 32}"


def artifact(**fields: Any) -> dict[str, Any]:
    return {"file": FILE, "name": "ann.png", "type": "image/png", "sha256": "0" * 64, **fields}


def done(**fields: Any) -> AnyCommand:
    return without_content(JOB, Complete(now=NOW, fence=FENCE, **{"result": None, **fields}))


@pytest.mark.parametrize(
    ("code", "kept"), [("out_of_memory", "out_of_memory"), ("Ann is 47", "invalid_error")]
)
def test_an_error_keeps_its_code_where_that_is_a_word_and_nothing_else(code: str, kept: str) -> None:
    command = Fail(now=NOW, fence=FENCE, error=JobError(code, "Ann", retryable=True))
    assert without_content(JOB, command) == replace(command, error=JobError(kept, CUT, retryable=True))


@pytest.mark.parametrize("kind", [Complete, Propose])
def test_a_result_has_to_be_an_artifact(kind: type[Complete | Propose]) -> None:
    with pytest.raises(InvalidError) as refused:
        without_content(JOB, kind(now=NOW, fence=FENCE, result={"name": "Ann"}))
    assert (refused.value.code, refused.value.field) == ("inline_result", "result")


def test_artifacts_have_numbers_for_names_but_the_result() -> None:
    result = artifact(file=f"{JOB.id}.2.{RESULT_ARTIFACT}", name=RESULT_ARTIFACT, type="a/b")
    command = done(artifacts=(artifact(), result, artifact(file=JOB.id)), usage={"pages": 1})
    assert isinstance(command, Complete)
    assert [(one["name"], one["type"]) for one in command.artifacts] == [
        ("artifact-1", UNTYPED), (RESULT_ARTIFACT, "application/json"), ("artifact-3", UNTYPED),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"usage": {"Ann is 47": 1}}, "invalid_usage"),
        ({"usage": {"x" * 65: 1}}, "invalid_usage"),
        ({"artifacts": (artifact(file="ann.png"),)}, "invalid_artifacts"),
        ({"artifacts": (artifact(file=f"{JOB.id}.2.ann.png"),)}, "invalid_artifacts"),
        ({"artifacts": (artifact(), artifact(sha256="ann"))}, "invalid_artifacts"),
    ],
)
def test_no_place_for_something_else_takes_content(fields: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidError) as refused:
        done(**fields)
    assert refused.value.code == code
