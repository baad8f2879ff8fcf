"""The pages in which a gateway answers lists."""

from __future__ import annotations

import msgspec

from switchyard.models import Event, File, Job


class JobPage(msgspec.Struct):
    """Jobs, and where the next page begins."""

    jobs: list[Job]
    cursor: str | None


class FilePage(msgspec.Struct):
    """Files, and where the next page begins."""

    files: list[File]
    cursor: str | None


class EventPage(msgspec.Struct):
    """Events, and the last of them where there are more."""

    events: list[Event]
    after: int | None
