"""What Replicate's clients ask for: bodies, and the headers that go with them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from switchyard.events.errors import InvalidError, RejectedError
from switchyard.services.intake.faults import MalformedError
from switchyard.services.records.kinds import MAX_WAIT_S

PREFER: Final = "Prefer"
CANCEL_AFTER: Final = "Cancel-After"
MOST_S: Final = 60
LEAST_CANCEL_S: Final = 5
WEBHOOKS: Final = ("webhook", "webhook_completed")
_SPAN: Final = re.compile(r"(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s?)?")
_DIGITS: Final = re.compile(r"[0-9]{1,9}")
SHOWN_CHARS: Final = 80


class ModelForm(msgspec.Struct, frozen=True, kw_only=True):
    """A new prediction of a model; fields that are not known are passed over."""

    input: dict[str, Any]
    stream: bool | UnsetType | None = UNSET
    webhook: Any = None
    webhook_completed: Any = None
    webhook_events_filter: Any = None

    def check(self) -> None:
        """Refuse what would not be done.

        Raises:
            InvalidError: a webhook is wanted.
        """
        for name in WEBHOOKS:
            if getattr(self, name) is not None:
                raise InvalidError(f"{name}: this server calls no webhooks; wait, poll or stream", field=name)


class VersionForm(ModelForm, frozen=True, kw_only=True):
    """A new prediction of what `version` names."""

    version: Annotated[str, Meta(min_length=1, max_length=400)]


def wait_of(request: web.Request) -> int | None:
    """How many seconds `Prefer: wait` asks to wait, at most `MOST_S`; None where it asks for none.

    Raises:
        MalformedError: it is not a number of seconds.
    """
    for name, equals, value in _preferences(request):
        if name != "wait":
            continue
        if not equals:
            return MOST_S
        if _DIGITS.fullmatch(value) is None or int(value) < 1:
            shown = value[:SHOWN_CHARS]
            message = f"{PREFER}: wait takes a whole number of seconds from 1 on, not {shown!r}"
            raise MalformedError(message, code="invalid_parameter", field=PREFER)
        return min(int(value), MOST_S)
    return None


def asked_s(request: web.Request) -> float:
    """The same; 0 where it is malformed, which the handler refuses."""
    try:
        return float(wait_of(request) or 0)
    except RejectedError:
        return 0.0


def _preferences(request: web.Request) -> Iterator[tuple[str, str, str]]:
    """Source: RFC 7240, section 2; the first of two of a name counts."""
    for one in ",".join(request.headers.getall(PREFER, ())).split(","):
        name, equals, value = one.partition(";")[0].strip().partition("=")
        yield name.strip().lower(), equals, value.strip().strip('"')


def cancel_after_s(request: web.Request) -> float | None:
    """Seconds after which `Cancel-After` wants the prediction ended, such as `90`, `5m` or `1h30m`.

    Raises:
        MalformedError: it is no span, or too short or long a one.
    """
    text = request.headers.get(CANCEL_AFTER)
    if text is None:
        return None
    found = _SPAN.fullmatch(text.strip())
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    span_s = float(hours * 3600 + minutes * 60 + seconds)
    if not LEAST_CANCEL_S <= span_s <= MAX_WAIT_S:
        shown = text[:SHOWN_CHARS]
        rule = f"{LEAST_CANCEL_S} s or more, such as 90, 5m or 1h30m,"
        message = f"{CANCEL_AFTER}: {rule} was expected, not {shown!r}"
        raise MalformedError(message, code="invalid_parameter", field=CANCEL_AFTER)
    return span_s
