"""What the events of a job that can be erased do not hold: the log keeps every byte for good."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from switchyard.events.commands import AnyCommand, Complete, Fail, FanOut, Propose, RefusePart
from switchyard.events.errors import InvalidError
from switchyard.events.outcome import INVALID_ARTIFACTS, INVALID_ERROR, INVALID_USAGE
from switchyard.events.state import Job
from switchyard.events.subjects import JOB_ID
from switchyard.events.values import RESULT_ARTIFACT, JobError

CUT: Final = "the job can be erased, so its messages are not kept"
UNTYPED: Final = "application/octet-stream"
_WORD: Final = re.compile(r"[a-z0-9_.-]{1,64}")
_FILE: Final = re.compile(rf"[^.]+\.[0-9]+\.([0-9a-f]{{32}}|{re.escape(RESULT_ARTIFACT)})")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def without_content(job: Job, command: AnyCommand) -> AnyCommand:
    """The command without what it says of the job's content.

    The code of an error stays, and of an artifact its file, size and digest.

    Raises:
        InvalidError: code `inline_result`; a result comes with it, which has to be an artifact. Or code
            `invalid_usage` or `invalid_artifacts`, as for `check_outcome`.
    """
    match command:
        case Fail(error=error):
            code = error.code if _WORD.fullmatch(error.code) else INVALID_ERROR
            return replace(command, error=JobError(code, CUT, retryable=error.retryable))
        case Complete(result=result) | Propose(result=result) if result is not None:
            message = f"job {job.id} can be erased: its result has to be an artifact, {RESULT_ARTIFACT}"
            raise InvalidError(message, code="inline_result", field="result")
        case Complete() | Propose():
            check_outcome(command.artifacts, command.usage)
            return replace(command, artifacts=tuple(_unnamed(command.artifacts)))
        case FanOut(usage=usage):
            check_outcome((), usage)
            return command
        case RefusePart():
            return replace(command, message=CUT)
        case _:
            return command


def check_outcome(artifacts: Iterable[Mapping[str, Any]], usage: Mapping[str, float]) -> None:
    """Refuse what would bring content into events by a place that is for something else.

    Args:
        artifacts: references to files.
        usage: amounts by unit.

    Raises:
        InvalidError: code `invalid_usage`, a unit is no word of `[a-z0-9_.-]{1,64}`; or `invalid_artifacts`,
            a reference is not to a file that can be erased.
    """
    for unit in usage:
        if not _WORD.fullmatch(unit):
            rule = f"the job can be erased, so units are words of {_WORD.pattern}"
            raise InvalidError(f"usage: {rule}", code=INVALID_USAGE, field="usage")
    for at, one in enumerate(artifacts):
        file, digest = str(one.get("file")), str(one.get("sha256"))
        if not (_FILE.fullmatch(file) or JOB_ID.fullmatch(file)) or not _DIGEST.fullmatch(digest):
            rule = "the job can be erased, so what saving a file of it answered was expected"
            raise InvalidError(f"artifacts[{at}]: {rule}", code=INVALID_ARTIFACTS, field=f"artifacts[{at}]")


def _unnamed(artifacts: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """References with a number for a name, but that of the result."""
    for number, one in enumerate(artifacts, 1):
        if one.get("name") == RESULT_ARTIFACT:
            yield {**one, "type": "application/json"}
        else:
            yield {**one, "name": f"artifact-{number}", "type": UNTYPED}
