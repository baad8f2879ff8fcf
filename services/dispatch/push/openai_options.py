"""The options of a server of profile `openai`, and what a job asks of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
import orjson
from yarl import URL

from switchyard.events.errors import InvalidError

Sort = Literal["chat", "embeddings", "images"]
PATHS: Final[dict[Sort, str]] = {
    "chat": "chat/completions", "embeddings": "embeddings", "images": "images/generations",
}  # fmt: skip
MODEL_CHARS: Final = 200


class OpenAIOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a server is used.

    Args:
        endpoints: which endpoint serves the jobs of a kind; a kind that is not named here is `chat`,
            `embeddings` or `images`, or ends so, as `gpt-chat` does.
        stream: whether chats are streamed from the server.
        include_usage: whether the usage is asked for in a stream; some servers refuse that.
        model: sent where a payload names none.
    """

    endpoints: dict[str, Sort] = {}
    stream: bool = True
    include_usage: bool = True
    model: str | None = None


def check(options: OpenAIOptions, kinds: Sequence[str]) -> None:
    """Refuse options that break a rule which the types do not say.

    Raises:
        InvalidError: a part does, or a kind has no endpoint; it names the field.
    """
    for kind in options.endpoints:
        if kind not in kinds:
            raise _invalid("endpoints", f"{kind!r} is none of the server's kinds")
    if options.model is not None and not 1 <= len(options.model) <= MODEL_CHARS:
        raise _invalid("model", f"1 to {MODEL_CHARS} characters were expected")
    for kind in kinds:
        if sort_of(options, kind) is None:
            expected = "chat, embeddings or images was expected for kind"
            raise _invalid("endpoints", f"{expected} {kind!r}, which does not end in one of these")


def _invalid(name: str, message: str) -> InvalidError:
    return InvalidError(f"options.{name}: {message}", field=f"options.{name}")


def sort_of(options: OpenAIOptions, kind: str) -> Sort | None:
    """The endpoint that serves a kind; None where it does not say."""
    last = re.split("[-_]", kind)[-1]
    return options.endpoints.get(kind) or next((sort for sort in PATHS if sort == last), None)


def url_of(base: str, path: str) -> str:
    """A path below the URL that stands for the API, whose query stays: `https://host/v1?api-version=2`."""
    url = URL(base)
    return str(url.with_path(f"{url.raw_path.rstrip('/')}/{path}", encoded=True, keep_query=True))


class Asked(msgspec.Struct, frozen=True):
    """A request.

    Args:
        sort: which endpoint it is for.
        body: JSON.
        stream: whether the answer comes as a stream of events.
    """

    sort: Sort
    body: bytes
    stream: bool


def asked_of(options: OpenAIOptions, kind: str, payload: dict[str, Any]) -> Asked:
    """What a job asks. Its payload is the body, except for how the answer comes.

    Raises:
        InvalidError: the kind has no endpoint, or a part of the payload cannot be served; it names it.
    """
    sort = sort_of(options, kind)
    if sort is None:
        raise InvalidError(f"kind {kind!r} has no endpoint in the server's options", field="kind")
    body = {name: value for name, value in payload.items() if name not in ("stream", "stream_options")}
    if options.model is not None:
        body.setdefault("model", options.model)
    if sort == "images" and body.get("partial_images"):
        raise InvalidError("payload.partial_images: images come whole", field="payload.partial_images")
    stream = sort == "chat" and options.stream
    if stream:
        body["stream"] = True
        if options.include_usage:
            body["stream_options"] = {"include_usage": True}
    return Asked(sort, orjson.dumps(body), stream)
