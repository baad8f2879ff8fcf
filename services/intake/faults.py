"""What is wrong with a request, from what the decoders of its body say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from pydantic_core import ErrorDetails

from switchyard.events.errors import InvalidError, RejectedError

SHOWN_ERRORS: Final = 5


class MalformedError(RejectedError):
    """The request's form is wrong: not JSON, an unknown query parameter."""

    status = 400
    code = "malformed"


def from_msgspec(error: Exception, *, within: str = "") -> RejectedError:
    """The error of a JSON body: 400 if it is no JSON, else 422 with the field's path.

    Args:
        error: what the decoder raised: a `msgspec.MsgspecError`, `UnicodeDecodeError` or `RecursionError`.
        within: the path of what was decoded, when that is a part of the request.
    """
    if isinstance(error, RecursionError):
        return InvalidError("the body is nested too deeply", code="nested_too_deeply", field=within or None)
    if isinstance(error, UnicodeDecodeError):
        return MalformedError("the body is not UTF-8", code="malformed_json")
    if not isinstance(error, msgspec.ValidationError):
        return MalformedError(f"the body is not JSON: {error}", code="malformed_json")
    rule, _, place = str(error).partition(" - at ")
    path = place.rpartition("`$")[2].rstrip("`").lstrip(".")
    for opening in ("Object missing required field `", "Object contains unknown field `"):
        if rule.startswith(opening):
            path = f"{path}.{rule[len(opening) : -1]}".lstrip(".")
            rule = "missing, but required" if "missing" in opening else "there is no such field"
    if place.startswith("`key`"):
        rule = f"a name in it breaks the rule: {rule}"
    field = ".".join(part for part in (within, path) if part)
    rule = rule[:1].lower() + rule[1:].replace("`", "")
    return InvalidError(f"{field or 'the body'}: {rule}", field=field or None)


def from_details(faults: Sequence[ErrorDetails], *, within: str) -> InvalidError:
    """The error of a part of the body that a pydantic model describes; names the first field at fault."""
    found = [(".".join([within, *(str(part) for part in fault["loc"])]), fault["msg"]) for fault in faults]
    message = "; ".join(f"{field}: {rule}" for field, rule in found[:SHOWN_ERRORS])
    return InvalidError(message, field=found[0][0])
