"""Which gateway, and with which token."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from switchyard.errors import ConfigurationError

DATA_DIR: Final = ".switchyard"
FILE: Final = "connection.json"


class Connection(NamedTuple):
    """A gateway's URL, without a slash at its end, and a token for it."""

    url: str
    token: str


def find(url: str | None, token: str | None, data_dir: Path | str | None) -> Connection:
    """What the arguments say, else SWITCHYARD_URL and SWITCHYARD_TOKEN, else `connection.json`.

    Args:
        url: that of the gateway.
        token: that of the caller.
        data_dir: where a `switchyard up` left its file; SWITCHYARD_DATA_DIR or `.switchyard` by default.

    Raises:
        ConfigurationError: none of them says it.
    """
    url = url or os.environ.get("SWITCHYARD_URL")
    token = token or os.environ.get("SWITCHYARD_TOKEN")
    directory = Path(data_dir or os.environ.get("SWITCHYARD_DATA_DIR") or DATA_DIR)
    if not url or not token:
        found = _read(directory / FILE)
        url, token = url or found.get("url"), token or found.get("token")
    if not url:
        raise ConfigurationError(
            f"no Switchyard is running on {directory}: start one with `switchyard up`, pass url and token, "
            "or set SWITCHYARD_URL and SWITCHYARD_TOKEN"
        )
    if not token:
        raise ConfigurationError(f"no token for {url}: pass one, or set SWITCHYARD_TOKEN")
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"{url} is not the URL of a gateway: http:// or https:// was expected")
    return Connection(url.rstrip("/"), token)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
