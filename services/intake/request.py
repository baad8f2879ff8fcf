"""What a request says of a job: the body of a submission, a line of many, and its idempotency key."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
import orjson
from msgspec import Meta

from switchyard.events.errors import InvalidError
from switchyard.events.subjects import NAME_PATTERN
from switchyard.events.values import ReviewRules
from switchyard.events.vocabulary.causes import DependencyFailure, ReviewDeadline
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.intake.bodies import decoded
from switchyard.services.records.kinds import (
    MAX_WAIT_S,
    AgeingRequest,
    Attempts,
    AttemptSeconds,
    Priority,
    RetryRequest,
    WaitSeconds,
)
from switchyard.services.records.workflows.record import REFERENCE_PATTERN

MAX_LIMITS: Final = 4
MAX_CHECKS: Final = 100

CheckName = Annotated[str, Meta(pattern=NAME_PATTERN)]
LimitName = Annotated[str, Meta(pattern=NAME_PATTERN)]


Time = Annotated[datetime, Meta(tz=True)]


class AutoAccept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which checks a proposal has to pass to be accepted at once."""

    checks: Annotated[list[CheckName], Meta(min_length=1, max_length=MAX_CHECKS)]


class ReviewRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a proposed result is judged, as in `switchyard.events.values.ReviewRules`."""

    auto_accept: AutoAccept | None = None
    deadline_s: WaitSeconds | None = None
    on_deadline: ReviewDeadline = ReviewDeadline.EXPIRE
    four_eyes: bool = True

    def rules(self) -> ReviewRules:
        """As events hold it."""
        checks = () if self.auto_accept is None else tuple(dict.fromkeys(self.auto_accept.checks))
        return ReviewRules(checks, self.deadline_s, self.on_deadline, self.four_eyes)


class JobRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a submission: of a kind, or of a workflow whose inputs make the payload.

    `Submitter` checks names, and what the settings limit.
    """

    kind: str = ""
    workflow: Annotated[str, Meta(pattern=REFERENCE_PATTERN)] | None = None
    inputs: dict[str, Any] = {}
    payload: dict[str, Any] = {}
    priority: Priority | msgspec.UnsetType = msgspec.UNSET
    labels: dict[str, Any] = {}
    max_attempts: Attempts | msgspec.UnsetType = msgspec.UNSET
    retry: RetryRequest | msgspec.UnsetType = msgspec.UNSET
    attempt_timeout_s: AttemptSeconds | None = None
    queue_timeout_s: WaitSeconds | None = None
    ageing: AgeingRequest | None = None
    run_at: Time | None = None
    start_at: Time | None = None
    delay_s: Annotated[float, Meta(ge=0, le=MAX_WAIT_S)] | None = None
    deadline_at: Time | None = None
    deadline_s: WaitSeconds | None = None
    requires: dict[str, Any] = {}
    prefers: dict[str, Any] = {}
    isolation: Literal["none", "loose", "strict"] = "none"
    limits: Annotated[list[LimitName], Meta(max_length=MAX_LIMITS)] = []
    depends_on: list[JobId] = []
    on_dependency_failure: DependencyFailure = DependencyFailure.DEAD
    max_rejections: Annotated[int, Meta(ge=1, le=100)] = 3
    review: ReviewRequest | None = None
    derive: bool = True
    erasable: bool = False
    erase_s: WaitSeconds | None = None


Key = Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,255}\Z")]


class BulkLine(JobRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of a bulk submission."""

    idempotency_key: Key | None = None


_REQUEST: Final = msgspec.json.Decoder(JobRequest)
_LINE: Final = msgspec.json.Decoder(BulkLine)
_WHOLE: Final = re.compile(rb"[0-9]\.0(?![0-9])|[0-9]e[0-9+]")
"""Finds every float that is a whole number, and some text that is none."""


def parse_request(body: bytes) -> JobRequest:
    """The body of a submission.

    Raises:
        RejectedError: as for `decoded`.
    """
    return decoded(body, _REQUEST)


def parse_line(body: bytes) -> BulkLine:
    """A line of a bulk submission.

    Raises:
        RejectedError: as for `decoded`.
    """
    return decoded(body, _LINE)


def parse_key(header: str) -> str:
    """The header `Idempotency-Key`.

    Raises:
        InvalidError: it is not 1 to 255 visible ASCII characters.
    """
    try:
        return msgspec.convert(header, Key)
    except msgspec.ValidationError:
        raise InvalidError(
            "Idempotency-Key: 1 to 255 visible ASCII characters were expected", field="Idempotency-Key"
        ) from None


def request_hashes(body: bytes) -> tuple[str, ...]:
    """The same for the same fields with the same values, in any order, spacing and form of numbers.

    The first is kept with a job. A second is the one of versions that distinguished 1 from 1.0.

    Raises:
        InvalidError: the body is nested too deeply, or is not JSON to the letter.
    """
    try:
        fields = orjson.loads(body)
        fields.pop("idempotency_key", None)
        canonical = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError) as error:
        raise InvalidError(f"the body cannot be written as JSON again: {error}", field="payload") from None
    written = hashlib.sha256(canonical).hexdigest()
    if _WHOLE.search(canonical) is None:
        return (written,)
    whole = orjson.dumps(_with_whole_numbers(fields), option=orjson.OPT_SORT_KEYS)
    return (hashlib.sha256(whole).hexdigest(), written)


def _with_whole_numbers(value: Any) -> Any:
    """The same value, with each whole number as an integer."""
    match value:
        case dict():
            return {name: _with_whole_numbers(inner) for name, inner in value.items()}
        case list():
            return [_with_whole_numbers(inner) for inner in value]
        case float() if value.is_integer() and -(2.0**63) <= value < 2.0**64:
            return int(value)
        case _:
            return value
