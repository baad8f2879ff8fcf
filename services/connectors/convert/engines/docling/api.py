"""The routes of a docling-serve that are used. Source: docling-serve 1.38.2, whose answers were recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from switchyard.services.connectors.convert.engines.http import (
    Answered,
    Http,
    TooLargeError,
    again,
    opened,
    parsed,
)
from switchyard.services.connectors.convert.engines.protocol import AwayError, UnsuitedError
from switchyard.services.connectors.convert.section import DoclingSection

NAME: Final = "docling"
ENDED: Final = frozenset({"success", "partial_success", "failure", "skipped"})
LOST: Final = "(lost)"
BOOL: Final = {True: "true", False: "false"}


class Api(Http):
    """A client.

    Args:
        section: where the server is, and how patient to be.
        key: what it is asked with; "" for none.
    """

    def __init__(self, section: DoclingSection, key: str) -> None:
        headers = {"X-Api-Key": key} if key else {}
        super().__init__(NAME, section.url, headers=headers, key=key, answer_s=section.answer_s)
        self._section = section
        self._waits = True
        """Whether it has the routes that answer before the work is done."""

    async def convert(
        self, path: Path, *, name: str, media_type: str, options: Mapping[str, Any], to: Path
    ) -> None:
        """Have a file converted, and write the answer to another.

        Raises:
            AwayError, HeldError, FatalError: see `Http.judge`.
            UnsuitedError: code `output_too_large`.
        """
        try:
            if self._waits:
                with opened(path) as file:
                    form = _form(file, name, media_type, options)
                    answer = await self.ask("POST", "/v1/convert/file/async", data=form)
                if answer.status not in (404, 405):
                    self.judge(answer)
                    await self._result(parsed(answer), to)
                    return
                self._waits = False
            with opened(path) as file:
                form = _form(file, name, media_type, options)
                answer = await self.download(
                    "POST", "/v1/convert/file", to=to, most_bytes=self._section.answer_bytes, data=form
                )
            self.judge(answer)
        except TooLargeError:
            most = self._section.answer_bytes
            raise UnsuitedError(
                "output_too_large", f"the answer of {NAME} has more than {most} bytes"
            ) from None

    async def _result(self, task: dict[str, Any], to: Path) -> None:
        """Wait for the end of a task, and fetch its result once."""
        task_id = task.get("task_id")
        if not isinstance(task_id, str) or not 0 < len(task_id) <= 200:
            raise AwayError("its answer has no task_id")
        where = quote(task_id, safe="")
        while (status := task.get("task_status")) not in ENDED:
            if not isinstance(status, str):
                raise AwayError("its answer has no task_status")
            if status == LOST:
                raise AwayError("it does not know the task any more")
            await asyncio.sleep(self._section.poll_s)
            task = await self._again(partial(self._task, where))
        said = task.get("error_message")
        why = self.shown(said) if isinstance(said, str) and said else "without a reason"
        if status == "failure":  # of the task: a document that cannot be read is a result
            raise AwayError(models_lacking(why) or f"its task has failed: {why}")
        if not await self._again(partial(self._fetched, where, to)):
            raise AwayError("it has no result of the task any more")

    async def _again(self, call: Callable[[], Awaitable[Answered]]) -> Answered:
        """Ask until there is an answer: a task goes on though nobody looks at it."""
        return await again(call, pause_s=self._section.retry_s, wait_s=self._section.wait_s)

    async def _task(self, where: str) -> dict[str, Any]:
        """A task as it stands; a state that is none where it is not known."""
        answer = await self.ask("GET", f"/v1/status/poll/{where}")
        if answer.status == 404:
            return {"task_status": LOST}
        self.judge(answer)
        return parsed(answer)

    async def _fetched(self, where: str, to: Path) -> bool:
        """Fetch a result; whether there is one."""
        answer = await self.download(
            "GET", f"/v1/result/{where}", to=to, most_bytes=self._section.answer_bytes
        )
        if answer.status == 404:
            return False
        self.judge(answer)
        return True


def _form(file: Any, name: str, media_type: str, options: Mapping[str, Any]) -> aiohttp.FormData:
    form = aiohttp.FormData()
    form.add_field("target_type", "inbody")
    for option, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            form.add_field(option, BOOL[one] if isinstance(one, bool) else str(one))
    form.add_field("files", file, filename=name, content_type=media_type)
    return form


LACKING: Final = (
    "layout model", "docling-layout", "safetensors", "safe tensors", "huggingface", "hf_hub",
    "artifacts_path", "localentrynotfound", "cached snapshot",
)  # fmt: skip
"""Words of errors that a server makes of every document while it has no models."""


def models_lacking(why: str) -> str:
    """That a server has no models, where an error of it reads so; "" for any other."""
    if any(word in why.lower() for word in LACKING):
        return f"the docling-serve has no layout model, without which it converts nothing: {why}"
    return ""
