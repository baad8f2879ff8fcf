"""Input files of jobs, for requests that carry them."""

from __future__ import annotations

from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.services.connectors.protocol import FatalError
from switchyard.services.files import FileInfo, Files


class InputFiles:
    """The files of one tenant.

    Args:
        files: those of all.
        tenant: whose are read.
    """

    def __init__(self, files: Files, tenant: str) -> None:
        self._files = files
        self._tenant = tenant

    async def read(self, file_id: str, most_bytes: int) -> tuple[FileInfo, bytes]:
        """A file, and all of its bytes.

        Raises:
            FatalError: code `unknown_file`, there is none; `file_too_large`, it has more bytes.
            UnavailableError: the broker does not answer.
        """
        try:
            info = await self._files.info(self._tenant, file_id)
            if info.size_bytes > most_bytes:
                message = f"{file_id} has {info.size_bytes} bytes, of which at most {most_bytes} are sent"
                raise FatalError("file_too_large", message)
            body = bytearray()
            async for chunk in self._files.read(info):
                body += chunk
        except (NotFoundError, InvalidError) as error:
            raise FatalError("unknown_file", f"there is no file {file_id[:80]!r}") from error
        return info, bytes(body)
