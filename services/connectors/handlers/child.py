"""The child's side of a handler with `process=True`."""

from __future__ import annotations

import base64
import os
import secrets
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson

from switchyard._client.load import load
from switchyard._worker.context import SyncContext
from switchyard._worker.given.errors import FatalError, RetryableError
from switchyard._worker.given.surroundings import Facts
from switchyard._worker.handler_errors import Cancelled, Fatal, HandlerError, Release, Retry
from switchyard._worker.previews import TOO_LARGE, Previews, scaled
from switchyard._worker.ready import SETUP_FAILED
from switchyard._worker.run import finished
from switchyard._worker.traceback import text_of
from switchyard.events.encoding.json_written import type_name
from switchyard.events.encoding.preview import Preview
from switchyard.services.connectors.handlers.connector import connector_error
from switchyard.services.connectors.isolation.child import NO_CONTEXT

ERRORS: Final[dict[str, type[HandlerError]]] = {kind.__name__: kind for kind in (Fatal, Release, Retry)}

Report = Callable[[dict[str, Any]], None]


class _Surroundings:
    """What a handler asks for is asked of the worker; a cancelled one is killed, and needs no notice."""

    cancelled = False

    def __init__(self, arguments: dict[str, Any], report: Report) -> None:
        self.facts = Facts(*arguments["facts"])
        self.scratch = Path(arguments["scratch"])
        self._report = report
        self._owner = os.getpid()
        self._address: str = arguments["address"]
        self._previews = Previews(self._show, self._drop)
        self._dropped: Counter[str] = Counter()

    def progress(self, fraction: float, *, stage: str, message: str, eta_s: float | None) -> None:
        self._report({"fraction": fraction, "stage": stage, "message": message, "eta_s": eta_s})

    def log(self, line: str) -> None:
        self._report({"log": line})

    def preview(self, data: bytes, media_type: str) -> None:
        """Only what can be sent goes to the worker, which has other jobs; it is made smaller here."""
        self._previews.take(data, media_type)

    def _show(self, preview: Preview) -> None:
        small = scaled(preview)
        if small is None:
            self._dropped[TOO_LARGE] += 1
            return
        data = base64.b64encode(small.data).decode()
        self._report({"preview": data, "media_type": small.media_type})

    def _drop(self, why: str) -> None:
        self._dropped[why] += 1

    def close(self) -> None:
        """Report how many previews were dropped."""
        for why, count in self._dropped.items():
            self._report({"dropped": why, "count": count})
        self._dropped.clear()

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

    def outcome(self, part_id: str) -> dict[str, Any]:
        return self._call({"outcome": part_id})

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask on a connection of this request's own: no answer can be taken for another's."""
        if os.getpid() != self._owner:
            raise RuntimeError(NO_CONTEXT)
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(self._address)
            asking.sendall(orjson.dumps(request) + b"\n")
            with asking.makefile("rb") as answers:
                answer = orjson.loads(answers.readline())
        if "error" in answer:
            error = answer["error"]
            raise ERRORS[error["kind"]](error["message"], code=error["code"])
        done: dict[str, Any] = answer["done"]
        return done


def prepare(arguments: dict[str, Any]) -> None:
    """Import the handlers and do what the one has to do once in a process."""
    handler = load(arguments["handlers"])[arguments["kind"]]
    if handler.setup is None:
        return
    try:
        handler.setup()
    except Exception as error:
        message = f"{type_name(error)}: {text_of(error)}"
        raise RetryableError(SETUP_FAILED, message) from error


def end(arguments: dict[str, Any], _: Report) -> None:
    """Do what the handler has to do at the end of a process."""
    handler = load(arguments["handlers"])[arguments["kind"]]
    if handler.teardown is not None:
        handler.teardown()


def run(arguments: dict[str, Any], report: Report) -> dict[str, Any]:
    """Run one attempt of a handler that a module of the user's registers."""
    handler = load(arguments["handlers"])[arguments["kind"]]
    surroundings = _Surroundings(arguments, report)
    context = SyncContext(surroundings)
    try:
        value = handler.call(handler.parse(arguments["payload"]), context)
        done = finished(value, context)
    except HandlerError as error:
        raise connector_error(error) from error
    except Cancelled as error:
        raise FatalError("stopped", "the handler stopped by itself") from error
    finally:
        context.end()
        surroundings.close()
    join = None if done.join is None else {"policy": done.join.policy, "parts": list(done.join.parts)}
    return {
        "join": join, "result": done.result,
        "artifacts": list(done.artifacts), "usage": done.usage, "checks": done.checks,
    }  # fmt: skip
