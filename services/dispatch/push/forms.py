"""The profiles of prediction servers, as far as gateways know them: their options, and their callbacks.

How servers of a profile are called stands in `services/pusher/profiles`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from switchyard.events.encoding.json_value import check_json
from switchyard.events.errors import InvalidError
from switchyard.services.access.ticket_claims import OutcomeClaims
from switchyard.services.dispatch.push import cog, openai_options, report
from switchyard.services.dispatch.push.any_json import reading
from switchyard.services.dispatch.push.any_json.options import JsonOptions, plan_of
from switchyard.services.dispatch.push.cog import CogOptions
from switchyard.services.dispatch.push.openai_options import OpenAIOptions
from switchyard.services.dispatch.push.report import Heard
from switchyard.services.intake.faults import from_msgspec

MOST_OPTIONS_BYTES: Final = 16 * 1024
DEFAULT: Final = "task"


class Form(NamedTuple):
    """What a gateway has to know of a profile.

    Args:
        options: what the owner of a server may choose; unknown fields are refused.
        read: what a callback's body says of the attempt that its ticket is for. Raises InvalidError.
        check: refuses options that break a rule which the types do not say, or that do not serve these
            kinds of jobs. Raises InvalidError.
        read_by: reads callbacks in the place of `read` where the server's options say how; raises alike.
        has_files: whether callbacks bring files, and what cannot be kept of one ends the attempt, since the
            server would not send it in another way.
        health: what is asked whether a server is well whose owner does not say, by `endpoints.predict`.
    """

    options: type[msgspec.Struct]
    read: Callable[[bytes, OutcomeClaims], Heard]
    check: Callable[[Any, Sequence[str]], None] = lambda _, __: None
    health: Callable[[str], str | None] = lambda _: None
    read_by: Callable[[bytes, Any], Heard] | None = None
    has_files: bool = False


class TaskOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The options of profile `task`.

    Args:
        calls_back: whether a server may answer that it is at work, and call back; else it is asked to answer
            with the result.
    """

    calls_back: bool = True


def _task(raw: bytes, _: OutcomeClaims) -> Heard:
    body = report.body_of(raw)
    return Heard(report.called_back(body), report.remote_id_of(body))


def _silent(_raw: bytes, _: OutcomeClaims) -> Heard:
    raise InvalidError("servers of this profile do not call back")


def _json(raw: bytes, options: JsonOptions) -> Heard:
    return reading.called_back(plan_of(options), report.body_of(raw))


FORMS: Final[Mapping[str, Form]] = {
    DEFAULT: Form(TaskOptions, _task),
    "cog": Form(CogOptions, cog.called_back, health=cog.health_url, has_files=True),
    "openai": Form(
        OpenAIOptions, _silent, openai_options.check, lambda url: openai_options.url_of(url, "models")
    ),
    "json": Form(JsonOptions, _silent, lambda options, _: reading.check(options), read_by=_json),
}


def form_of(profile: str) -> Form:
    """The form of a profile; tickets from before there were several name none.

    Raises:
        InvalidError: it is not known here.
    """
    found = FORMS.get(profile.partition(".")[0] or DEFAULT)
    if found is None:
        raise InvalidError(f"profile: expected one of {', '.join(FORMS)}", field="profile")
    return found


def options_of(profile: str, given: Mapping[str, Any]) -> Any:
    """A server's options in the form of its profile.

    Raises:
        InvalidError: one is unknown, or is not what it should be; `field` names it.
    """
    form = form_of(profile)
    try:
        options = msgspec.convert(given, form.options)
    except msgspec.ValidationError as error:
        raise from_msgspec(error, within="options") from None
    return options


def check_options(profile: str, given: dict[str, Any], kinds: Sequence[str]) -> None:
    """Refuse options that are not those of the profile, or do not serve these kinds of jobs.

    Raises:
        InvalidError: they are not; `field` names the one.
    """
    check_json(given, "options")
    if len(msgspec.json.encode(given)) > MOST_OPTIONS_BYTES:
        message = f"options: at most {MOST_OPTIONS_BYTES} bytes were expected"
        raise InvalidError(message, field="options")
    form_of(profile).check(options_of(profile, given), kinds)
