"""What RunPod's clients ask for."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from switchyard.events.errors import InvalidError
from switchyard.services.gateway.http.query import wrong

WAIT: Final = "wait"
WAIT_MS: Final = 90_000
MOST_WAIT_MS: Final = 300_000
MOST_MS: Final = 7 * 86_400_000
LOW: Final = 25
"""The priority of what has `lowPriority`; the middle is 50."""
_DIGITS: Final = re.compile(r"[0-9]{1,9}")

Milliseconds = Annotated[int, Meta(ge=1, le=MOST_MS)]


class Policy(msgspec.Struct, frozen=True):
    """How long a job may take: one attempt, and all of it, in milliseconds; whether others go before it."""

    executionTimeout: Milliseconds | UnsetType | None = UNSET  # noqa: N815 - as its clients write it
    ttl: Milliseconds | UnsetType | None = UNSET
    lowPriority: bool | UnsetType | None = UNSET  # noqa: N815

    def fields(self) -> dict[str, Any]:
        """The fields of a submission that it stands for."""
        found: dict[str, Any] = {}
        if self.executionTimeout:
            found["attempt_timeout_s"] = self.executionTimeout / 1000
        if self.ttl:
            found["deadline_s"] = self.ttl / 1000
        if self.lowPriority is True:
            found["priority"] = LOW
        return found


class RunForm(msgspec.Struct, frozen=True, kw_only=True):
    """A new job; fields that are not known are passed over."""

    input: dict[str, Any]
    policy: Policy | None = None
    webhook: Any = None
    s3Config: Any = None  # noqa: N815

    def check(self) -> None:
        """Refuse what would not be done.

        Raises:
            InvalidError: a webhook, or storage of the client's own, is wanted.
        """
        if self.webhook is not None:
            raise InvalidError(
                "webhook: this server calls none; use runsync, or ask for status", field="webhook"
            )
        if self.s3Config is not None:
            raise InvalidError("s3Config: this server stores files itself", field="s3Config")


def wait_s(request: web.Request) -> float:
    """Seconds that `?wait=` in milliseconds asks to wait.

    Raises:
        MalformedError: it is not a number of milliseconds, or too high.
    """
    text = request.query.get(WAIT)
    if text is None:
        return WAIT_MS / 1000
    if _DIGITS.fullmatch(text) is None or int(text) > MOST_WAIT_MS:
        raise wrong(WAIT, text, f"a whole number of milliseconds of 0 to {MOST_WAIT_MS}")
    return int(text) / 1000


def asked_s(request: web.Request) -> float:
    """The same; 0 where it is malformed, which the handler refuses."""
    text = request.query.get(WAIT, str(WAIT_MS))
    return min(int(text), MOST_WAIT_MS) / 1000 if _DIGITS.fullmatch(text) else 0.0
