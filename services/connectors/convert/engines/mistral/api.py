"""The routes of Mistral's API that are used: files and OCR.

Source: the API's reference, and what the client `mistralai` 3.7.0 sends and takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import aiohttp
import structlog

from switchyard.services.connectors.convert.engines.http import Answer, Http, opened, parsed
from switchyard.services.connectors.convert.engines.protocol import AwayError, HeldError
from switchyard.services.connectors.convert.section import MistralSection
from switchyard.services.connectors.protocol import FatalError

log = structlog.get_logger()

NAME: Final = "mistral"
OCR: Final = "/v1/ocr"
URL_HOURS: Final = 24
DELETE_S: Final = 30.0
PART_OF_GRACE: Final = 0.3
"""What is over before an attempt is asked a second time to stop, which would end the removal."""
INVALID_MODEL: Final = "invalid_model"
"""The type of an error that says nothing about a document."""


class Api(Http):
    """A client.

    Args:
        section: where the API is, and how patient to be.
        key: what it is asked with.
    """

    def __init__(self, section: MistralSection, key: str) -> None:
        super().__init__(
            NAME, section.url, headers={"Authorization": f"Bearer {key}"}, key=key, answer_s=section.answer_s
        )

    def judge(self, answer: Answer) -> None:
        """As `Http.judge`; a model that there is not is no fault of a document."""
        if answer.status in (400, 422) and INVALID_MODEL in answer.body.decode(errors="replace"):
            raise AwayError("it has no such model", for_long=True)
        super().judge(answer)

    async def upload(self, path: Path, *, name: str, purpose: str, media_type: str) -> str:
        """Store a file there; its id. It is read while it is sent.

        Raises:
            AwayError, HeldError, FatalError: see `Http.judge`.
        """
        with opened(path) as file:
            form = aiohttp.FormData()
            form.add_field("purpose", purpose)
            form.add_field("file", file, filename=name, content_type=media_type)
            answer = await self.ask("POST", "/v1/files", data=form)
        self.judge(answer)
        return _text(parsed(answer), "id")

    async def address(self, file_id: str) -> str:
        """A signed address of a file, for the API itself.

        Raises:
            AwayError, HeldError, FatalError: see `Http.judge`.
        """
        answer = await self.ask("GET", f"/v1/files/{quote(file_id, safe='')}/url?expiry={URL_HOURS}")
        if answer.status == 404:
            raise AwayError("it does not know a file that it has just stored")
        self.judge(answer)
        url = _text(parsed(answer), "url")
        if urlsplit(url).scheme not in ("http", "https"):
            raise AwayError("it gives no address for a file")
        return url

    async def delete(self, file_id: str) -> None:
        """Remove a file there.

        Raises:
            AwayError, HeldError, FatalError: see `Http.judge`.
        """
        answer = await self.ask("DELETE", f"/v1/files/{quote(file_id, safe='')}")
        if answer.status != 404:
            self.judge(answer)

    @asynccontextmanager
    async def stored(self, path: Path, *, name: str, media_type: str, grace_s: float) -> AsyncIterator[str]:
        """A file that is there within the block, by its address; it is removed however the block ends.

        Args:
            path: what to store.
            name: what to call it.
            media_type: its type.
            grace_s: seconds that a cancelled attempt has; its removal takes a part of them.

        Raises:
            AwayError, HeldError, FatalError: see `Http.judge`.
        """
        file_id = await self.upload(path, name=name, purpose="ocr", media_type=media_type)
        limit_s = DELETE_S
        try:
            yield await self.address(file_id)
        except asyncio.CancelledError:
            limit_s = grace_s * PART_OF_GRACE
            raise
        finally:
            await self._delete_within(limit_s, file_id)

    async def _delete_within(self, limit_s: float, file_id: str) -> None:
        error: BaseException | None = None
        try:
            async with asyncio.timeout(limit_s):
                await self.delete(file_id)
        except (AwayError, HeldError, FatalError, TimeoutError) as raised:
            error = raised
        except asyncio.CancelledError as raised:  # it is hurried
            error = raised
            raise
        finally:
            if error is not None:
                log.warning("mistral_file_left", file=file_id[:100], error=str(error) or type(error).__name__)


def _text(said: dict[str, Any], name: str) -> str:
    found = said.get(name)
    if not isinstance(found, str) or not found or len(found) > 8_192:
        raise AwayError(f"its answer has no {name}")
    return found
