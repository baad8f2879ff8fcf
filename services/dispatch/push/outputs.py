"""Files within what servers answer: as `data:` URIs, which become artifacts, or as URLs. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import mimetypes
import re
from typing import Any, Final

from switchyard.events.vocabulary.ids import Fence, JobId
from switchyard.services.dispatch.push.report import Link, OutputFile
from switchyard.services.files import artifact_id

MOST: Final = 50
"""Files of one result; further ones stay in it as they came."""
OCTETS: Final = "application/octet-stream"
_DATA: Final = re.compile(
    r"data:(?P<type>[a-z0-9][a-z0-9.+-]{0,60}/[a-z0-9][a-z0-9.+-]{0,80})?"
    r"(?:;[a-z-]{1,40}=[A-Za-z0-9._-]{1,80}){0,4};base64,",
    re.IGNORECASE,
)


_LINK: Final = re.compile(r"https?://\S{1,2040}", re.IGNORECASE)

Place = tuple[str | int, ...]


class Outputs:
    """Takes the files of one result out of it.

    Args:
        job: the job.
        fence: that of the attempt; the ids of its artifacts are made of both.
    """

    def __init__(self, job: JobId, fence: Fence) -> None:
        self._job = job
        self._fence = fence
        self.files: list[OutputFile] = []
        self.links: list[Link] = []

    @property
    def _count(self) -> int:
        return len(self.files) + len(self.links)

    def without_files(self, value: Any, place: Place = ()) -> Any:
        """A JSON value with references to artifacts in the place of `data:` URIs; URLs are noted and stay.

        Args:
            value: what a result has at the place.
            place: the keys and indexes that lead there.
        """
        match value:
            case str():
                return self._text(value, place)
            case list():
                return [self.without_files(one, (*place, index)) for index, one in enumerate(value)]
            case dict():
                return {name: self.without_files(one, (*place, name)) for name, one in value.items()}
            case _:
                return value

    def _text(self, text: str, place: Place) -> Any:
        if self._count >= MOST:
            return text
        if _LINK.fullmatch(text):
            self.links.append(Link(place, text, self._count))
            return text
        found = _DATA.match(text)
        if found is None:
            return text
        try:
            data = base64.b64decode(text[found.end() :], validate=True)
        except (binascii.Error, ValueError):
            return text
        return self.add((found["type"] or OCTETS).lower(), data)

    def add(self, media_type: str, data: bytes) -> dict[str, Any]:
        """A reference to a file that is stored as an artifact."""
        ending = mimetypes.guess_extension(media_type) or ".bin"
        name = f"output-{self._count}{ending}"
        self.files.append(OutputFile(name, media_type, data))
        return {
            "file": artifact_id(self._job, self._fence, name), "name": name, "type": media_type,
            "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(),
        }  # fmt: skip
