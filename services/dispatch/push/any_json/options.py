"""The options of a server of profile `json`: how a job becomes a request, and answers become outcomes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import quote

import msgspec
from msgspec import Meta

from switchyard.events.errors import InvalidError
from switchyard.services.access.server_credentials import OURS
from switchyard.services.dispatch.push import report
from switchyard.services.dispatch.push.any_json.paths import Path, path_of
from switchyard.services.dispatch.push.any_json.template import Template

VALUES: Final = ("payload", "task_id", "job_id", "kind", "callback_url")
"""What a body may be made of."""
LATER: Final = ("remote_id", "task_id", "job_id", "kind")
"""What is known of a task that a server has."""
MAX_HEADERS: Final = 16
HEADER_CHARS: Final = 1024
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_PATH: Final = re.compile(r"/[\x21\x24-\x5b\x5d-\x7e]*")
"""Visible ASCII without a quote, `#` and the backslash."""
_SAMPLE: Final = {"remote_id": "r", "task_id": "t", "job_id": "j", "kind": "k", "callback_url": "https://c"}

Text = Annotated[str, Meta(max_length=512)]
Words = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...], Meta(max_length=32)]
Unit = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,62}\Z")]
Units = Annotated[dict[Unit, Text], Meta(max_length=32)]
Interval = Annotated[float, Meta(ge=0.5, le=300)]


class Poll(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a task is asked after.

    Args:
        path: where, at the origin of `endpoints.predict`: `/tasks/{{remote_id}}`.
        interval_s: seconds from one question to the next.
        method: how.
    """

    path: Text
    interval_s: Interval = 2.0
    method: Literal["GET", "POST"] = "GET"


class Cancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a task is cancelled, at `endpoints.cancel` or at a path of its own.

    Args:
        path: where, at the origin of `endpoints.predict`.
        method: how.
        body: a template; None for none.
    """

    path: Text | None = None
    method: Literal["POST", "PUT", "PATCH", "DELETE"] = "POST"
    body: Any = None


class JsonOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an owner says of a server.

    Args:
        body: a template of what is sent.
        method: how.
        headers: templates of headers beside the credentials; they are no secret.
        mode: whether the answer is the result, whether the server is asked for it, or calls back.
        result: the path of the result.
        error: that of what went wrong; where something stands there, the task has failed.
        progress: that of how far it is: 0 to 1, or per cent.
        message: that of what is shown with it.
        status: that of a word that says how the task stands.
        running: words for a task that is at work; another word that is unknown is one of these.
        done: words for one that has its result.
        failed: words for one that has failed.
        stopped: words for one that was stopped.
        remote_id: the path of what the server calls the task.
        usage: paths of numbers, by the name under which they are kept.
        poll: how it is asked after the task.
        cancel: how the task is cancelled.
        sample: a payload that the templates are tried with when the server is registered.
        sample_answer: an answer that the paths are tried with.
    """

    body: Any = "{{payload}}"
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    headers: dict[str, Text] = {}
    mode: Literal["sync", "poll", "callback"] = "sync"
    result: Text = ""
    error: Text | None = None
    progress: Text | None = None
    message: Text | None = None
    status: Text | None = None
    running: Words = tuple(sorted(report.RUNNING))
    done: Words = tuple(sorted(report.DONE))
    failed: Words = tuple(sorted(report.FAILED))
    stopped: Words = tuple(sorted(report.STOPPED))
    remote_id: Text | None = None
    usage: Units = {}
    poll: Poll | None = None
    cancel: Cancel | None = None
    sample: dict[str, Any] | None = None
    sample_answer: dict[str, Any] | None = None


class Paths(NamedTuple):
    """Where things stand in an answer; None for what is not looked for."""

    result: Path
    error: Path | None
    progress: Path | None
    message: Path | None
    status: Path | None
    remote_id: Path | None
    usage: Mapping[str, Path]


class Plan(NamedTuple):
    """Options that were read without a fault.

    Args:
        options: as they were given.
        body: makes what is sent.
        headers: make headers.
        paths: into answers.
        poll: makes the path of a question; None where there is none.
        cancel: makes the path of a cancellation; None for `endpoints.cancel`.
        cancel_body: makes what is sent with it.
        words: what a word of the server's means.
    """

    options: JsonOptions
    body: Template
    headers: Mapping[str, Template]
    paths: Paths
    poll: PathTemplate | None
    cancel: PathTemplate | None
    cancel_body: Template
    words: Mapping[str, str]


class PathTemplate:
    """A path below an origin, with placeholders that are quoted.

    Args:
        text: as its owner wrote it.
        field: for refusals.

    Raises:
        InvalidError: it is none that stays where it is.
    """

    def __init__(self, text: str, field: str) -> None:
        self._field = field
        plain = re.sub(r"\{\{.*?\}\}", "x", text)
        if _PATH.fullmatch(plain) is None or plain.startswith("//"):
            raise _invalid(field, "a path such as /tasks/{{remote_id}} was expected")
        self._parts = [
            (part, Template(part, field, LATER)) if "{{" in part else (part, None)
            for part in re.split(r"(\{\{.*?\}\})", text)
        ]
        self.made(_SAMPLE)

    def made(self, values: Mapping[str, str]) -> str:
        """The path, which no value can lead elsewhere.

        Raises:
            InvalidError: a value is missing, or would.
        """
        parts = []
        for text, template in self._parts:
            value = text if template is None else str(template.render(values))
            parts.append(value if template is None else quote(value, safe=""))
        path = "".join(parts)
        if any(part in (".", "..") for part in path.partition("?")[0].split("/")):
            raise _invalid(self._field, "a path without . and .. was expected")
        return path


def plan_of(options: JsonOptions) -> Plan:
    """What options say, once nothing in them is wrong.

    Raises:
        InvalidError: something is; it names the field.
    """
    words = _words(options)
    paths = _paths(options)
    plan = Plan(
        options=options, body=Template(options.body, "options.body", VALUES),
        headers={name: _header(name, value) for name, value in options.headers.items()}, paths=paths,
        poll=None if options.poll is None else PathTemplate(options.poll.path, "options.poll.path"),
        cancel=_cancel_path(options.cancel),
        cancel_body=Template(
            None if options.cancel is None else options.cancel.body, "options.cancel.body", LATER
        ),
        words=words,
    )  # fmt: skip
    _check_together(options)
    return plan


def _check_together(options: JsonOptions) -> None:
    if len(options.headers) > MAX_HEADERS or len({name.lower() for name in options.headers}) < len(
        options.headers
    ):
        raise _invalid("options.headers", f"at most {MAX_HEADERS} headers were expected, each once")
    if options.mode == "poll":
        if options.poll is None:
            raise _invalid("options.poll", "mode poll needs it")
        if options.remote_id is None and "remote_id" in options.poll.path:
            raise _invalid(
                "options.remote_id", "the path of the server's own id was expected, which poll.path has"
            )
        if options.status is None and not options.result:
            raise _invalid("options.status", "status or result was expected, to see the end of a task by")
    elif options.poll is not None:
        raise _invalid("options.poll", "only mode poll has it")
    if options.mode == "callback" and options.status is None and not options.result and options.error is None:
        raise _invalid("options.status", "status, result or error was expected, to see the end of a task by")


def _cancel_path(cancel: Cancel | None) -> PathTemplate | None:
    if cancel is None or cancel.path is None:
        return None
    return PathTemplate(cancel.path, "options.cancel.path")


def _header(name: str, value: str) -> Template:
    field = f"options.headers.{name[:64]}"
    if _HEADER.fullmatch(name) is None or name.lower() in OURS or name.lower() == "authorization":
        raise _invalid(field, "a header that may be set was expected; secrets belong in credentials")
    if _HEADER_VALUE.fullmatch(value) is None:
        raise _invalid(field, "visible ASCII was expected")
    return Template(value, field, VALUES)


def _paths(options: JsonOptions) -> Paths:
    def path(name: str, text: str | None) -> Path | None:
        try:
            return None if text is None else path_of(text)
        except ValueError as error:
            raise _invalid(f"options.{name}", str(error)) from None

    named: dict[str, Any] = {
        name: path(name, getattr(options, name)) for name in Paths._fields if name != "usage"
    }
    usage = {name: path(f"usage.{name}", text) or () for name, text in options.usage.items()}
    return Paths(**named, usage=usage)


def _words(options: JsonOptions) -> dict[str, str]:
    found: dict[str, str] = {}
    for meaning in ("running", "done", "failed", "stopped"):
        for word in getattr(options, meaning):
            known = found.setdefault(word.strip().lower(), meaning)
            if known != meaning:
                if _is_default(options, known):
                    found[word.strip().lower()] = meaning
                elif not _is_default(options, meaning):
                    raise _invalid(f"options.{meaning}", f"{word!r} is a word for {known} too")
    return found


def _is_default(options: JsonOptions, meaning: str) -> bool:
    default: Any = getattr(JsonOptions(), meaning)
    return bool(getattr(options, meaning) == default)


def _invalid(field: str, message: str) -> InvalidError:
    return InvalidError(f"{field}: {message}", field=field)
