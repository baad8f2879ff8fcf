"""What of a value of settings may be shown, and which keys are too easy to guess."""

from __future__ import annotations

import re
from typing import Any, Final

import pydantic

from switchyard.services.visible import redacted

SECRET: Final = frozenset({
    "nats_url", "connectors", "octopoid_admin_key", "task_jwt_secret", "emp_token", "ilios_keys",
    "broker_key",
    "s3_access_key_id",
    "s3_secret_access_key", "s3_session_token", "s3_endpoint", "s3_public_endpoint",
})  # fmt: skip
"""Settings that may hold a secret: their values are in no message, and shown with `***` for what is secret."""
MASK: Final = "***"
SHORTEST: Final = 16
FEWEST: Final = 6
_KEYS: Final = re.compile(
    r"(?i)pass(word|wd|phrase|code)?$|passw|secret|token|credential|auth|bearer|cookie|private|signature"
    r"|(^|[_-])(pwd|pin|key)s?$|api-?key|accesskey"
)
"""Names under which a secret may stand in a connector's table."""
_NEXT_URL: Final = re.compile(r",(?=\s*[A-Za-z][A-Za-z0-9+.-]*://)")
_QUERY: Final = re.compile(r"(?P<name>[?&;][^?=&;#]*=)[^&;#]*")


def masked(name: str, value: Any) -> Any:
    """The value of a setting as it may be shown."""
    if value is None or name not in SECRET:
        return value
    return _hidden(value)


def without_password(url: str) -> str:
    """One or more URLs, between commas, with `***` for user, password and what a query says.

    A password that holds a comma, a slash or an `@` is hidden too.
    """
    return ",".join(_without_password(part) for part in _NEXT_URL.split(url))


def _without_password(url: str) -> str:
    before, at, host = url.rpartition("@")
    if at:
        scheme, colon, _ = before.partition("://")
        url = f"{scheme}://{MASK}@{host}" if colon else f"{MASK}@{host}"
    return _QUERY.sub(rf"\g<name>{MASK}", url)


def _hidden(value: Any) -> Any:
    match value:
        case dict():
            return {key: MASK if _KEYS.search(str(key)) else _hidden(one) for key, one in value.items()}
        case list() | tuple():
            return [_hidden(one) for one in value]
        case pydantic.SecretStr():
            return MASK
        case str() if "@" in value or "://" in value:
            return redacted(without_password(value))
        case str():
            return redacted(value)
        case _:
            return value


def weakness_of(key: str) -> str | None:
    """Why a key is too easy to guess to be used; None for one that is not."""
    if len(key) < SHORTEST:
        return f"it has fewer than {SHORTEST} characters"
    if len(set(key)) < FEWEST:
        return f"it is made of fewer than {FEWEST} different characters"
    return None
