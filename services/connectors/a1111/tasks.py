"""How the work of a server stands: the one task that it does, those that wait, and the progress of ours.

The id of a task is made of job and attempt, so that whoever comes later finds it again. A server says by
itself of no task whose it is: it is asked for each id. What it says of a task that has failed is not to be
relied on: it may stay `active` or `queued` for ever, so a task runs only while the server is at work at all.
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any, Final, NamedTuple

from switchyard.services.connectors.a1111.api import INTERRUPT, PENDING, PROGRESS, TASK, Api
from switchyard.services.connectors.comfyui.api import parsed

TEXT_CHARS: Final = 200
PREVIEW_CHARS: Final = 16 * 1024**2
NO_PREVIEW: Final = -1
MARK: Final = "task(switchyard-"


def task_id_of(job_id: str, number: int) -> str:
    """What the server calls an attempt's task; of the form that its own ids have."""
    return f"{MARK}{job_id}-{number})"


class State(NamedTuple):
    """What the server as a whole is at.

    Args:
        busy: whether it is at work.
        fraction: how far that is, 0 to 1.
        eta_s: seconds left; None where it does not say.
        steps: what changes while it gets on.
        interrupted: whether its work was interrupted.
    """

    busy: bool
    fraction: float
    eta_s: float | None
    steps: tuple[Any, ...]
    interrupted: bool


class Standing(NamedTuple):
    """What the server says of one task.

    Args:
        active: whether it is the current one.
        queued: whether it waits.
        known: whether it is either, or has ended.
        fraction, eta_s, text: as of the current task.
        preview: its image so far, with its media type.
        preview_id: that of the image.
    """

    active: bool
    queued: bool
    known: bool
    fraction: float
    eta_s: float | None
    text: str
    preview: tuple[bytes, str] | None
    preview_id: int


class Tasks:
    """The tasks of one server.

    Args:
        api: that of the server.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self.knows_ids = False
        """Whether the server has been seen to know a task by the id that it was given."""

    async def state(self) -> State:
        """What the server is at.

        Raises:
            AwayError: it does not answer.
        """
        said = _mapping(await self._api.get(PROGRESS))
        state = _mapping(said.get("state"))
        job, count = state.get("job"), state.get("job_count")
        busy = bool(job) or (isinstance(count, int) and count != 0)
        steps = tuple(
            state.get(name) if isinstance(state.get(name), str | int) else None
            for name in ("job", "job_count", "job_no", "job_timestamp", "sampling_step", "sampling_steps")
        )
        return State(
            busy, _fraction(said.get("progress")), _seconds(said.get("eta_relative")), steps,
            state.get("interrupted") is True,
        )  # fmt: skip

    async def look(self, task_id: str, preview_id: int = NO_PREVIEW, *, preview: bool = False) -> Standing:
        """How a task stands; `preview_id` is the preview that is there already.

        Raises:
            AwayError: it does not answer.
        """
        body = {"id_task": task_id, "id_live_preview": preview_id, "live_preview": preview}
        said = _mapping(await self._api.post(TASK, body))
        active, queued = said.get("active") is True, said.get("queued") is True
        known = active or queued or said.get("completed") is True
        self.knows_ids = self.knows_ids or known
        number, text = said.get("id_live_preview"), said.get("textinfo")
        return Standing(
            active, queued, known, _fraction(said.get("progress")), _seconds(said.get("eta")),
            text[:TEXT_CHARS] if isinstance(text, str) else "",
            _image(said.get("live_preview")) if preview else None,
            number if isinstance(number, int) else NO_PREVIEW,
        )  # fmt: skip

    async def runs(self, task_id: str) -> bool:
        """Whether a task is at work, or about to be.

        Raises:
            AwayError: it does not answer.
        """
        standing = await self.look(task_id)
        return (standing.active or standing.queued) and (await self.state()).busy

    async def interrupt(self, task_id: str) -> bool:
        """Have a task end now, if it is the one that the server does; whether it was.

        Raises:
            AwayError: it does not answer.
        """
        if not (await self.state()).busy or not (await self.look(task_id)).active:
            return False
        await self._api.post(INTERRUPT, {})
        return True

    async def interrupt_whatever_runs(self) -> None:
        """Have the server end what it does, whosever that is.

        Raises:
            AwayError: it does not answer.
        """
        await self._api.post(INTERRUPT, {})

    async def others(self, ours: set[str]) -> int:
        """How many tasks wait there that are none of ours; 0 where the server has no such list.

        Raises:
            AwayError: it does not answer.
        """
        status, body = await self._api.ask("GET", PENDING)
        if status != 200:
            return 0
        tasks = _mapping(await parsed(body)).get("tasks")
        names = {name for name in tasks if isinstance(name, str)} if isinstance(tasks, list) else set()
        return len({name for name in names - ours if not name.startswith(MARK)})


def _image(value: Any) -> tuple[bytes, str] | None:
    """The image of a `data:` URI."""
    if not isinstance(value, str) or not value.startswith("data:image/") or len(value) > PREVIEW_CHARS:
        return None
    head, _, body = value.partition(",")
    media_type, _, coding = head.removeprefix("data:").partition(";")
    if coding != "base64":
        return None
    try:
        return base64.b64decode(body, validate=True), media_type
    except (binascii.Error, ValueError):
        return None


def _fraction(value: Any) -> float:
    return min(1.0, max(0.0, float(value))) if _is_number(value) else 0.0


def _seconds(value: Any) -> float | None:
    return float(value) if _is_number(value) and value > 0 else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
