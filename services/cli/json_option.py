"""Options whose value is JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from switchyard.events.errors import InvalidError


def json_of(text: str, option: str) -> Any:
    """What an option's text says as JSON.

    Raises:
        ValueError: it is no JSON.
        click.BadParameter: it is, but no gateway would take it; the message names the part.
    """
    import msgspec  # noqa: PLC0415 - takes long to import

    from switchyard.events.encoding.json_bytes import check_bytes, refuse_fault  # noqa: PLC0415

    body = text.encode(errors="surrogateescape")
    name = option.lstrip("-")
    try:
        try:
            value = msgspec.json.decode(body)
        except (msgspec.MsgspecError, RecursionError):
            refuse_fault(body, name)
            raise
        check_bytes(body, name)
    except InvalidError as error:
        raise click.BadParameter(error.message, param_hint=option) from None
    except RecursionError:
        raise click.BadParameter("is nested too deeply", param_hint=option) from None
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    return value


def object_of(text: str | None, option: str = "--payload") -> dict[str, Any]:
    """An object given as JSON, or as the name of a file that holds it; {} for none."""
    if text is None:
        return {}
    try:
        if text.startswith("@"):
            text = Path(text[1:]).read_bytes().decode(errors="surrogateescape")
        value = json_of(text, option)
    except OSError as error:
        raise click.BadParameter(str(error), param_hint=option) from None
    except ValueError as error:
        raise click.BadParameter(f"is not JSON: {error}", param_hint=option) from None
    if not isinstance(value, dict):
        raise click.BadParameter("must be a JSON object", param_hint=option)
    return value
