"""Finds chunks that may belong to no file: what a crash in the middle of an upload or a deletion leaves."""

from __future__ import annotations

import uuid
from typing import Any, Final

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.services import clock
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.quarantine import readable
from switchyard.services.broker.reader import PAGE, Stored, read_range
from switchyard.services.files.info import nuid_of

UUID_VERSION: Final = 7


class Sweeper:
    """Remembers which chunks are whose, so that a sweep reads only what was written since the last one.

    Args:
        nc: an open connection.
        timeout_s: seconds to wait for any answer of the broker.
    """

    def __init__(self, nc: Client, *, timeout_s: float) -> None:
        self._nc = nc
        self._timeout_s = timeout_s
        self._stream = ""
        self._next_seq = 1
        self._nuids: dict[str, str] = {}  # of the file under each meta subject

    async def candidates(self, *, older_than_s: float) -> list[str]:
        """The nuids of uploads that seem to belong to no file; each is to be looked up before it is removed.

        Args:
            older_than_s: seconds since an upload began; it must be longer than one can last. Younger ones may
                be on their way and are left alone, and so are objects that somebody else stored.

        Raises:
            UnavailableError: the broker does not answer.
        """
        # Chunks first: a file completed in between is then found among the metas.
        old = [nuid for nuid in await self._uploads() if _age_s(nuid) > older_than_s]
        await self._read_metas()
        owned = set(self._nuids.values())
        return [nuid for nuid in old if nuid not in owned]

    async def _uploads(self) -> list[str]:
        """The nuid of every subject that holds chunks."""
        prefix = subjects.ALL_FILE_CHUNKS.removesuffix(">")
        found: list[str] = []
        while True:
            state = await self._state({"subjects_filter": subjects.ALL_FILE_CHUNKS, "offset": len(found)})
            page = [subject.removeprefix(prefix) for subject in state.get("subjects") or ()]
            found += page
            if not page:
                break
        present = set(found)
        self._nuids = {meta: nuid for meta, nuid in self._nuids.items() if nuid in present}
        return found

    async def _read_metas(self) -> None:
        while True:
            metas = await read_range(
                self._nc,
                subjects.FILES,
                subjects.ALL_FILE_METAS,
                start=self._next_seq,
                limit=PAGE,
                timeout_s=self._timeout_s,
            )
            # A meta that cannot be read leaves the chunks of the one before it alone.
            async for subject, nuid in readable(self._nc, subjects.FILES, metas, _owner):
                if nuid is None:
                    self._nuids.pop(subject, None)
                else:
                    self._nuids[subject] = nuid
            if metas:
                self._next_seq = metas[-1].seq + 1
            if len(metas) < PAGE:
                return

    async def _state(self, query: dict[str, Any]) -> dict[str, Any]:
        answer = await api(self._nc, f"STREAM.INFO.{subjects.FILES}", query, timeout_s=self._timeout_s)
        if "error" in answer:
            raise UnavailableError(f"the broker does not list the files: {answer['error']['description']}")
        state: dict[str, Any] = answer["state"]
        if self._stream != answer["created"] or state["last_seq"] < self._next_seq - 1:
            # Another stream: what was remembered would make all of its files orphans.
            self._stream, self._next_seq, self._nuids = answer["created"], 1, {}
        return state


def _owner(meta: Stored) -> tuple[str, str | None]:
    """The subject of a meta, and which chunks it names."""
    return meta.subject, nuid_of(meta.data)


def _age_s(nuid: str) -> float:
    """Seconds since an upload began, from the time in its UUID; 0 for what is not one of ours."""
    try:
        value = uuid.UUID(nuid)
    except ValueError:
        return 0.0
    if value.version != UUID_VERSION:
        return 0.0
    return clock.time_s() - (value.int >> 80) / 1000
