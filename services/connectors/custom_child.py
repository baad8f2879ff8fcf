"""The child's side of a handler with `process=True`."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson

from services.connectors.custom import connector_error
from services.connectors.protocol import FatalError
from switchyard._context import Facts, SyncContext
from switchyard._handler_errors import Cancelled, Fatal, HandlerError, Release, Retry
from switchyard._load import load
from switchyard._run import finished

ERRORS: Final[dict[str, type[HandlerError]]] = {kind.__name__: kind for kind in (Fatal, Release, Retry)}

Report = Callable[[dict[str, Any]], None]


class _Surroundings:
    """What a handler asks for is asked of the worker; a cancelled one is killed, so it need not be told."""

    cancelled = False

    def __init__(self, arguments: dict[str, Any], report: Report) -> None:
        self.facts = Facts(*arguments["facts"])
        self.scratch = Path(arguments["scratch"])
        self._report = report
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(arguments["address"])
        self._answers = self._socket.makefile("rb")

    def close(self) -> None:
        self._answers.close()
        self._socket.close()

    def progress(self, fraction: float, *, stage: str, message: str, eta_s: float | None) -> None:
        self._report({"fraction": fraction, "stage": stage, "message": message, "eta_s": eta_s})

    def log(self, line: str) -> None:
        self._report({"log": line})

    def fetch(self, file_id: str, to: Path) -> dict[str, Any]:
        return self._call({"fetch": file_id, "to": str(to)})

    def save(self, name: str, data: Path | bytes, *, media_type: str) -> dict[str, Any]:
        if isinstance(data, Path):
            return self._call({"save": name, "path": str(data.absolute()), "media_type": media_type})
        path = self.scratch / f".save-{secrets.token_hex(8)}"
        try:
            path.write_bytes(data)
            return self._call({"save": name, "path": str(path), "media_type": media_type})
        finally:
            path.unlink(missing_ok=True)

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        self._socket.sendall(orjson.dumps(request) + b"\n")
        answer = orjson.loads(self._answers.readline())
        if "error" in answer:
            told = answer["error"]
            raise ERRORS[told["kind"]](told["message"], code=told["code"])
        done: dict[str, Any] = answer["done"]
        return done


def run(arguments: dict[str, Any], report: Report) -> dict[str, Any]:
    """Run one attempt of a handler that a module of the user's registers."""
    handler = load(arguments["handlers"])[arguments["kind"]]
    surroundings = _Surroundings(arguments, report)
    try:
        context = SyncContext(surroundings)
        value = handler.call(handler.parse(arguments["payload"]), context)
        done = finished(value, context)
    except HandlerError as error:
        raise connector_error(error) from error
    except Cancelled as error:
        raise FatalError("stopped", "the handler stopped by itself") from error
    finally:
        surroundings.close()
    return {
        "result": done.result, "artifacts": list(done.artifacts), "usage": done.usage, "checks": done.checks,
    }  # fmt: skip
