"""`connection.json` in the data directory: how commands find a running Switchyard."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pydantic

FILE_NAME = "connection.json"


class ConnectionInfo(pydantic.BaseModel):
    """How to reach a running Switchyard; the file has mode 0600, for it holds a token and a password.

    Args:
        url: of the gateway.
        token: of an admin.
        nats_url: of the broker, with credentials.
        pids: process ids by part.
    """

    model_config = pydantic.ConfigDict(frozen=True)

    url: str
    token: str
    nats_url: str
    pids: dict[str, int]


def write(data_dir: Path, info: ConnectionInfo) -> None:
    """Write the file at once and whole."""
    path = data_dir / FILE_NAME
    draft = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(info.model_dump_json(indent=2) + "\n")
    draft.replace(path)


def read(data_dir: Path) -> ConnectionInfo | None:
    """The file's content; None when it is not there or is none of ours."""
    try:
        content: dict[str, Any] = json.loads((data_dir / FILE_NAME).read_text())
        return ConnectionInfo.model_validate(content)
    except (OSError, ValueError):
        return None


def remove(data_dir: Path) -> None:
    """Delete the file."""
    (data_dir / FILE_NAME).unlink(missing_ok=True)
